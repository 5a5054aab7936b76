"""prefixsim's own columnar files: Parquet, and Arrow IPC that is memory-mapped.

Schema version 1, one row per request, optional columns left out:

==================  ==========================  =============================================
column              type                        meaning
==================  ==========================  =============================================
request_id          string
session             dictionary of string        conversation
turn                uint32                      0-based position in the session
timestamp           float64                     seconds
prompt_len          uint32                      tokens
output_len          uint32                      tokens
token_ids           large_list of uint32        prompt, or
hash_ids            large_list of uint64        chained ids, or
text                large_string                prompt that is not tokenized
output_token_ids    large_list of uint32
output_text         large_string
salt, category      dictionary of string
==================  ==========================  =============================================

The schema's metadata holds, under ``prefixsim``, a JSON object with ``version``,
``id_block_size`` and ``meta``.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prefixsim._files import atomic_path
from prefixsim.errors import InputError
from prefixsim.formats._registry import Format, ReadOptions, Source
from prefixsim.trace import Codes, Ragged, Strings, Trace

__all__ = ["ARROW", "PARQUET", "SCHEMA_VERSION", "from_batches", "to_arrow"]

SCHEMA_VERSION = 1
_META_KEY = b"prefixsim"
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())
_ROW_GROUP = 65536
_ROW_GROUP_IDS = 1 << 22


def _codes_array(codes: Codes) -> pa.Array:
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.codes.astype(np.int32)), pa.array(codes.names, pa.string())
    )


def _strings_array(values: Sequence[str], kind: pa.DataType) -> pa.Array:
    return pa.array(list(values), kind)


def _ragged_array(ragged: Ragged) -> pa.Array:
    return pa.LargeListArray.from_arrays(
        pa.array(ragged.offsets.astype(np.int64)), pa.array(ragged.values)
    )


def to_arrow(trace: Trace) -> pa.Table:
    """Return a trace as an Arrow table with the native schema."""
    columns: dict[str, pa.Array] = {}
    if trace.request_id is not None:
        columns["request_id"] = _strings_array(trace.request_id, pa.string())
    if trace.session is not None:
        columns["session"] = _codes_array(trace.session)
    if trace.turn is not None:
        columns["turn"] = pa.array(trace.turn)
    columns["timestamp"] = pa.array(trace.timestamp)
    columns["prompt_len"] = pa.array(trace.prompt_len)
    columns["output_len"] = pa.array(trace.output_len)
    if trace.prompts is not None:
        name = "token_ids" if trace.kind == "tokens" else "hash_ids"
        columns[name] = _ragged_array(trace.prompts)
    if trace.texts is not None:
        columns["text"] = _strings_array(trace.texts, pa.large_string())
    if trace.outputs is not None:
        columns["output_token_ids"] = _ragged_array(trace.outputs)
    if trace.output_texts is not None:
        columns["output_text"] = _strings_array(trace.output_texts, pa.large_string())
    for name in ("salt", "category"):
        codes = getattr(trace, name)
        if codes is not None:
            columns[name] = _codes_array(codes)
    facts = {
        "version": SCHEMA_VERSION,
        "id_block_size": trace.id_block_size,
        "meta": trace.meta,
    }
    table = pa.table(columns)
    return table.replace_schema_metadata({_META_KEY: json.dumps(facts, default=str).encode()})


def from_batches(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, *, rows: int, where: str
) -> Trace:
    """Join Arrow record batches with the native schema into one trace.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
    schema : pyarrow.Schema
    rows : int
        Number of rows in all batches.
    where : str
        File name for messages.
    """
    facts = _facts(schema, where)
    names = set(schema.names)
    _check_names(names, where)
    scalars: dict[str, npt.NDArray[Any]] = {
        name: np.empty(rows, dtype=np.float64 if name == "timestamp" else np.uint32)
        for name in ("timestamp", "prompt_len", "output_len", "turn")
        if name in names
    }
    lists = {
        name: _ListJoin(np.uint64 if name == "hash_ids" else np.uint32)
        for name in ("token_ids", "hash_ids", "output_token_ids")
        if name in names
    }
    words: dict[str, list[pa.Array]] = {
        name: []
        for name in ("request_id", "session", "salt", "category", "text", "output_text")
        if name in names
    }
    at = 0
    for batch in batches:
        for name, column in scalars.items():
            column[at : at + len(batch)] = _numbers(batch.column(name), name, where)
        for name, joined in lists.items():
            joined.add(batch.column(name), name, where)
        for name, parts in words.items():
            parts.append(batch.column(name))
        at += len(batch)
    ragged = {name: joined.finish() for name, joined in lists.items()}
    prompts = ragged.get("token_ids", ragged.get("hash_ids"))
    lengths = scalars.get("prompt_len")
    if lengths is None:
        lengths = prompts.lengths.astype(np.uint32) if prompts else np.zeros(rows, np.uint32)
    if not np.all(np.isfinite(scalars["timestamp"])):
        row = int(np.argmin(np.isfinite(scalars["timestamp"])))
        msg = f"{where}: row {row}: timestamp: is not finite, correct the file"
        raise InputError(msg)
    return Trace(
        timestamp=scalars["timestamp"],
        prompt_len=lengths,
        output_len=scalars.get("output_len", np.zeros(rows, np.uint32)),
        prompts=prompts,
        id_block_size=int(facts["id_block_size"]),
        outputs=ragged.get("output_token_ids"),
        texts=_strings(words.get("text")),
        output_texts=_strings(words.get("output_text")),
        request_id=_strings(words.get("request_id")),
        session=_codes(words.get("session")),
        turn=scalars.get("turn"),
        salt=_codes(words.get("salt")),
        category=_codes(words.get("category")),
        meta=dict(facts["meta"]),
    )


def _facts(schema: pa.Schema, where: str) -> dict[str, Any]:
    raw = (schema.metadata or {}).get(_META_KEY)
    if raw is None:
        return {"version": SCHEMA_VERSION, "id_block_size": 1, "meta": {}}
    facts: dict[str, Any] = json.loads(raw)
    if facts.get("version", 0) > SCHEMA_VERSION:
        msg = (
            f"{where}: written with schema version {facts['version']}, this prefixsim reads up to "
            f"{SCHEMA_VERSION}: upgrade prefixsim"
        )
        raise InputError(msg)
    return facts


def _check_names(names: set[str], where: str) -> None:
    if "timestamp" not in names:
        msg = f"{where}: timestamp: column is missing, expected the native schema (docs/formats.md)"
        raise InputError(msg)
    if {"token_ids", "hash_ids"} <= names:
        msg = f"{where}: has token_ids and hash_ids, keep the column that holds the prompts"
        raise InputError(msg)


def _numbers(column: pa.Array, name: str, where: str) -> npt.NDArray[Any]:
    wanted = pa.float64() if name == "timestamp" else pa.uint32()
    if column.null_count:
        msg = f"{where}: {name}: has empty cells, fill them or drop the rows"
        raise InputError(msg)
    try:
        return column.cast(wanted).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    except pa.ArrowInvalid as error:
        msg = f"{where}: {name}: {str(error).splitlines()[0].lower()}"
        raise InputError(msg) from None


class _ListJoin:
    """Joins list columns batch by batch, holding each batch once."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._values: list[npt.NDArray[Any]] = []
        self._lengths: list[npt.NDArray[np.int64]] = []

    def add(self, column: pa.Array, name: str, where: str) -> None:
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
            msg = f"{where}: {name}: is {column.type}, expected lists of whole numbers"
            raise InputError(msg)
        if column.null_count:
            msg = f"{where}: {name}: has empty cells, fill them or drop the rows"
            raise InputError(msg)
        values = column.flatten()
        try:
            values = values.cast(pa.from_numpy_dtype(self._dtype))
        except pa.ArrowInvalid as error:
            msg = f"{where}: {name}: {str(error).splitlines()[0].lower()}"
            raise InputError(msg) from None
        self._values.append(values.to_numpy(zero_copy_only=False))
        self._lengths.append(np.diff(column.offsets.to_numpy(zero_copy_only=False)))

    def finish(self) -> Ragged:
        lengths = np.concatenate(self._lengths) if self._lengths else np.empty(0, np.int64)
        offsets = np.zeros(len(lengths) + 1, dtype=np.uint64)
        np.cumsum(lengths, out=offsets[1:])
        if len(self._values) == 1:
            return Ragged(offsets, self._values[0])
        values = np.empty(int(offsets[-1]), dtype=self._dtype)
        at = 0
        self._values.reverse()
        while self._values:  # let go of each part once it is copied
            part = self._values.pop()
            values[at : at + len(part)] = part
            at += len(part)
        return Ragged(offsets, values)


def _strings(parts: list[pa.Array] | None) -> Strings | None:
    if parts is None:
        return None
    joined = pa.chunked_array([p.cast(pa.large_string()) for p in parts], pa.large_string())
    array = joined.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], pa.large_string())
    _, offsets, data = array.fill_null("").buffers()
    length = len(array)
    positions = (
        np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + length + 1]
        if offsets is not None and length
        else np.zeros(1, np.int64)
    )
    text = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, np.uint8)
    return Strings(positions.astype(np.uint64), text)


def _codes(parts: list[pa.Array] | None) -> Codes | None:
    if parts is None:
        return None
    plain = [
        part if pa.types.is_dictionary(part.type) else part.cast(pa.string()).dictionary_encode()
        for part in parts
    ]
    joined = pa.chunked_array(plain, plain[0].type if plain else _DICTIONARY).unify_dictionaries()
    if not joined.num_chunks:
        return Codes(np.empty(0, np.uint32), [])
    names = ["" if name is None else str(name) for name in joined.chunk(0).dictionary.to_pylist()]
    codes = np.concatenate(
        [
            chunk.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
            for chunk in joined.chunks
        ]
    ).astype(np.uint32)
    if len(codes) and int(codes.max()) == len(names):
        names.append("")
    return Codes(codes, names)


def _row_group_bounds(trace: Trace) -> list[tuple[int, int]]:
    """Cut a trace into row groups, so that a reader needs little memory beyond the columns."""
    size = np.zeros(len(trace) + 1)
    for ragged in (trace.prompts, trace.outputs):
        if ragged is not None:
            size[1:] += np.cumsum(ragged.lengths)
    group = np.maximum(size[:-1] // _ROW_GROUP_IDS, np.arange(len(trace)) // _ROW_GROUP)
    starts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist()]
    return list(pairwise([*starts, len(trace)])) if len(trace) else []


class _TableWriter:
    """Writes record batches through a pyarrow writer opened at the first batch."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._kind = kind
        self._stack = ExitStack()
        self._temporary = path
        self._writer: Any = None

    def __enter__(self) -> _TableWriter:
        self._temporary = self._stack.enter_context(atomic_path(self._path))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        elif kind is None:
            msg = f"{self._path}: no request to write"
            failure = InputError(msg)
            self._stack.__exit__(InputError, failure, None)
            raise failure
        self._stack.__exit__(kind, error, traceback)

    def write(self, batch: Trace) -> None:
        """Append the requests of ``batch``."""
        table = to_arrow(batch)
        if self._writer is None:
            self._writer = self._open(table.schema)
        table = table.unify_dictionaries()
        for start, stop in _row_group_bounds(batch):
            self._writer.write_table(table.slice(start, stop - start))

    def _open(self, schema: pa.Schema) -> Any:
        if self._kind == "parquet":
            import pyarrow.parquet as pq  # noqa: PLC0415

            lists = [n for n in schema.names if pa.types.is_large_list(schema.field(n).type)]
            words = [n for n in schema.names if pa.types.is_dictionary(schema.field(n).type)]
            return pq.ParquetWriter(
                self._temporary,
                schema,
                compression="zstd",
                use_dictionary=words,
                column_encoding={f"{name}.list.element": "DELTA_BINARY_PACKED" for name in lists},
            )
        # Each batch brings its own dictionary.
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=False, unify_dictionaries=False)
        return pa.ipc.new_stream(self._temporary, schema, options=options)


@contextmanager
def _refusing(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a broken file raises in pyarrow into one line."""
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split()).lower() or type(error).__name__
        msg = f"{path}: not a readable {what} file: {reason}"
        raise InputError(msg) from None


def _read_parquet(path: Path, options: ReadOptions) -> Trace:
    import pyarrow.parquet as pq  # noqa: PLC0415

    with _refusing(path, "Parquet"):
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            groups = file.metadata.num_row_groups
        trace = from_batches(_row_groups(path, groups), schema, rows=rows, where=str(path))
    return _in_order(trace, path, options)


def _row_groups(path: Path, groups: int) -> Iterator[pa.RecordBatch]:
    """Decode row groups on all cores, in order, with only a few of them in memory."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    import pyarrow.parquet as pq  # noqa: PLC0415

    def decode(group: int) -> pa.Table:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(group, use_threads=False)

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead = deque(pool.submit(decode, group) for group in range(min(workers, groups)))
        submitted = len(ahead)
        while ahead:
            table = ahead.popleft().result()
            if submitted < groups:
                ahead.append(pool.submit(decode, submitted))
                submitted += 1
            yield from table.to_batches()


def _read_arrow(path: Path, options: ReadOptions) -> Trace:
    with _refusing(path, "Arrow"), pa.memory_map(str(path)) as source:
        batches = list(pa.ipc.open_stream(source))
        if not batches:
            msg = f"{path}: is empty, expected requests"
            raise InputError(msg)
        for batch in batches:
            batch.validate(full=True)
        rows = sum(len(batch) for batch in batches)
        trace = from_batches(iter(batches), batches[0].schema, rows=rows, where=str(path))
    return _in_order(trace, path, options)


def _in_order(trace: Trace, path: Path, options: ReadOptions) -> Trace:
    if not len(trace):
        msg = f"{path}: is empty, expected requests"
        raise InputError(msg)
    back = np.flatnonzero(np.diff(trace.timestamp) < 0)
    if len(back) and not options.sort:
        msg = f"{path}: row {back[0] + 1}: timestamp: earlier than the row before; pass --sort"
        raise InputError(msg)
    return trace.sorted()


def _sniff_parquet(source: Source) -> bool:
    return source.head.startswith(b"PAR1")


def _sniff_arrow(source: Source) -> bool:
    return source.head.startswith(b"\xff\xff\xff\xff")


PARQUET = Format(
    name="parquet",
    title="prefixsim Parquet: the native columns, compressed",
    sniff=_sniff_parquet,
    read=_read_parquet,
    open_writer=lambda path: _TableWriter(path, "parquet"),
    endings=(".parquet",),
)

ARROW = Format(
    name="arrow",
    title="prefixsim Arrow IPC stream: the native columns, memory-mapped",
    sniff=_sniff_arrow,
    read=_read_arrow,
    open_writer=lambda path: _TableWriter(path, "arrow"),
    endings=(".arrow",),
)
