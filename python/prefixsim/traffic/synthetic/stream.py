"""Workloads as a stream of trace batches.

A prompt is a system prompt, documents where the shape has them, and what belongs to the session:
all turns before, then the new one. Six requests of three sessions, one id for each 200 tokens:

>>> figures = {"prompt_tokens": 800, "output_tokens": 100, "turns": 2.5, "arrival_rate": 1 / 30}
>>> workload = generate("chat", 6, seed=2, form="hashes", id_block_size=200, **figures)
>>> for row in workload.trace():
...     print(row.session, row.turn, row.prompt_len, row.output_len, row.prompt.tolist())
s0 0 719 44 [0, 18, 19, 25]
s1 0 476 69 [2, 28, 30]
s0 1 895 111 [0, 18, 19, 20, 26]
s2 0 352 136 [0, 36]
s0 2 1362 116 [0, 18, 19, 20, 21, 22, 27]
s2 1 672 49 [0, 33, 34, 37]

Ids 0 to 17 are the full blocks of the system prompts: ``s0`` and ``s2`` have drawn the same one,
id 0. From 18 on each session has its own range, with room for the longest of its sequences: 18 to
24 for the full blocks of ``s0``, and one id for the partial block at the end of each of its turns,
25 to 27, which no other turn shares. The second prompt of ``s0`` holds the first, its answer of 44
tokens and the new turn; it shares the three full blocks before them. The first prompt of ``s2``
ends inside its second block: all of it beyond the system prompt is a partial block of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from prefixsim._core import __version__, expand_ids, expand_tokens
from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.trace import Codes, Ragged, Trace, offsets_of
from prefixsim.trace.joining import concat
from prefixsim.traffic.arrivals import Arrivals
from prefixsim.traffic.synthetic.sessions import Rows, SessionSource
from prefixsim.traffic.synthetic.shapes import Shape, ShapeName, new_tokens, shape_named

__all__ = ["Form", "Workload", "generate"]

Form = Literal["tokens", "hashes"]
Unsigned = npt.NDArray[np.uint64]

DEFAULT_RATE = 10.0
_BATCH_REQUESTS = 16_384
_BATCH_IDS = 16_000_000

# A stream of tokens is an interval of the 64-bit integers: what it is, which one, position in it.
_STREAM_SHIFT, _KIND_SHIFT, _SAMPLE_SHIFT = np.uint64(28), np.uint64(61), np.uint64(22)
_SYSTEM, _DOCUMENT, _SESSION, _SAMPLE = (np.uint64(k) << _KIND_SHIFT for k in range(4))


class Workload:
    """A generated trace, made while it is iterated over, the same each time.

    Made by :func:`prefixsim.generate`.

    Attributes
    ----------
    requests : int
    shape : Shape
    form : {"tokens", "hashes"}
    id_block_size : int
        Tokens per id.
    config : dict
        Everything that decides the content, for provenance.

    Examples
    --------
    >>> workload = generate("rag", 20, seed=1)
    >>> workload
    <Workload rag: 20 requests, tokens>
    >>> len(workload.trace())
    20
    """

    def __init__(
        self,
        name: str,
        shape: Shape,
        requests: int,
        arrivals: Arrivals,
        *,
        form: Form,
        id_block_size: int,
        vocabulary: int,
        measured: Trace | None,
        keep_rate: bool,
    ) -> None:
        self.name = name
        self.shape = shape
        self.requests = requests
        self.form = form
        self.id_block_size = id_block_size if form == "hashes" else 1
        self._arrivals = arrivals
        self._vocabulary = vocabulary
        self._measured = measured
        self._keep_rate = keep_rate
        self.config: JsonObject = {
            "generator": f"prefixsim {__version__}",
            "shape": name,
            "requests": requests,
            "form": form,
            **asdict(shape),
            "arrivals": {**arrivals.config(), "think_time": shape.think_time},
            "measured": None if measured is None else measured.name,
            "seed": arrivals.seed,
        }

    def __len__(self) -> int:
        return self.requests

    def __repr__(self) -> str:
        return f"<Workload {self.name}: {self.requests:,} requests, {self.form}>"

    def trace(self) -> Trace:
        """Return all of it in memory."""
        batches = list(self)
        return concat(batches).replace(meta=batches[0].meta)

    def __iter__(self) -> Iterator[Trace]:
        source = SessionSource(
            self.shape, self._arrivals, self._measured, keep_rate=self._keep_rate
        )
        layout = _Layout(self, source)
        waiting: Rows | None = None
        for rows, following in source.chunks(self.requests):
            merged = rows if waiting is None else Rows.joined(waiting, rows)
            order = np.lexsort((merged.sample, merged.turn, merged.session, merged.time))
            due = int(np.searchsorted(merged.time[order], following, side="left"))
            yield from layout.traces(merged.take(order[:due]))
            waiting = merged.take(order[due:])


class _Layout:
    """Lays out the tokens or ids of requests."""

    def __init__(self, workload: Workload, source: SessionSource) -> None:
        self._workload = workload
        self._source = source
        self._block = np.int64(workload.id_block_size)
        seed = np.random.SeedSequence(workload.config["seed"])
        self._salt: np.uint64 = seed.generate_state(1, np.uint64)[0]
        blocks = source.system_lengths // self._block
        self._system_base = np.cumsum(blocks) - blocks
        self._first_session_id = int(blocks.sum())

    def traces(self, rows: Rows) -> Iterator[Trace]:
        """Yield batches of bounded size."""
        prompt = self._prompt_lengths(rows)
        ids = np.cumsum(-(-prompt // self._block))
        start = 0
        while start < len(rows):
            before = int(ids[start - 1]) if start else 0
            fitting = int(np.searchsorted(ids, before + _BATCH_IDS, side="right"))
            end = min(start + _BATCH_REQUESTS, max(start + 1, fitting))
            yield self._trace(rows.take(slice(start, end)), prompt[start:end])
            start = end

    def _prompt_lengths(self, rows: Rows) -> npt.NDArray[np.int64]:
        shared = self._source.system_lengths[rows.system]
        if rows.documents.shape[1]:
            shared = shared + self._source.document_lengths[rows.documents].sum(axis=1)
        return np.asarray(shared + rows.own)

    def _trace(self, rows: Rows, prompt: npt.NDArray[np.int64]) -> Trace:
        workload = self._workload
        sessions, first, codes = np.unique(rows.session, return_index=True, return_inverse=True)
        rank = np.empty(len(sessions), dtype=np.uint32)
        rank[np.argsort(first)] = np.arange(len(sessions), dtype=np.uint32)
        names = [f"s{number}" for number in sessions[np.argsort(first)].tolist()]
        outputs = None
        if workload.form == "tokens":
            prompts = self._tokens(rows)
            outputs = self._outputs(rows)
        elif rows.documents.shape[1]:
            prompts = self._hashed_ids(rows, prompt)
        else:
            prompts = self._numbered_ids(rows, prompt)
        return Trace(
            timestamp=rows.time,
            prompt_len=prompt.astype(np.uint32),
            output_len=rows.output.astype(np.uint32),
            prompts=prompts,
            outputs=outputs,
            id_block_size=workload.id_block_size,
            session=Codes(rank[codes], names),
            turn=(rows.turn if workload.shape.samples == 1 else rows.sample).astype(np.uint32),
            name=workload.name,
            format="generated",
            meta={"workload": workload.config},
        )

    def _parts(self, rows: Rows) -> tuple[Unsigned, npt.NDArray[np.int64]]:
        """Return the streams a prompt is made of and how much of each, one column per part."""
        source = self._source
        streams = [_SYSTEM + (rows.system.astype(np.uint64) << _STREAM_SHIFT)]
        lengths = [source.system_lengths[rows.system]]
        for document in rows.documents.T:
            streams.append(_DOCUMENT + (document.astype(np.uint64) << _STREAM_SHIFT))
            lengths.append(source.document_lengths[document])
        streams.append(_SESSION + (rows.session.astype(np.uint64) << _STREAM_SHIFT))
        lengths.append(rows.own)
        return np.stack(streams, axis=1), np.stack(lengths, axis=1)

    def _tokens(self, rows: Rows) -> Ragged:
        streams, lengths = self._parts(rows)
        values = expand_tokens(
            (streams + self._salt).ravel(),
            lengths.astype(np.uint64).ravel(),
            self._workload._vocabulary,
        )
        return Ragged(offsets_of(lengths.sum(axis=1)), values)

    def _outputs(self, rows: Rows) -> Ragged:
        """Answers: the next tokens of the session's stream, or one stream for each sample."""
        streams = _SESSION + (rows.session.astype(np.uint64) << _STREAM_SHIFT)
        starts = streams + rows.own.astype(np.uint64)
        if self._workload.shape.samples > 1:
            starts = streams - _SESSION + _SAMPLE
            starts = starts + (rows.sample.astype(np.uint64) << _SAMPLE_SHIFT)
        lengths = rows.output.astype(np.uint64)
        values = expand_tokens(starts + self._salt, lengths, self._workload._vocabulary)
        return Ragged(offsets_of(rows.output), values)

    def _numbered_ids(self, rows: Rows, prompt: npt.NDArray[np.int64]) -> Ragged:
        """Count ids from 0: of system prompts, then of sessions, as the module's example shows."""
        block = self._block
        system = self._source.system_lengths[rows.system] // block
        full = prompt // block - system
        partial = (prompt % block > 0).astype(np.int64)
        # Room for the longest sequence of every earlier session, and one id for each of its turns
        # that ends inside a block.
        room = rows.longest_before // block + rows.turns_before
        room += rows.session * 2  # rounding: a session's blocks begin inside its system prompt's
        base = self._first_session_id + room
        longest = (rows.last_own + self._source.system_lengths[rows.system]) // block - system
        starts = np.stack(
            [self._system_base[rows.system], base, base + longest + 1 + rows.turn], axis=1
        )
        lengths = np.stack([system, full, partial], axis=1)
        values = expand_ids(
            starts.astype(np.uint64).ravel(), lengths.astype(np.uint64).ravel(), hashed=False
        )
        return Ragged(offsets_of(lengths.sum(axis=1)), values)

    def _hashed_ids(self, rows: Rows, prompt: npt.NDArray[np.int64]) -> Ragged:
        """Hash the chain of parts: a document after another one is another node of the tree."""
        streams, lengths = self._parts(rows)
        ends = np.cumsum(lengths, axis=1)
        ended = ends // self._block
        blocks = np.diff(ended, axis=1, prepend=0)
        node = np.full(len(rows), self._salt, dtype=np.uint64)
        starts = np.empty((len(rows), streams.shape[1] + 1), dtype=np.uint64)
        for part in range(streams.shape[1]):
            node = expand_ids(node ^ streams[:, part], np.ones(len(rows), np.uint64), hashed=True)
            starts[:, part] = node + (ended[:, part] - blocks[:, part]).astype(np.uint64)
        starts[:, -1] = ~node - prompt.astype(np.uint64)  # the trailing partial block
        partial = (prompt % self._block > 0).astype(np.int64)[:, None]
        counts = np.concatenate([blocks, partial], axis=1)
        values = expand_ids(starts.ravel(), counts.astype(np.uint64).ravel(), hashed=True)
        return Ragged(offsets_of(counts.sum(axis=1)), values)


def generate(
    shape: ShapeName = "chat",
    requests: int = 100_000,
    *,
    seed: int = 0,
    form: Form = "tokens",
    id_block_size: int = 512,
    prompt_tokens: float | None = None,
    output_tokens: float | None = None,
    turns: float | None = None,
    arrival_rate: float | None = None,
    think_time: float | None = None,
    time_per_token: float = 0.02,
    arrivals: str | Path | Trace | None = None,
    vocabulary: int = 50_000,
) -> Workload:
    """Describe a synthetic workload; iterating over it makes the batches of the trace.

    Parameters
    ----------
    shape : {"chat", "rag", "agent", "parallel"}
        See :data:`prefixsim.traffic.synthetic.SHAPES`.
    requests : int
    seed : int
    form : {"tokens", "hashes"}
        Token ids, or chained hash ids of ``id_block_size`` tokens.
    id_block_size : int
        512 as in Mooncake's traces.
    prompt_tokens, output_tokens, turns, think_time : float, optional
        Means, instead of the shape's.
    arrival_rate : float, optional
        Sessions per second. Default: 10, or as measured in ``arrivals``.
    time_per_token : float
        Seconds of an answer per token.
    arrivals : path or Trace, optional
        Measured arrivals and lengths (Azure or BurstGPT CSV): sessions start with the gaps between
        its requests, in order and over again; the lengths of new text and of answers are those of
        requests drawn from it, scaled so that the means of prompts and answers are those of the
        file (unless given). With fewer turns than the shape's if its prompts are too short.
    vocabulary : int
        Number of different token ids.

    Returns
    -------
    Workload

    Raises
    ------
    InputError
        If something given is not usable.

    Examples
    --------
    >>> workload = generate("chat", 100, seed=1)
    >>> sum(len(batch) for batch in workload)
    100
    """
    if requests < 1:
        msg = f"cannot generate {requests} requests, give a number above 0"
        raise InputError(msg)
    if form not in get_args(Form):
        msg = f"unknown form '{form}', choose one of tokens, hashes"
        raise InputError(msg)
    for what, value in (("id block size", id_block_size), ("vocabulary", vocabulary)):
        if not 1 <= value < 1 << 32:
            msg = f"{what} {value} is not usable, give a number above 0"
            raise InputError(msg)
    measured = _measured(arrivals)
    if measured is not None:
        prompt_tokens = prompt_tokens or float(measured.prompt_len.mean())
        if output_tokens is None:
            output_tokens = float(measured.output_len.mean())
    figures = shape_named(
        shape,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        turns=turns,
        think_time=think_time,
    )
    if measured is not None and turns is None:
        figures = _with_fitting_turns(figures)
    new_tokens(figures)
    rate = DEFAULT_RATE if arrival_rate is None else arrival_rate
    clock = Arrivals(rate, figures.think_time, time_per_token, sequential=False, seed=seed)
    return Workload(
        shape,
        figures,
        requests,
        clock,
        form=form,
        id_block_size=id_block_size,
        vocabulary=vocabulary,
        measured=measured,
        keep_rate=arrival_rate is None,
    )


def _measured(arrivals: str | Path | Trace | None) -> Trace | None:
    if arrivals is None:
        return None
    trace = arrivals if isinstance(arrivals, Trace) else Trace.read(arrivals)
    if len(trace) < 2 or not trace.prompt_len.any():
        msg = f"{trace.name}: needs at least two requests with their prompt lengths"
        raise InputError(msg)
    return trace


def _with_fitting_turns(shape: Shape) -> Shape:
    """Return the shape with as many turns, up to its own, as its mean prompt has room for."""
    turns = shape.turns
    while turns > 1:
        try:
            new_tokens(replace(shape, turns=turns))
        except InputError:
            turns = max(1.0, turns * 0.8)
        else:
            break
    return replace(shape, turns=turns)
