"""prefixsim's own columnar files: Parquet, and Arrow IPC that is read as it lies.

Both hold the schema of :mod:`prefixsim.trace.arrow`.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from prefixsim._files import atomic_path
from prefixsim.errors import InputError
from prefixsim.formats._format import Confidence, Family, Format, Head, ReadOptions
from prefixsim.trace import Trace
from prefixsim.trace.arrow import from_batches, to_arrow

__all__ = ["ARROW", "PARQUET"]

_SIZES_KEY = b"prefixsim.list_values"
_ROW_GROUP = 65536
_ROW_GROUP_IDS = 1 << 20


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
        self._writer: Any = None  # Parquet or Arrow
        self._sizes: dict[str, int] = {}

    def __enter__(self) -> _TableWriter:
        self._temporary = self._stack.enter_context(atomic_path(self._path))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._writer is not None:
                if self._kind == "parquet":
                    self._writer.add_key_value_metadata({_SIZES_KEY: json.dumps(self._sizes)})
                self._writer.close()
            elif kind is None:
                msg = f"{self._path}: no request to write"
                raise InputError(msg)
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, traceback)

    def write(self, batch: Trace) -> None:
        """Append the requests of ``batch``."""
        table = to_arrow(batch)
        if self._writer is None:
            self._writer = self._open(table.schema)
        for name in table.schema.names:
            if pa.types.is_large_list(table.schema.field(name).type):
                values = sum(len(chunk.flatten()) for chunk in table[name].chunks)
                self._sizes[name] = self._sizes.get(name, 0) + values
        table = table.unify_dictionaries()
        if self._kind == "arrow":  # one record batch: a file written at once is read as it lies
            self._writer.write_table(table.combine_chunks())
            return
        for start, stop in _row_group_bounds(batch):
            self._writer.write_table(table.slice(start, stop - start))

    def _open(self, schema: pa.Schema) -> Any:
        if self._kind == "parquet":
            import pyarrow.parquet as pq

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
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split()).lower() or type(error).__name__
        msg = f"{path}: not a readable {what} file: {reason}"
        raise InputError(msg) from None


def _read_parquet(path: Path, options: ReadOptions) -> Trace:
    import pyarrow.parquet as pq

    with _refusing(path, "Parquet"):
        with pq.ParquetFile(path) as file:
            schema, facts = file.schema_arrow, file.metadata
        batches = _row_groups(path, facts.num_row_groups)
        trace = from_batches(
            batches, schema, rows=facts.num_rows, where=str(path), sizes=_list_sizes(facts)
        )
    return _in_order(trace, path, options)


def _list_sizes(facts: pa.Schema) -> dict[str, int]:
    """Return how many values the writer counted in each list column; a hint, not a promise.

    The metadata of columns says so, too, but pyarrow 26 aborts the process when it is asked for
    metadata of columns that are damaged.
    """
    sizes = json.loads((facts.metadata or {}).get(_SIZES_KEY, b"{}"))
    known = isinstance(sizes, dict) and all(type(n) is int and n >= 0 for n in sizes.values())
    return sizes if known else {}


def _row_groups(path: Path, groups: int) -> Iterator[pa.RecordBatch]:
    """Decode row groups on all cores, in order, with only a few of them in memory."""
    import pyarrow.parquet as pq

    workers = min(os.cpu_count() or 1, groups)
    readers: SimpleQueue[pa.parquet.ParquetFile] = (
        SimpleQueue()
    )  # opened once per worker: metadata is read again

    def decode(group: int) -> pa.Table:
        reader = readers.get()
        try:
            return reader.read_row_group(group, use_threads=False)
        finally:
            readers.put(reader)

    with ExitStack() as stack:
        for _ in range(workers):
            readers.put(stack.enter_context(pq.ParquetFile(path)))
        pool = stack.enter_context(ThreadPoolExecutor(max(workers, 1)))
        ahead = deque(pool.submit(decode, group) for group in range(workers))
        submitted = len(ahead)
        while ahead:
            table = ahead.popleft().result()
            if submitted < groups:
                ahead.append(pool.submit(decode, submitted))
                submitted += 1
            yield from table.to_batches()


def _read_arrow(path: Path, options: ReadOptions) -> Trace:
    # Read, not mapped: where somebody cuts a mapped file, the process ends (SIGBUS).
    with _refusing(path, "Arrow"), pa.OSFile(str(path)) as source:
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
    row = trace.out_of_order()
    if row is not None and not options.sort:
        msg = f"{path}: row {row}: timestamp: earlier than the row before; pass --sort"
        raise InputError(msg)
    return trace.sorted()


def _begins(head: Head, magic: bytes) -> Confidence:
    return Confidence.CERTAIN if head.start.startswith(magic) else Confidence.NO


PARQUET = Format(
    name="parquet",
    title="prefixsim Parquet: the native columns, compressed",
    family=Family.BINARY,
    matches=lambda head: _begins(head, b"PAR1"),
    read=_read_parquet,
    open_writer=lambda path: _TableWriter(path, "parquet"),
    endings=(".parquet",),
)

ARROW = Format(
    name="arrow",
    title="prefixsim Arrow IPC stream: the native columns, not compressed",
    family=Family.BINARY,
    matches=lambda head: _begins(head, b"\xff\xff\xff\xff"),
    read=_read_arrow,
    open_writer=lambda path: _TableWriter(path, "arrow"),
    endings=(".arrow",),
)
