"""Sessions of a workload, drawn chunk by chunk, and the requests they make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from prefixsim.trace import Trace
from prefixsim.traffic.arrivals import Arrivals
from prefixsim.traffic.synthetic.shapes import Shape, draw_turns, new_tokens

__all__ = ["Rows", "SessionSource"]

_CHUNK_REQUESTS = 65_536
_SPREAD = 0.8  # sigma of the lognormal lengths

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class Rows:
    """Requests in columns.

    Attributes
    ----------
    time : ndarray of float64
    session, turn, sample : ndarray of int64
    system : ndarray of int64
        Number of the system prompt.
    documents : ndarray of int64, shape (requests, documents per prompt)
    own : ndarray of int64
        Tokens of the prompt that belong to the session.
    last_own : ndarray of int64
        The same after the session's last answer.
    turns_before, longest_before : ndarray of int64
        Turns, and tokens after the last answer, of all earlier sessions: number ids apart.
    output : ndarray of int64
    """

    time: Floats
    session: Ints
    turn: Ints
    sample: Ints
    system: Ints
    documents: Ints
    own: Ints
    last_own: Ints
    turns_before: Ints
    longest_before: Ints
    output: Ints

    def __len__(self) -> int:
        return len(self.time)

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> Rows:
        """Return some of the rows."""
        return Rows(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def joined(a: Rows, b: Rows) -> Rows:
        """Return the rows of ``a``, then those of ``b``."""
        return Rows(*(np.concatenate([getattr(a, f.name), getattr(b, f.name)]) for f in fields(a)))


class SessionSource:
    """Draws sessions; everything depends on the shape, the arrivals and the seed alone.

    Parameters
    ----------
    shape : Shape
    arrivals : Arrivals
        Its rate is that of sessions.
    measured : Trace, optional
        Recorded arrival times and lengths: sessions start with its gaps, and lengths are drawn from
        its requests.
    keep_rate : bool
        Do not scale the measured gaps to the rate of ``arrivals``.
    """

    def __init__(
        self, shape: Shape, arrivals: Arrivals, measured: Trace | None, *, keep_rate: bool
    ) -> None:
        self.shape = shape
        self._arrivals = arrivals
        self._random = np.random.default_rng(arrivals.seed)
        self.system_lengths = self._lengths(shape.system_tokens, shape.system_prompts)
        self.document_lengths = self._lengths(shape.document_tokens, shape.documents)
        self._popular_system = _zipf(shape.system_prompts)
        self._popular_document = _zipf(shape.documents)
        self._new_tokens = new_tokens(shape)
        self._measured = measured
        self._gaps: Floats | None = None
        if measured is not None:
            gaps = np.diff(measured.timestamp)
            if len(gaps) and gaps.sum() > 0:
                self._gaps = gaps if keep_rate else gaps / gaps.mean() / arrivals.rate

    def _lengths(self, mean: float, count: int) -> Ints:
        drawn = self._random.lognormal(np.log(max(mean, 1)) - 0.08, 0.4, count)
        return np.maximum(1, np.rint(drawn)).astype(np.int64)

    def chunks(self, requests: int) -> Iterator[tuple[Rows, float]]:
        """Yield the requests of successive sessions, and when the next session begins.

        Exactly ``requests`` in all; the last session may be cut short.
        """
        shape = self.shape
        per_chunk = max(1, int(_CHUNK_REQUESTS / (shape.turns * shape.samples)))
        start, session, turns_before, own_before = 0.0, 0, 0, 0
        left = requests
        while left > 0:
            turns = draw_turns(self._random, shape, per_chunk)
            starts, following = self._starts(start, session, per_chunk)
            rows = self._rows(turns, starts)
            rows.session += session
            rows.turns_before += turns_before
            rows.longest_before += own_before
            turns_before += int(turns.sum())
            own_before = int(rows.longest_before[-1] + rows.last_own[-1])
            rows = rows.take(slice(0, left))
            left -= len(rows)
            session += per_chunk
            start = following
            yield rows, (following if left > 0 else np.inf)

    def _starts(self, start: float, session: int, count: int) -> tuple[Floats, float]:
        """Return when sessions begin, and when the one after them does."""
        if self._gaps is None:
            gaps = self._random.standard_exponential(count) / self._arrivals.rate
        else:
            gaps = self._gaps[np.arange(session, session + count) % len(self._gaps)]
        ends = np.round(start + np.cumsum(gaps), 6)
        return np.concatenate([[start], ends[:-1]]), float(ends[-1])

    def _rows(self, turns: Ints, starts: Floats) -> Rows:
        shape, random = self.shape, self._random
        total = int(turns.sum())
        first = np.cumsum(turns) - turns  # row of each session's first turn
        owner = np.repeat(np.arange(len(turns)), turns)
        turn = np.arange(total) - first[owner]
        new, output = self._turn_lengths(total)
        turn_tokens = new + output
        history = np.cumsum(turn_tokens) - turn_tokens
        own = history - history[first][owner] + new
        wait = output * self._arrivals.time_per_token
        wait += random.standard_exponential(total) * shape.think_time
        elapsed = np.cumsum(wait) - wait
        last = first + turns - 1
        longest = own[last] + output[last]
        documents = self._documents(len(turns))
        rows = Rows(
            time=np.round(starts[owner] + elapsed - elapsed[first][owner], 6),
            session=owner,
            turn=turn,
            sample=np.zeros(total, dtype=np.int64),
            system=random.choice(shape.system_prompts, len(turns), p=self._popular_system)[owner],
            documents=documents[owner],
            own=own,
            last_own=longest[owner],
            turns_before=first[owner],
            longest_before=(np.cumsum(longest) - longest)[owner],
            output=output,
        )
        if shape.samples == 1:
            return rows
        rows = rows.take(np.repeat(np.arange(total), shape.samples))
        rows.sample = np.tile(np.arange(shape.samples), total)
        rows.output = self._turn_lengths(len(rows))[1]
        return rows

    def _turn_lengths(self, count: int) -> tuple[Ints, Ints]:
        """Return the lengths of what is new in turns, and of the answers."""
        random, shape = self._random, self.shape
        measured = self._measured
        if measured is not None:
            at = random.integers(len(measured), size=count)
            share = measured.prompt_len[at] / max(1.0, float(measured.prompt_len.mean()))
            answers = measured.output_len[at] / max(1.0, float(measured.output_len.mean()))
            new, output = share * self._new_tokens, answers * shape.output_tokens
        else:
            shift = _SPREAD**2 / 2
            new = self._new_tokens * random.lognormal(-shift, _SPREAD, count)
            output = shape.output_tokens * random.lognormal(-shift, _SPREAD, count)
        return np.maximum(1, np.rint(new)).astype(np.int64), np.rint(output).astype(np.int64)

    def _documents(self, sessions: int) -> Ints:
        shape, random = self.shape, self._random
        size = (sessions, shape.documents_per_prompt)
        if not shape.documents_per_prompt:
            return np.zeros(size, dtype=np.int64)
        drawn = random.choice(shape.documents, size, p=self._popular_document)
        ordered = np.sort(drawn, axis=1)
        twice = (np.diff(ordered, axis=1) == 0).any(axis=1)
        for row in np.flatnonzero(twice):  # the same document is not put in twice
            drawn[row] = random.choice(
                shape.documents, size[1], replace=False, p=self._popular_document
            )
        return drawn


def _zipf(count: int) -> Floats:
    weights = 1 / np.arange(1, count + 1)
    return np.asarray(weights / weights.sum() if count else weights, dtype=np.float64)
