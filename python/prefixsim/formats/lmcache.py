"""LMCache agent traces: JSONL with the complete input and output text of every call.

Source: github.com/LMCache/lmcache-agent-trace. Files are not sorted by time, so they are sorted
here (stable); times count from the first request, whose epoch time is kept in ``meta``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.formats._format import Confidence, Family, Format, Head, ReadOptions
from prefixsim.formats._jsonl_writer import JsonlWriter
from prefixsim.formats._rows import Field, Rows
from prefixsim.trace import Trace

__all__ = ["FORMAT"]

_FIELDS = (
    Field("timestamp", "f64", required=True),
    Field("session_id", "label"),
    Field("input", "text", required=True),
    Field("output", "text"),
)


def _matches(head: Head) -> Confidence:
    fits = {"timestamp", "input", "output"} <= head.row.keys()
    return Confidence.POSSIBLE if fits else Confidence.NO


def _read(path: Path, options: ReadOptions) -> Trace:
    rows = Rows(path, _FIELDS, options)
    time = rows.numbers("timestamp") / 1e6
    start = float(time.min()) if len(time) else 0.0
    unknown = np.zeros(len(rows), dtype=np.uint32)
    return rows.finish(
        Trace(
            timestamp=time - start,
            prompt_len=unknown,
            output_len=unknown,
            texts=rows.strings("input"),
            output_texts=rows.strings("output") if rows.has("output") else None,
            session=rows.labels("session_id") if rows.has("session_id") else None,
            meta={"epoch_s": start},
        ),
        sort=True,
    )


def _row(trace: Trace, i: int) -> JsonObject:
    assert trace.texts is not None
    epoch = trace.meta.get("epoch_s", 0.0)
    session = {} if trace.session is None else {"session_id": trace.session[i]}
    output = "" if trace.output_texts is None else trace.output_texts[i]
    time = round((epoch + float(trace.timestamp[i])) * 1e6)
    return {"timestamp": time, **session, "input": trace.texts[i], "output": output}


def _check_writable(trace: Trace) -> str | None:
    if trace.kind != "text" or "texts" in trace.meta:
        return f"the lmcache format holds texts, not {trace.meta.get('texts', trace.kind)}"
    return None


FORMAT = Format(
    name="lmcache",
    title="LMCache agent JSONL: timestamp (µs), session_id, input and output text",
    family=Family.JSON,
    matches=_matches,
    read=_read,
    open_writer=lambda path: JsonlWriter(path, _row, lambda _: {}, check=_check_writable),
)
