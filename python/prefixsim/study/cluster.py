"""Runs on a Ray cluster: what all share is shipped once, and a run whose worker dies is run again.

Ray is the extra ``[ray]``; nothing here is needed for runs on one machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from prefixsim._core import __version__
from prefixsim._extras import require
from prefixsim.errors import InputError, PrefixsimError

__all__ = ["LOCAL", "connected", "run_on"]

R = TypeVar("R")
S = TypeVar("S")
Task = TypeVar("Task")
Work = Callable[[S, Sequence[Task]], Iterator[tuple[int, R]]]

LOCAL = "local"
"""The address that starts a cluster of this machine's cores, and ends it."""

_RETRIES = 5
_PARTS_PER_CORE = 4
_MOST_AT_ONCE = 64


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give the module ``ray``, connected to a cluster; one that is already is used as it is.

    Parameters
    ----------
    address : str
        ``local``, ``auto`` (the one that runs here) or ``host:port``.

    Raises
    ------
    InputError
        If no cluster is there.
    MissingExtraError
        If Ray is not installed.
    """
    ray = require("ray", extra="ray")
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        quiet["include_dashboard"] = False
    try:
        ray.init(address, **quiet)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        msg = f"ray is {address!r}, no cluster can be reached there ({reason})"
        raise InputError(msg) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def run_on(
    address: str, shared: S, tasks: Sequence[Task], work: Work[S, Task, R], *, alone: bool
) -> Iterator[tuple[int, R]]:
    """Yield the number and the result of each task, as they are done.

    Parameters
    ----------
    address : str
        See :func:`connected`.
    shared : object
        Given to every call; shipped once to each machine.
    tasks : sequence
    work : callable
        ``work(shared, tasks)`` yields the number among its tasks and the result of each. A function
        of a module, which workers import.
    alone : bool
        Each task is long enough to be shipped by itself; else several are together.

    Raises
    ------
    InputError
        If a worker died again and again, or has another version of prefixsim.
    """
    with connected(address) as ray:
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        size = max(1, min(_MOST_AT_ONCE, len(tasks) // (cores * _PARTS_PER_CORE)))
        size = 1 if alone else size
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(_work)
        place = [ray.put(shared)]  # in a list, so that a worker takes it once and not for each task
        begun = {
            remote.remote(__version__, place, work, list(tasks[at : at + size])): at
            for at in range(0, len(tasks), size)
        }
        try:
            while begun:
                (done,), _ = ray.wait(list(begun), num_returns=1)
                at = begun.pop(done)
                for number, result in _result(ray, done):
                    yield at + number, result
        finally:
            for waiting in begun:
                ray.cancel(waiting, force=True)


def _result(ray: Any, done: object) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PrefixsimError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        msg = f"ray: a worker died {_RETRIES + 1} times over the same runs ({reason})"
        raise InputError(msg) from None


_taken: dict[object, Any] = {}


def _work(version: str, place: Sequence[Any], work: Any, tasks: Sequence[Any]) -> list[Any]:
    """Do tasks in a worker, which keeps what they share for those that follow."""
    if version != __version__:
        msg = f"ray: a worker has prefixsim {__version__}, not {version}; install the same one"
        raise InputError(msg)
    os.environ.setdefault("RAYON_NUM_THREADS", "1")  # a worker is given one core
    (reference,) = place
    if reference not in _taken:
        _taken.clear()
        _taken[reference] = require("ray", extra="ray").get(reference)
    return list(work(_taken[reference], tasks))
