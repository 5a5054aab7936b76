"""Requests in the order of time, collected into trace batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.text.tokenize import Tokens
from prefixsim.trace import Codes, Ragged, Trace
from prefixsim.trace.joining import concat
from prefixsim.traffic.counts import KindCounts

__all__ = ["BatchWriter", "Memory", "Turn", "Writer"]

_FLUSH_REQUESTS = 4096
_FLUSH_TOKENS = 2_000_000
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


class BatchWriter:
    """Collects requests of one trace and hands them on in batches."""

    def __init__(self, writer: Writer, name: str, meta: JsonObject) -> None:
        self._writer = writer
        self._name = name
        self._meta = meta
        self._turns: list[tuple[Turn, Any]] = []
        self._tokens = 0
        self.counts = KindCounts()

    def add(self, turn: Turn, prompt: Prompt) -> None:
        """Take one request; its prompt is text, or token arrays to be joined."""
        if isinstance(prompt, str):
            whole: str | npt.NDArray[np.uint32] = prompt
        else:
            whole = np.concatenate(prompt) if prompt else _EMPTY
        self._turns.append((turn, whole))
        self._tokens += len(whole)
        self.counts.add(len(whole), turn.output_len, turn.time)
        if len(self._turns) >= _FLUSH_REQUESTS or self._tokens >= _FLUSH_TOKENS:
            self.flush()

    def flush(self) -> None:
        """Hand on what has been collected."""
        if not self._turns:
            return
        turns = [turn for turn, _ in self._turns]
        prompts = [prompt for _, prompt in self._turns]
        outputs = [turn.output for turn in turns]
        text = isinstance(prompts[0], str)
        lengths = [0 if text else len(p) for p in prompts]
        self._writer.write(
            Trace(
                timestamp=np.array([t.time for t in turns]),
                prompt_len=np.array(lengths, dtype=np.uint32),
                output_len=np.array([t.output_len for t in turns], dtype=np.uint32),
                prompts=None if text else Ragged.from_lists(prompts),
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
