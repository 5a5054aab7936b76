"""Many runs of one trace: on this machine or a Ray cluster, kept in a file while they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from prefixsim.own_policies import Policy
from prefixsim.study.cluster import run_on
from prefixsim.study.results_file import ResultsFile

__all__ = ["Grid", "key_of"]

R = TypeVar("R")
S = TypeVar("S")
Task = TypeVar("Task")


@dataclass(frozen=True)
class Grid(Generic[S, Task, R]):
    """Runs to be made.

    Attributes
    ----------
    kind : str
        ``sweep``, ``compare`` or ``fleet``.
    shared : object
        What all runs need.
    tasks : sequence
    key : callable
        A text for a task that no other task has, the same every time; ``None``: its result is not
        kept.
    work : callable
        ``work(shared, tasks)`` yields the number among its tasks and the result of each, in any
        order; a function of a module.
    kept : callable
        A result as JSON with arrays.
    found : callable
        The result of that.
    alone : bool
        Each run is long.
    """

    kind: str
    shared: S
    tasks: Sequence[Task]
    key: Callable[[Task], str | None]
    work: Callable[[S, Sequence[Task]], Iterator[tuple[int, R]]]
    kept: Callable[[R], Any]
    found: Callable[[Any], R]
    alone: bool = True

    def run(
        self,
        digest: Callable[[], str],
        *,
        ray: str | None = None,
        resume: str | Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[R]:
        """Return the result of every task, in order.

        Parameters
        ----------
        digest : callable
            Gives the digest of the trace.
        ray : str, optional
            Address of a cluster, see :func:`prefixsim.study.cluster.connected`.
        resume : path, optional
            Results are kept here as they come; those that are there are not made again.
        progress : callable, optional
            Called with the tasks done and all tasks.
        """
        done: dict[int, R] = {}
        with ExitStack() as stack:
            file = None
            keys: list[str | None] = []
            if resume is not None:
                file = stack.enter_context(ResultsFile(resume, self.kind, digest()))
                keys = [self.key(task) for task in self.tasks]
                known = file.found
                done = {i: self.found(known[k]) for i, k in enumerate(keys) if k and k in known}
            left = [i for i in range(len(self.tasks)) if i not in done]
            if progress is not None and done:
                progress(len(done), len(self.tasks))
            for number, result in self._made([self.tasks[i] for i in left], ray):
                i = left[number]
                done[i] = result
                if file is not None and (key := keys[i]) is not None:
                    file.add(key, self.kept(result))
                if progress is not None:
                    progress(len(done), len(self.tasks))
        return [done[i] for i in range(len(self.tasks))]

    def _made(self, tasks: Sequence[Task], ray: str | None) -> Iterator[tuple[int, R]]:
        if ray is None or not tasks:
            return self.work(self.shared, tasks)
        return run_on(ray, self.shared, tasks, self.work, alone=self.alone)


def key_of(*parts: object) -> str | None:
    """Return a text that tells a run from others: its engine and options.

    ``None`` if a policy of one's own is among them: an object has no text that says what it does.
    """
    try:
        return json.dumps(parts, sort_keys=True, default=_text)
    except _UnkeptError:
        return None


class _UnkeptError(Exception):
    """There is no text for it."""


def _text(value: object) -> str:
    if isinstance(value, Policy):
        raise _UnkeptError
    return str(value)
