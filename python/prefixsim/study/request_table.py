"""The table with one row per request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from prefixsim._json import JsonObject
from prefixsim.engines.outcome import Outcome
from prefixsim.trace import Codes, Strings, Trace

__all__ = ["request_table"]


def _ids(values: Sequence[str] | None, rows: int) -> pa.Array:
    if values is None:
        return pa.array(np.arange(rows)).cast(pa.string())
    if isinstance(values, Strings):
        offsets = np.ascontiguousarray(values.offsets.astype(np.int64))
        data = np.ascontiguousarray(values.data)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.large_string(), rows, buffers).cast(pa.string())
    return pa.array(list(values), pa.string())


def _labels(codes: Codes | None, rows: int) -> pa.Array:
    """Strings, with null for the empty one."""
    if codes is None:
        return pa.nulls(rows, pa.string())
    names = pa.array([name or None for name in codes.names], pa.string())
    return names.take(pa.array(codes.codes))


def request_table(trace: Trace, outcome: Outcome) -> pa.Table:
    """Return one row per request.

    The columns are ``request_id``, ``session``, ``turn``, ``timestamp`` (s), ``prompt_len``,
    ``output_len``, ``hit_tokens``, ``computed_tokens`` (tokens), then ``salt`` and ``category`` if
    the trace has them, then those of the engine.
    """
    n = len(trace)
    columns: JsonObject = {
        "request_id": _ids(trace.request_id, n),
        "session": _labels(trace.session, n),
        "turn": pa.nulls(n, pa.uint32()) if trace.turn is None else pa.array(trace.turn),
        "timestamp": pa.array(trace.timestamp),
        "prompt_len": pa.array(trace.prompt_len),
        "output_len": pa.array(trace.output_len),
        "hit_tokens": pa.array(outcome.hit_tokens),
        "computed_tokens": pa.array(outcome.computed_tokens),
    }
    for name in ("salt", "category"):
        labels = getattr(trace, name)
        if labels is not None:
            columns[name] = _labels(labels, n)
    columns |= {
        name: pa.array(column, from_pandas=True)  # what is not a number is null
        for name, column in outcome.extra_columns().items()
    }
    return pa.table(columns)
