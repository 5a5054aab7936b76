"""One request, explained: its prompt as a line of stretches, and where each came from or went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prefixsim._core import Profile
from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.explanations.classes import ALONG, MEANINGS, label
from prefixsim.explanations.losses import usable_blocks
from prefixsim.explanations.top import name_of
from prefixsim.explanations.waterfall import Waterfall
from prefixsim.forest import Forest
from prefixsim.table import Table, html, written
from prefixsim.trace import Trace
from prefixsim.trace.columns import Array

__all__ = [
    "Divergence",
    "RequestExplanation",
    "Stretch",
    "explain_request",
    "find_request",
    "request_tables",
]

CONTEXT = 16
"""Tokens shown before the place where two prompts part, and twice as many after it."""


@dataclass(frozen=True)
class Stretch:
    """Neighbouring tokens of a prompt with the same fate.

    Attributes
    ----------
    name : str
        Their class.
    start, end : int
        Tokens of the prompt.
    source : int or None
        Row of the latest earlier request that had these tokens; ``None`` if there was none.
    evicted_by : int or None
        Row of the request that room was made for when they left the cache.
    never_kept : bool
        They were lost without eviction: the prompt of ``source`` was longer than the cache.
    """

    name: str
    start: int
    end: int
    source: int | None = None
    evicted_by: int | None = None
    never_kept: bool = False

    def to_dict(self, trace: Trace) -> JsonObject:
        """Return the figures under their machine-readable names; times in seconds of the trace."""
        facts: JsonObject = {"class": self.name, "start": self.start, "end": self.end}
        for key, row in (("last_used", self.source), ("evicted", self.evicted_by)):
            if row is not None:
                facts[f"{key}_by"] = name_of(trace, row)
                facts[f"{key}_s"] = float(trace.timestamp[row])
        if self.never_kept:
            facts["never_kept"] = True
        return facts


@dataclass(frozen=True)
class Divergence:
    """Where a prompt parts from the earlier request that shares most of it.

    Attributes
    ----------
    at : int
        Tokens in common.
    other : int
        Row of the earlier request, the latest of those that share as much.
    before, here, there : str or None
        Decoded text: in common, then of this prompt, then of the other; ``None`` without text.
    """

    at: int
    other: int
    before: str | None = None
    here: str | None = None
    there: str | None = None


@dataclass(frozen=True, eq=False)
class RequestExplanation:
    """Why one request hit what it hit.

    Attributes
    ----------
    trace : Trace
    row : int
    block_size : int
    stretches : list of Stretch
        They cover the prompt without gap or overlap.
    divergence : Divergence or None
        ``None`` if nothing is shared, or an earlier request goes on exactly so.
    """

    trace: Trace
    row: int
    block_size: int
    stretches: list[Stretch]
    divergence: Divergence | None

    def blocks(self) -> list[str]:
        """Return the class that most tokens of each block have, a trailing partial one included."""
        length = int(self.trace.prompt_len[self.row])
        classes = np.zeros(length, dtype=np.uint8)
        for stretch in self.stretches:
            classes[stretch.start : stretch.end] = ALONG.index(stretch.name)
        parts = [classes[at : at + self.block_size] for at in range(0, length, self.block_size)]
        return [ALONG[int(np.bincount(part).argmax())] for part in parts]

    def to_dict(self) -> JsonObject:
        """Return everything under machine-readable names."""
        trace, row = self.trace, self.row
        tokens = dict.fromkeys(ALONG, 0)
        for stretch in self.stretches:
            tokens[stretch.name] += stretch.end - stretch.start
        facts: JsonObject = {
            "request_id": name_of(trace, row),
            "row": row,
            "timestamp": float(trace.timestamp[row]),
            "prompt_len": int(trace.prompt_len[row]),
            "block_size": self.block_size,
            "classes": tokens,
            "stretches": [stretch.to_dict(trace) for stretch in self.stretches],
            "divergence": None,
        }
        for by in ("session", "salt", "category"):
            codes = getattr(trace, by)
            if codes is not None:
                facts[by] = codes.names[codes.codes[row]]
        if self.divergence is not None:
            d = self.divergence
            facts["divergence"] = {"at": d.at, "other": name_of(trace, d.other)}
            if d.here is not None:
                facts["divergence"] |= {"before": d.before, "here": d.here, "there": d.there}
        return facts

    def _repr_html_(self) -> str:
        return html(request_tables(self))


def find_request(trace: Trace, name: str) -> int:
    """Return the row of the request with this id, or at this row number if it has no ids.

    Raises
    ------
    InputError
        If there is none, or several.
    """
    if trace.request_id is not None:
        rows = [row for row, known in enumerate(trace.request_id) if known == name]
        if len(rows) > 1:
            named = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
            msg = f"{trace.name}: {len(rows):,} requests have the id {name!r} (rows {named})"
            msg += "; keep one of the rows by 'convert --requests'"
            raise InputError(msg)
        if rows:
            return rows[0]
    elif name.isdecimal() and int(name) < len(trace):
        return int(name)
    what = "ids" if trace.request_id is not None else f"rows 0 to {len(trace) - 1}"
    msg = f"{trace.name}: no request {name!r}; its requests have {what}"
    if trace.request_id is not None and len(trace):
        msg += f" like {trace.request_id[0]!r}"
    raise InputError(msg)


def explain_request(
    waterfall: Waterfall, row: int, decode: Callable[[list[int]], str] | None = None
) -> RequestExplanation:
    """Explain one request of a replay.

    Parameters
    ----------
    waterfall : Waterfall
    row : int
        Of the request.
    decode : callable, optional
        Turns token ids into text, such as the ``decode`` of a tokenizer.
    """
    if not 0 <= row < len(waterfall):
        msg = f"{waterfall.trace.name}: no request {row}, the rows are 0 to {len(waterfall) - 1}"
        raise InputError(msg)
    metrics, trace = waterfall.result.metrics, waterfall.trace
    own = _sources(metrics.profile, row, metrics.block_size)
    finest = waterfall.open_forest.profile(trace.id_block_size)
    anyone = _sources(finest, row, trace.id_block_size)
    edges = waterfall.edges[row].tolist()
    stretches: list[Stretch] = []
    for k, name in enumerate(ALONG):
        start, end = edges[k], edges[k + 1]
        if start == end:
            continue
        if name == "cold":
            stretches.append(Stretch(name, start, end))
        elif name in {"isolated", "rounding"}:
            stretches += _cut(name, start, end, anyone)
        elif name == "evicted":
            stretches += _evicted(waterfall, row, _cut(name, start, end, own))
        else:
            stretches += _cut(name, start, end, own)
    divergence = _divergence(waterfall, edges, anyone, row, decode)
    return RequestExplanation(trace, row, metrics.block_size, stretches, divergence)


def _sources(profile: Profile, row: int, block_size: int) -> list[tuple[int, int, int]]:
    """Start and end in tokens, and the latest earlier request, of what others had of a prompt."""
    hits = np.zeros(profile.requests, dtype=np.uint32)
    hits[row] = profile.reusable_blocks[row]
    _, previous, blocks = profile.gaps(hits)
    ends = np.cumsum(blocks.astype(np.int64)) * block_size
    starts = ends - blocks.astype(np.int64) * block_size
    return list(zip(starts.tolist(), ends.tolist(), previous.tolist(), strict=True))


def _cut(name: str, start: int, end: int, sources: list[tuple[int, int, int]]) -> list[Stretch]:
    return [
        Stretch(name, max(start, a), min(end, b), source)
        for a, b, source in sources
        if max(start, a) < min(end, b)
    ]


def _evicted(waterfall: Waterfall, row: int, stretches: list[Stretch]) -> list[Stretch]:
    """Cut evicted stretches by the moment they left; only the ideal LRU cache tells it exactly."""
    result = waterfall.result
    exact = result.engine.capabilities.exact_evictions and result.settings.follows_lru_curve
    if not exact or not stretches:
        return stretches
    capacity = usable_blocks(result)
    assert capacity is not None
    metrics = waterfall.result.metrics
    size = metrics.block_size
    owners = np.unique([s.source for s in stretches]).astype(np.uint32)
    left = metrics.profile.lru_evictions(capacity, owners)
    columns = (left["owner"], left["start"], left["end"], left["at"])
    evictions = zip(*(column.tolist() for column in columns), strict=True)
    events = [event for event in evictions if event[3] < row]
    cut: list[Stretch] = []
    for s in stretches:
        gone = [
            Stretch(s.name, max(s.start, start * size), min(s.end, end * size), s.source, at)
            for owner, start, end, at in events
            if owner == s.source and max(s.start, start * size) < min(s.end, end * size)
        ]
        gone.sort(key=lambda part: part.start)
        kept = gone[-1].end if gone else s.start
        cut += gone
        if kept < s.end:
            cut.append(Stretch(s.name, kept, s.end, s.source, never_kept=True))
    return cut


def _divergence(
    waterfall: Waterfall,
    edges: list[int],
    sources: list[tuple[int, int, int]],
    row: int,
    decode: Callable[[list[int]], str] | None,
) -> Divergence | None:
    at, length = edges[ALONG.index("cold")], edges[-1]
    if at in {0, length} or not sources:
        return None
    other = sources[-1][2]
    prompts = waterfall.trace.prompts
    if decode is None or prompts is None or waterfall.trace.kind != "tokens":
        return Divergence(at, other)
    here = prompts[row]
    there = _sequence(waterfall.open_forest, other)

    def text(ids: Array) -> str:
        return decode([int(i) for i in ids])

    return Divergence(
        at,
        other,
        text(here[max(0, at - CONTEXT) : at]),
        text(here[at : at + 2 * CONTEXT]),
        text(there[at : at + 2 * CONTEXT]),
    )


def _sequence(forest: Forest, row: int) -> Array:
    trace = forest.trace
    assert trace.prompts is not None
    prompt = trace.prompts[row]
    if not forest.outputs or trace.outputs is None:
        return prompt
    return np.concatenate([prompt, trace.outputs[row]])


def request_tables(explanation: RequestExplanation) -> list[Table]:
    """Return the stretches of one request, and where it parts from others."""
    trace, row = explanation.trace, explanation.row
    rows = [
        [f"{s.start:,}-{s.end:,}", label(s.name), written(s.end - s.start, "count")]
        for s in explanation.stretches
    ]
    fates = [_fate(trace, s) for s in explanation.stretches]
    session = ""
    if trace.session is not None:
        session = f", session {trace.session.names[trace.session.codes[row]]}"
    title = (
        f"request {name_of(trace, row)} at {trace.timestamp[row]:,.3f} s{session}: "
        f"{trace.prompt_len[row]:,} prompt tokens in blocks of {explanation.block_size}"
    )
    tables = [Table(title, ["tokens", "class", "count"], rows, fates, words=2)]
    d = explanation.divergence
    if d is not None:
        lines = [["at token", f"{d.at:,}"], ["from request", name_of(trace, d.other)]]
        if d.here is not None:
            lines += [
                ["in common", f"…{d.before!r}"],
                ["this prompt", f"{d.here!r}…"],
                ["the earlier one", f"{d.there!r}…"],
            ]
        tables.append(
            Table("where it parts from the closest earlier request", ["", ""], lines, words=2)
        )
    return tables


def _fate(trace: Trace, stretch: Stretch) -> str:
    if stretch.source is None:
        return MEANINGS["cold"]
    fate = (
        f"last used by {name_of(trace, stretch.source)} at {trace.timestamp[stretch.source]:,.3f} s"
    )
    if stretch.evicted_by is not None:
        by, at = name_of(trace, stretch.evicted_by), trace.timestamp[stretch.evicted_by]
        fate += f", evicted for {by} at {at:,.3f} s"
    if stretch.never_kept:
        fate += ", never kept: longer than the cache"
    return fate
