"""Arrow tables as files: Parquet, CSV or JSON Lines, by the ending of the name."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim._files import atomic_path
from prefixsim._json import JsonObject
from prefixsim.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ENDINGS", "check_ending", "without_formulas", "write_table"]

ENDINGS = (".parquet", ".csv", ".jsonl")
"""Endings of file names that :func:`write_table` takes."""

_BATCH = 65536
_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+\-]?[0-9]+(\.[0-9]+)?([eE][+\-]?[0-9]+)?$"


def check_ending(path: Path) -> None:
    """Refuse a file name whose ending says no form of table."""
    if path.suffix not in ENDINGS:
        msg = f"{path}: the ending says no table format, use one of {', '.join(ENDINGS)}"
        raise InputError(msg)


def write_table(table: pa.Table, path: str | Path) -> None:
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
    import pyarrow as pa
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


def _finite(row: JsonObject) -> JsonObject:
    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row.items()}
