"""Traces as Arrow tables: the native schema, which the columnar files hold.

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
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.trace.columns import Array, Codes, Ragged, Strings, offsets_of
from prefixsim.trace.trace import Trace

__all__ = ["SCHEMA_VERSION", "from_batches", "to_arrow"]

SCHEMA_VERSION = 1
_META_KEY = b"prefixsim"
_FIRST_VALUES = 1 << 16
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


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
    if trace.answer_s is not None:
        columns["answer_s"] = pa.array(trace.answer_s)
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
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    *,
    rows: int,
    where: str,
    sizes: Mapping[str, int] | None = None,
    id_block_size: int | None = None,
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
    sizes : mapping, optional
        About how many values list columns have; they are copied into one array as they come.
        Default: batches are kept to the end, which costs nothing if there is one, as its arrays are
        the columns.
    id_block_size : int, optional
        Tokens of a hash id. Default: as the schema's metadata says, else 1.
    """
    facts = _facts(schema, where)
    if id_block_size is not None:
        facts = {**facts, "id_block_size": id_block_size}
    names = set(schema.names)
    _check_names(names, where)
    scalars, lists = _empty_scalars(names, rows), _empty_lists(names, sizes)
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
    if at != rows:
        msg = f"{where}: has {at} rows, its metadata says {rows}"
        raise InputError(msg)
    ragged = {name: joined.finish() for name, joined in lists.items()}
    prompts = ragged.get("token_ids", ragged.get("hash_ids"))
    unit = int(facts["id_block_size"])
    trace = Trace(
        timestamp=scalars["timestamp"],
        prompt_len=_prompt_lengths(scalars.get("prompt_len"), prompts, rows, unit),
        output_len=scalars.get("output_len", np.zeros(rows, np.uint32)),
        prompts=prompts,
        id_block_size=unit,
        outputs=ragged.get("output_token_ids"),
        texts=_strings(words.get("text")),
        output_texts=_strings(words.get("output_text")),
        request_id=_strings(words.get("request_id")),
        session=_codes(words.get("session")),
        turn=scalars.get("turn"),
        answer_s=scalars.get("answer_s"),
        salt=_codes(words.get("salt")),
        category=_codes(words.get("category")),
        meta=dict(facts["meta"]),
    )
    row = trace.outside_time()
    if row is not None:
        msg = f"{where}: row {row}: timestamp: {trace.timestamp[row]:g} s is no time"
        raise InputError(msg)
    return trace


def _prompt_lengths(
    known: Array | None, prompts: Ragged | None, rows: int, unit: int
) -> npt.NDArray[np.uint32]:
    """Tokens of each prompt: as stated, else of all its ids."""
    if known is not None:
        return known
    counts = prompts.lengths if prompts else np.zeros(rows, np.uint64)
    return (counts * np.uint64(unit)).astype(np.uint32)


def _empty_scalars(names: set[str], rows: int) -> dict[str, Array]:
    return {
        name: np.empty(rows, np.float64 if name in ("timestamp", "answer_s") else np.uint32)
        for name in ("timestamp", "answer_s", "prompt_len", "output_len", "turn")
        if name in names
    }


def _empty_lists(names: set[str], sizes: Mapping[str, int] | None) -> dict[str, _ListJoin]:
    return {
        name: _ListJoin(
            np.uint64 if name == "hash_ids" else np.uint32,
            None if sizes is None else sizes.get(name, 0),
        )
        for name in ("token_ids", "hash_ids", "output_token_ids")
        if name in names
    }


def _facts(schema: pa.Schema, where: str) -> JsonObject:
    raw = (schema.metadata or {}).get(_META_KEY)
    if raw is None:
        return {"version": SCHEMA_VERSION, "id_block_size": 1, "meta": {}}
    facts: JsonObject = json.loads(raw)
    if not _well_formed(facts):
        msg = f"{where}: the facts in its schema ({raw[:60].decode(errors='replace')}) are damaged"
        raise InputError(msg)
    if facts["version"] > SCHEMA_VERSION:
        msg = (
            f"{where}: written with schema version {facts['version']}, this prefixsim reads up to "
            f"{SCHEMA_VERSION}: upgrade prefixsim"
        )
        raise InputError(msg)
    return facts


def _well_formed(facts: object) -> bool:
    """Whether the metadata holds what this module wrote there, of these types."""
    if not isinstance(facts, dict) or type(facts.get("version")) is not int:
        return False
    size, meta = facts.get("id_block_size"), facts.get("meta")
    return type(size) is int and 0 < size < 2**32 and isinstance(meta, dict)


def _check_names(names: set[str], where: str) -> None:
    if "timestamp" not in names:
        msg = f"{where}: timestamp: column is missing, expected the native schema (docs/formats.md)"
        raise InputError(msg)
    if {"token_ids", "hash_ids"} <= names:
        msg = f"{where}: has token_ids and hash_ids, keep the column that holds the prompts"
        raise InputError(msg)


def _numbers(column: pa.Array, name: str, where: str) -> Array:
    wanted = pa.float64() if name == "timestamp" else pa.uint32()
    if column.null_count:
        msg = f"{where}: {name}: has empty cells, fill them or drop the rows"
        raise InputError(msg)
    try:
        numbers: Array = column.cast(wanted).to_numpy(zero_copy_only=False)
        return numbers
    except pa.ArrowInvalid as error:
        msg = f"{where}: {name}: {str(error).splitlines()[0].lower()}"
        raise InputError(msg) from None


class _ListJoin:
    """Joins list columns batch by batch.

    Parameters
    ----------
    dtype : dtype
    size : int or None
        Copy them into one array as they come, of about so many values; ``None``: batches are kept,
        and a single one is not copied at all.
    """

    def __init__(self, dtype: npt.DTypeLike, size: int | None) -> None:
        self._dtype = np.dtype(dtype)
        self._whole = None if size is None else np.empty(size, dtype=self._dtype)
        self._filled = 0
        self._parts: list[Array] = []
        self._lengths: list[npt.NDArray[np.int64]] = []

    def add(self, column: pa.Array, name: str, where: str) -> None:
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
            msg = f"{where}: {name}: is {column.type}, expected lists of whole numbers"
            raise InputError(msg)
        values = column.flatten()
        if column.null_count or values.null_count:
            msg = f"{where}: {name}: has empty cells, fill them or drop the rows"
            raise InputError(msg)
        try:
            values = values.cast(pa.from_numpy_dtype(self._dtype))
        except pa.ArrowInvalid as error:
            msg = f"{where}: {name}: {str(error).splitlines()[0].lower()}"
            raise InputError(msg) from None
        part = values.to_numpy(zero_copy_only=False)
        if self._whole is None:
            self._parts.append(part)
        else:
            end = self._filled + len(part)
            if end > len(self._whole):  # in place: large arrays are moved by the kernel, not copied
                self._whole.resize(
                    max(end, len(self._whole) * 5 // 4, _FIRST_VALUES), refcheck=False
                )
            self._whole[self._filled : end] = part
            self._filled = end
        self._lengths.append(np.diff(column.offsets.to_numpy(zero_copy_only=False)))

    def finish(self) -> Ragged:
        lengths = np.concatenate(self._lengths) if self._lengths else np.empty(0, np.int64)
        offsets = offsets_of(lengths)
        if self._whole is not None:
            return Ragged(offsets, self._whole[: self._filled])
        if len(self._parts) == 1:
            return Ragged(offsets, self._parts[0])
        return Ragged(offsets, np.concatenate([np.empty(0, self._dtype), *self._parts]))


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
