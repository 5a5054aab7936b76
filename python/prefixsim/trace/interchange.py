"""Traces from tables of other libraries, which give their columns through Arrow."""

from __future__ import annotations

from math import isfinite

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.trace.arrow import from_batches
from prefixsim.trace.trace import Trace

__all__ = ["from_arrow"]


def from_arrow(
    source: object, *, name: str = "memory", id_block_size: int | None = None, sort: bool = False
) -> Trace:
    """Take a trace from any object that gives Arrow columns; see :meth:`Trace.from_arrow`.

    Unlike in a file, ``timestamp`` may be missing (one request a second), or be dates, durations
    and times of any unit, which become seconds since the first request.

    Raises
    ------
    InputError
        If the source gives no Arrow columns, a column is missing, or one holds what it cannot.
    """
    if not hasattr(source, "__arrow_c_stream__") and not isinstance(source, pa.RecordBatch):
        msg = f"{type(source).__name__} gives no Arrow columns (it has no __arrow_c_stream__)"
        raise InputError(msg)
    try:
        table = pa.table(source)
    except (pa.ArrowInvalid, TypeError, ValueError) as error:
        msg = f"{name}: {str(error).splitlines()[0]}"
        raise InputError(msg) from None
    if not {"token_ids", "hash_ids", "text", "prompt_len"} & set(table.column_names):
        shown = ", ".join(table.column_names[:8])
        msg = f"{name}: columns ({shown}) tell no prompts: token_ids, hash_ids, text or prompt_len"
        raise InputError(msg)
    table, meta = _with_seconds(table, name)
    for label in ("request_id", "session", "salt", "category"):
        if label in table.column_names:
            at = table.schema.get_field_index(label)
            table = table.set_column(at, label, _words(table.column(label)))
    trace = from_batches(
        iter(table.to_batches()), table.schema, rows=table.num_rows, where=name,
        id_block_size=id_block_size,
    )  # fmt: skip
    row = trace.out_of_order()
    if row is not None and not sort:
        msg = f"{name}: row {row}: timestamp: earlier than the row before; pass sort=True"
        raise InputError(msg)
    return trace.sorted().replace(name=name, meta={**trace.meta, **meta})


def _with_seconds(table: pa.Table, where: str) -> tuple[pa.Table, JsonObject]:
    """Return the table with times in seconds, and what is known of their origin."""
    if "timestamp" not in table.column_names:
        return table.append_column("timestamp", pa.array(np.arange(float(table.num_rows)))), {}
    column = table.column("timestamp")
    at = table.schema.get_field_index("timestamp")
    if pa.types.is_duration(column.type):
        ticks = _nanoseconds(column, pa.duration("ns"), where)
        return table.set_column(at, "timestamp", pa.array(ticks / 1e9)), {}
    if not pa.types.is_timestamp(column.type):
        return table, {}
    ticks = _nanoseconds(column, pa.timestamp("ns", column.type.tz), where)
    first = int(ticks[0]) if len(ticks) else 0
    since = pa.array((ticks - first) / 1e9)
    return table.set_column(at, "timestamp", since), {"epoch_s": first / 1e9}


def _nanoseconds(column: pa.ChunkedArray, unit: pa.DataType, where: str) -> npt.NDArray[np.int64]:
    if column.null_count:
        msg = f"{where}: timestamp: has empty cells, fill them or drop the rows"
        raise InputError(msg)
    try:
        ticks: npt.NDArray[np.int64] = column.cast(unit).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        msg = f"{where}: timestamp: {str(error).splitlines()[0].lower()}"
        raise InputError(msg) from None
    return ticks


def _words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Labels as strings: numbers written plainly, not-a-number and missing ones empty."""
    if pa.types.is_dictionary(column.type) and not column.null_count:
        return column
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string()).fill_null("")
    values = column.to_pylist()
    words = [
        "" if v is None or not isfinite(v) else str(int(v)) if v.is_integer() else str(v)
        for v in values
    ]
    return pa.chunked_array([pa.array(words, pa.string())])
