"""Requests in the order of time, collected into trace batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.text.tokenize import Tokens
from prefixsim.trace import Codes, Ragged, Trace
from prefixsim.trace.columns import offsets_of
from prefixsim.trace.joining import concat
from prefixsim.traffic.counts import KindCounts

__all__ = ["Background", "BatchWriter", "Kept", "Memory", "Turn", "Writer"]

_FLUSH_REQUESTS = 4096
_FLUSH_TOKENS = 2_000_000
_WAITING = 2
_EMPTY: Tokens = np.empty(0, dtype=np.uint32)


class Writer(Protocol):
    """What takes the batches of a trace."""

    def write(self, batch: Trace) -> None:
        """Append a batch."""
        ...


Prompt: TypeAlias = str | Sequence[npt.NDArray[np.uint32]]
"""A prompt as text, or as token arrays to be joined."""


class Turn(NamedTuple):
    """A request waiting for its time; ordered by time, then place in the data."""

    time: float
    conversation: int
    turn: int
    session: str
    prompts: tuple[Prompt, Prompt]
    output: Any  # text, ids, or None
    output_len: int


class Memory:
    """Keeps a trace in memory."""

    def __init__(self) -> None:
        self.batches: list[Trace] = []

    def write(self, batch: Trace) -> None:
        """Append a batch."""
        self.batches.append(batch)

    def trace(self) -> Trace:
        """Join the batches."""
        return concat(self.batches).replace(meta=self.batches[0].meta)


class Kept:
    """Keeps the prompts of a trace beside writing it, up to a number of tokens.

    Parameters
    ----------
    writer : Writer
    most : int
        With more tokens than this, nothing is kept.
    """

    def __init__(self, writer: Writer, most: int) -> None:
        self._writer = writer
        self._left = most
        self._memory = Memory()

    def write(self, batch: Trace) -> None:
        """Append a batch."""
        if batch.prompts is not None and self._left >= 0:
            self._left -= len(batch.prompts.values)
            self._memory.write(batch.replace(outputs=None, request_id=None, turn=None))
        if self._left < 0:
            self._memory = Memory()
        self._writer.write(batch)

    def trace(self) -> Trace | None:
        """Return what was kept, and keep it no longer; None if there was nothing, or too much."""
        found, self._memory = self._memory, Memory()
        return found.trace() if found.batches else None


class Background:
    """Writes batches on a thread of its own, in their order, while the next ones are made.

    Used in a ``with`` block, at the end of which all is written. Few batches wait.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Background:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while self._waiting and kind is None:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def to(self, writer: Writer) -> Writer:
        """Return what takes batches for a writer."""
        return _InBackground(self, writer)

    def write(self, writer: Writer, batch: Trace) -> None:
        """Have a batch written; waits for earlier ones, and raises what they raised."""
        while len(self._waiting) >= _WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(writer.write, batch))


@dataclass(frozen=True)
class _InBackground:
    background: Background
    writer: Writer

    def write(self, batch: Trace) -> None:
        self.background.write(self.writer, batch)


class BatchWriter:
    """Collects requests of one trace and hands them on in batches."""

    def __init__(self, writer: Writer, name: str, meta: JsonObject) -> None:
        self._writer = writer
        self._name = name
        self._meta = meta
        self._turns: list[tuple[Turn, Prompt, int]] = []
        self._tokens = 0
        self.counts = KindCounts()

    def add(self, turn: Turn, prompt: Prompt) -> None:
        """Take one request; its prompt is text, or token arrays to be joined."""
        length = len(prompt) if isinstance(prompt, str) else sum(map(len, prompt))
        self._turns.append((turn, prompt, length))
        self._tokens += length
        self.counts.add(length, turn.output_len, turn.time)
        if len(self._turns) >= _FLUSH_REQUESTS or self._tokens >= _FLUSH_TOKENS:
            self.flush()

    def flush(self) -> None:
        """Hand on what has been collected."""
        if not self._turns:
            return
        turns = [turn for turn, *_ in self._turns]
        prompts: list[Any] = [prompt for _, prompt, _ in self._turns]
        outputs = [turn.output for turn in turns]
        text = isinstance(prompts[0], str)
        lengths = [0 if text else length for *_, length in self._turns]
        self._writer.write(
            Trace(
                timestamp=np.array([t.time for t in turns]),
                prompt_len=np.array(lengths, dtype=np.uint32),
                output_len=np.array([t.output_len for t in turns], dtype=np.uint32),
                prompts=None if text else _joined(prompts, lengths),
                outputs=None
                if text
                else Ragged.from_lists([_EMPTY if o is None else o for o in outputs]),
                texts=prompts if text else None,
                output_texts=["" if o is None else o for o in outputs] if text else None,
                request_id=[f"{t.session}:{t.turn}" for t in turns],
                session=Codes.from_strings([t.session for t in turns]),
                turn=np.array([t.turn for t in turns], dtype=np.uint32),
                name=self._name,
                meta=self._meta,
            )
        )
        self._turns = []
        self._tokens = 0


def _joined(prompts: Sequence[Any], lengths: Sequence[int]) -> Ragged:
    """Join prompts, each of several arrays, into one column."""
    parts = list(chain.from_iterable(prompts))
    values = np.concatenate(parts) if parts else _EMPTY
    return Ragged(offsets_of(lengths), values)
