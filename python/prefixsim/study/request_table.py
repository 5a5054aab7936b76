"""The table with one row per request, and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prefixsim._files import atomic_path
from prefixsim.engines.outcome import Outcome
from prefixsim.errors import InputError
from prefixsim.trace import Codes, Strings, Trace

__all__ = ["ENDINGS", "check_ending", "request_table", "write_requests"]

ENDINGS = (".parquet", ".csv", ".jsonl")
"""Endings of file names that :func:`write_requests` takes."""

_BATCH = 65536
_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+\-]?[0-9]+(\.[0-9]+)?([eE][+\-]?[0-9]+)?$"


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
    columns: dict[str, Any] = {
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
        for name, column in outcome.columns.items()
    }
    return pa.table(columns)


def check_ending(path: Path) -> None:
    """Refuse a file name whose ending says no form of table."""
    if path.suffix not in ENDINGS:
        msg = f"{path}: the ending says no table format, use one of {', '.join(ENDINGS)}"
        raise InputError(msg)


def write_requests(table: pa.Table, path: str | Path) -> None:
    """Write a table as Parquet, CSV or JSON Lines, by the ending of ``path``; whole or not at all.

    Raises
    ------
    InputError
        If the ending is none of :data:`ENDINGS`.
    """
    path = Path(path)
    check_ending(path)
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, temporary, compression="zstd")
        elif path.suffix == ".csv":
            from pyarrow import csv

            safe = without_formulas(table)
            csv.write_csv(safe, temporary, csv.WriteOptions(quoting_style="needed"))
        else:
            _write_jsonl(table, temporary)


def without_formulas(table: pa.Table) -> pa.Table:
    """Return a table whose texts no spreadsheet takes for formulas.

    A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an
    apostrophe in front, unless it is a number. Only for CSV: other files hold texts as they are.
    """
    import pyarrow.compute as pc

    for i, field in enumerate(table.schema):
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            continue
        column = table.column(i)
        formula = pc.match_substring_regex(column, _FORMULA)
        number = pc.match_substring_regex(column, _NUMBER)
        risky = pc.and_not(formula, number)
        if pc.any(risky).as_py():
            marked = pc.binary_join_element_wise(pa.scalar("'", field.type), column, "")
            table = table.set_column(i, field, pc.if_else(risky, marked, column))
    return table


def _write_jsonl(table: pa.Table, path: Path) -> None:
    encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for batch in table.to_batches(_BATCH):
            out.writelines(encode(_finite(row)) + "\n" for row in batch.to_pylist())


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row.items()}
