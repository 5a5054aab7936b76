"""Several traces as one: joined, or merged by time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.trace.columns import Codes, Ragged, Strings, offsets_of
from prefixsim.trace.trace import Trace

__all__ = ["concat", "merge", "without"]


def concat(traces: Sequence[Trace]) -> Trace:
    """Join traces one after the other, without looking at their times.

    Raises
    ------
    InputError
        If they do not all describe their prompts in the same way.
    """
    first = traces[0]
    if len(traces) == 1:
        return first
    for other in traces[1:]:
        if _content(other) != _content(first):
            msg = (
                f"{other.name}: holds {_content(other)}, {first.name} holds {_content(first)}: "
                "traces of one kind can be joined"
            )
            raise InputError(msg)
    changes: JsonObject = {
        name: np.concatenate([getattr(t, name) for t in traces])
        for name in ("timestamp", "prompt_len", "output_len")
    }
    changes["prompts"] = _join_ragged([t.prompts for t in traces])
    changes["outputs"] = _join_ragged([t.outputs for t in traces])
    for name in ("texts", "output_texts", "request_id"):
        changes[name] = _join_strings([getattr(t, name) for t in traces])
    for name in ("session", "salt", "category"):
        changes[name] = _join_codes([getattr(t, name) for t in traces], traces)
    turns = [t.turn for t in traces]
    known = [t for t in turns if t is not None]
    changes["turn"] = np.concatenate(known) if len(known) == len(turns) else None
    meta: JsonObject = {"joined": [t.name for t in traces]}
    meta |= {k: v for k, v in first.meta.items() if k in ("epoch_s", "texts")}
    if any(t.answer_s is not None for t in traces):
        changes["answer_s"] = np.concatenate(
            [np.zeros(len(t)) if t.answer_s is None else t.answer_s for t in traces]
        )
    skipped = Counter[str]()
    for trace in traces:
        skipped.update(trace.meta.get("rows_skipped", {}))
    if skipped:
        meta["rows_skipped"] = dict(skipped)
    if lost := _join_lost(traces):
        meta["lost"] = lost
    return first.replace(**changes, meta=meta)


def _join_lost(traces: Sequence[Trace]) -> list[JsonObject]:
    """Add up what the logs of the traces lost, by what it is."""
    found: dict[str, JsonObject] = {}
    for trace in traces:
        for lost in trace.meta.get("lost", ()):
            sum_of = found.setdefault(lost["what"], {**lost, "calls": 0})
            sum_of["calls"] += lost["calls"]
    return list(found.values())


def _content(trace: Trace) -> str:
    unit = f" of {trace.id_block_size} tokens" if trace.kind == "hashes" else ""
    return f"{trace.meta.get('texts', trace.kind)}{unit}"


def _join_ragged(columns: list[Ragged | None]) -> Ragged | None:
    known = [c for c in columns if c is not None]
    if len(known) < len(columns):
        return None
    lengths = np.concatenate([c.lengths for c in known])
    offsets = offsets_of(lengths)
    parts = [c.values[int(c.offsets[0]) : int(c.offsets[-1])] for c in known]
    return Ragged(offsets, cast("npt.NDArray[np.uint32]", np.concatenate(parts)))


def _join_strings(columns: list[Sequence[str] | None]) -> Strings | None:
    known = [c for c in columns if c is not None]
    if len(known) < len(columns):
        return None
    return Strings.from_list([text for column in known for text in column])


def _join_codes(columns: list[Codes | None], traces: Sequence[Trace]) -> Codes | None:
    if all(c is None for c in columns):
        return None
    index: dict[str, int] = {}
    parts = []
    for column, trace in zip(columns, traces, strict=True):
        names = [""] if column is None else column.names
        to = np.array([index.setdefault(name, len(index)) for name in names], dtype=np.uint32)
        parts.append(to[np.zeros(len(trace), np.uint32) if column is None else column.codes])
    return Codes(np.concatenate(parts), list(index))


def merge(traces: Sequence[Trace]) -> Trace:
    """Join traces by time; equal times keep the order of the traces.

    Times that count from the first request of each trace are brought to one start, if all traces
    know the epoch time of theirs.
    """
    starts = [t.meta.get("epoch_s") for t in traces]
    known = [s for s in starts if isinstance(s, int | float)]
    if len(traces) > 1 and len(known) == len(traces):
        first = min(known)
        traces = [
            t.replace(timestamp=t.timestamp + (s - first), meta={**t.meta, "epoch_s": first})
            for t, s in zip(traces, known, strict=True)
        ]
    elif len(traces) > 1:
        traces = [t.replace(meta=without(t.meta, "epoch_s")) for t in traces]
    return concat(traces).sorted()


def without(meta: JsonObject, name: str) -> JsonObject:
    """Return the facts of a trace without one."""
    return {k: v for k, v in meta.items() if k != name}
