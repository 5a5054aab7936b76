"""The trace: requests ordered by timestamp, in columns.

A :class:`Trace` is what every reader produces and everything else consumes. Its columns are
NumPy arrays that the Rust core borrows and never copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.table import Table, html, written
from prefixsim.trace.columns import COLUMNS, Array, Codes, Ragged, Strings, taken
from prefixsim.trace.digest import content_digest
from prefixsim.trace.request import Request, request_at

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["LATEST_S", "Trace", "TraceKind"]

LATEST_S = 1e19
"""Times lie within this many seconds of zero, far beyond nanoseconds taken for seconds, so that
they can be subtracted and summed."""

TraceKind = Literal["tokens", "hashes", "text", "lengths"]
"""What a trace knows of its prompts: token ids, chained hash ids, text, or only lengths."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests ordered by timestamp, in columns.

    Exactly one of token ids, hash ids, texts, or nothing (lengths only) describes the prompts.

    Attributes
    ----------
    timestamp : ndarray of float64, shape (requests,)
        Arrival time in seconds, ascending.
    prompt_len, output_len : ndarray of uint32, shape (requests,)
        In tokens. ``prompt_len`` is 0 where a text trace is not tokenized yet.
    prompts : Ragged or None
        Token ids (uint32), or chained hash ids (uint64) of ``id_block_size`` tokens each, of which
        the last may stand for fewer.
    id_block_size : int
        Tokens per id: 1 for token ids.
    outputs : Ragged or None
        Output token ids, where the source has them.
    texts, output_texts : sequence of str or None
        Prompts that are not tokenized yet, and their answers.
    request_id : sequence of str or None
        ``None``: the row number.
    session : Codes or None
        Conversation of each request. ``None``: unknown.
    turn, answer_s : ndarray of uint32, of float64, or None
        0-based position in the session; seconds to the end of the answer, 0 where unknown.
    salt : Codes or None
        Isolation key; the empty string is "no salt". ``None``: no request has one.
    category : Codes or None
        A label to group by.
    name, format : str
        Where the trace came from, for titles and messages.
    meta : dict
        Facts about how the trace was made (seed, tokenizer...), kept as provenance.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([[1, 2, 3], [1, 2]], name="mine")
    >>> trace.kind, len(trace), trace.prompt_tokens
    ('tokens', 2, 5)
    >>> trace[:1].prompt_len.tolist()
    [3]
    """

    timestamp: npt.NDArray[np.float64]
    prompt_len: npt.NDArray[np.uint32]
    output_len: npt.NDArray[np.uint32]
    prompts: Ragged | None = None
    id_block_size: int = 1
    outputs: Ragged | None = None
    texts: Sequence[str] | None = None
    output_texts: Sequence[str] | None = None
    request_id: Sequence[str] | None = None
    session: Codes | None = None
    turn: npt.NDArray[np.uint32] | None = None
    answer_s: npt.NDArray[np.float64] | None = None
    salt: Codes | None = None
    category: Codes | None = None
    name: str = "trace"
    format: str = "memory"
    meta: JsonObject = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.timestamp)
        for f in fields(self):
            column = getattr(self, f.name)
            if f.name in COLUMNS and column is not None and len(column) != n:
                msg = f"{self.name}: column {f.name} has {len(column)} rows, timestamp has {n}"
                raise InputError(msg)

    def outside_time(self) -> int | None:
        """Row of the first timestamp that is none: not finite, or beyond :data:`LATEST_S`."""
        good = np.abs(self.timestamp) <= LATEST_S
        return None if good.all() else int(np.argmin(good))

    @classmethod
    def from_prompts(
        cls,
        prompts: Sequence[object],
        *,
        timestamp: Sequence[float] | None = None,
        output_len: Sequence[int] | npt.NDArray[np.generic] | None = None,
        outputs: Sequence[object] | None = None,
        session: Sequence[str] | None = None,
        salt: Sequence[str | None] | None = None,
        name: str = "memory",
    ) -> Trace:
        """Build a token trace from sequences of token ids.

        Parameters
        ----------
        prompts : sequence of integer sequences
            Token ids of each prompt, in arrival order.
        timestamp : sequence of float, optional
            Arrival times in seconds, ascending. Default: one request a second.
        output_len : sequence of int, optional
            Default: the lengths of ``outputs``, else 0.
        outputs : sequence of integer sequences, optional
            Output token ids.
        session, salt : sequence of str, optional
        name : str, optional

        Examples
        --------
        >>> trace = Trace.from_prompts([[1, 2, 3], [1, 2, 3, 4]])
        >>> len(trace), trace.prompt_len.tolist()
        (2, [3, 4])
        """
        column = Ragged.from_lists(prompts)
        produced = None if outputs is None else Ragged.from_lists(outputs)
        if output_len is None and produced is not None:
            output_len = produced.lengths
        return cls._of_rows(
            len(column),
            (timestamp, output_len, session, salt),
            prompt_len=column.lengths.astype(np.uint32),
            prompts=column,
            outputs=produced,
            name=name,
        )

    @classmethod
    def _of_rows(
        cls,
        rows: int,
        known: tuple[
            Sequence[float] | None,
            Sequence[int] | npt.NDArray[np.generic] | None,
            Sequence[str] | None,
            Sequence[str | None] | None,
        ],
        **columns: Any,
    ) -> Trace:
        """Build a trace of what every kind may know: times, output lengths, sessions, salts."""
        timestamp, output_len, session, salt = known
        times = np.arange(rows) if timestamp is None else timestamp
        trace = cls(
            timestamp=np.asarray(times, dtype=np.float64),
            output_len=np.asarray(np.zeros(rows) if output_len is None else output_len, np.uint32),
            session=None if session is None else Codes.from_strings(session),
            salt=None if salt is None else Codes.from_strings(salt),
            **columns,
        )
        row = trace.outside_time()
        if row is not None:
            msg = f"{trace.name}: row {row}: timestamp: {trace.timestamp[row]:g} s is no time"
            raise InputError(msg)
        return trace

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        *,
        timestamp: Sequence[float] | None = None,
        output_texts: Sequence[str] | None = None,
        output_len: Sequence[int] | None = None,
        session: Sequence[str] | None = None,
        salt: Sequence[str | None] | None = None,
        name: str = "memory",
    ) -> Trace:
        """Build a trace of prompts as text, which a replay tokenizes.

        Parameters
        ----------
        texts : sequence of str
            Prompts in arrival order.
        timestamp : sequence of float, optional
            Arrival times in seconds, ascending. Default: one request a second.
        output_texts : sequence of str, optional
            Answers.
        output_len : sequence of int, optional
            Tokens of each answer. Default: 0.
        session, salt : sequence of str, optional
        name : str, optional

        Examples
        --------
        >>> Trace.from_texts(["Hello", "Hello, you"])
        <Trace memory: 2 requests, text>
        """
        return cls._of_rows(
            len(texts),
            (timestamp, output_len, session, salt),
            prompt_len=np.zeros(len(texts), dtype=np.uint32),
            texts=Strings.from_list(texts),
            output_texts=None if output_texts is None else Strings.from_list(output_texts),
            name=name,
        )

    @staticmethod
    def from_arrow(
        source: object,
        *,
        name: str = "memory",
        id_block_size: int | None = None,
        sort: bool = False,
    ) -> Trace:
        """Take a trace from Arrow columns; see :func:`prefixsim.trace.interchange.from_arrow`.

        Parameters
        ----------
        source : object with ``__arrow_c_stream__``
            A table of pyarrow, polars, DuckDB, pandas or another library, with columns of the
            native schema: ``token_ids``, ``hash_ids``, ``text`` or ``prompt_len``, and what is
            known beside them (``timestamp``, ``output_len``, ``session``, ``salt``...).
        name : str, optional
        id_block_size : int, optional
            Tokens of each of ``hash_ids``.
        sort : bool, optional
            Sort by timestamp instead of refusing rows that are not sorted.

        Examples
        --------
        >>> import pyarrow as pa
        >>> Trace.from_arrow(pa.table({"token_ids": [[1, 2], [1, 2, 3]], "session": ["a", None]}))
        <Trace memory: 2 requests, tokens>
        """
        from prefixsim.trace.interchange import from_arrow

        return from_arrow(source, name=name, id_block_size=id_block_size, sort=sort)

    @staticmethod
    def from_pandas(
        frame: pd.DataFrame, *, name: str = "memory", id_block_size: int | None = None,
        sort: bool = False,
    ) -> Trace:  # fmt: skip
        """Take a trace from a pandas data frame; columns as for :meth:`from_arrow`.

        Examples
        --------
        >>> import pandas as pd
        >>> Trace.from_pandas(pd.DataFrame({"token_ids": [[1, 2], [1, 2, 3]]})).prompt_tokens
        5
        """
        import pyarrow as pa

        table = pa.Table.from_pandas(frame, preserve_index=False)
        return Trace.from_arrow(table, name=name, id_block_size=id_block_size, sort=sort)

    @staticmethod
    def from_polars(
        frame: pl.DataFrame | pl.LazyFrame, *, name: str = "memory",
        id_block_size: int | None = None, sort: bool = False,
    ) -> Trace:  # fmt: skip
        """Take a trace from a polars data frame; columns as for :meth:`from_arrow`."""
        collect = getattr(frame, "collect", None)
        whole = frame if collect is None else collect()
        return Trace.from_arrow(whole, name=name, id_block_size=id_block_size, sort=sort)

    @staticmethod
    def read(path: str | Path, *, format: str | None = None, **options: Any) -> Trace:  # noqa: A002
        """Read a trace file; see :func:`prefixsim.formats.read_trace`."""
        from prefixsim.formats import read_trace

        return read_trace(path, format=format, **options)

    def write(self, path: str | Path, *, format: str | None = None) -> None:  # noqa: A002
        """Write a trace file; see :func:`prefixsim.formats.write_trace`."""
        from prefixsim.formats import write_trace

        write_trace(self, path, format=format)

    def __len__(self) -> int:
        return len(self.timestamp)

    def __repr__(self) -> str:
        return f"<Trace {self.name}: {len(self):,} requests, {self.kind}>"

    def _repr_html_(self) -> str:
        rows = [["requests", written(len(self), "count")], ["prompts", self.kind]]
        if self.kind != "text":
            rows.append(["prompt tokens", written(self.prompt_tokens, "count")])
            outputs = int(self.output_len.sum(dtype=np.uint64))
            rows.append(["output tokens", written(outputs, "count")])
        if len(self):
            rows.append(["span (s)", written(self.timestamp[-1] - self.timestamp[0], "seconds")])
        for column in ("session", "salt", "category"):
            codes = getattr(self, column)
            if codes is not None:
                rows.append([f"{column} labels", written(len(codes.names), "count")])
        return html([Table(f"Trace {self.name}", ["", ""], rows)])

    @overload
    def __getitem__(self, index: int) -> Request: ...

    @overload
    def __getitem__(self, index: slice) -> Trace: ...

    def __getitem__(self, index: int | slice) -> Request | Trace:
        """Return one request as a record, or a slice of the trace.

        Examples
        --------
        >>> trace = Trace.from_prompts([[1, 2], [1, 2, 3], [4]])
        >>> trace[-1]
        <Request 2 at 2.000 s: 1 prompt tokens, 0 output tokens>
        >>> trace[:2]
        <Trace memory: 2 requests, tokens>
        """
        if isinstance(index, slice):
            if (index.step or 1) < 1:
                msg = f"{self.name}: a slice with step {index.step} goes back in time"
                raise InputError(msg)
            return self.take(np.arange(len(self))[index])
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(index)
        return request_at({name: getattr(self, name) for name in COLUMNS}, row)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Give the native schema to any library that takes Arrow (PyCapsule interface)."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    @property
    def kind(self) -> TraceKind:
        """What the trace knows of its prompts."""
        if self.prompts is not None:
            return "tokens" if self.prompts.values.dtype == np.uint32 else "hashes"
        return "lengths" if self.texts is None else "text"

    @property
    def prompt_tokens(self) -> int:
        """Sum of all prompt lengths."""
        return int(self.prompt_len.sum(dtype=np.uint64))

    @property
    def digest(self) -> str:
        """XXH3-128 of the columns that decide a replay, in hex."""
        numbers: Sequence[Array] = (self.timestamp, self.prompt_len, self.output_len)
        lists = {"prompts": self.prompts, "outputs": self.outputs}
        labels = {"session": self.session, "salt": self.salt, "category": self.category}
        return content_digest(numbers, lists, labels, self.texts, self.id_block_size)

    def replace(self, **changes: Any) -> Trace:
        """Return a copy with the given columns or facts changed."""
        return replace(self, **changes)

    def take(self, index: npt.ArrayLike) -> Trace:
        """Return the requests at ``index``, in that order."""
        at = np.asarray(index, dtype=np.intp)
        columns: JsonObject = {name: taken(getattr(self, name), at) for name in COLUMNS}
        return replace(self, **columns)

    def out_of_order(self) -> int | None:
        """Row of the first request that is earlier than the one before it."""
        back = np.flatnonzero(np.diff(self.timestamp) < 0)
        return int(back[0]) + 1 if len(back) else None

    def sorted(self) -> Trace:
        """Return the requests in stable order of their timestamps."""
        if self.out_of_order() is None:
            return self
        return self.take(np.argsort(self.timestamp, kind="stable"))

    def to_arrow(self) -> pa.Table:
        """Return the trace as an Arrow table with the native schema."""
        from prefixsim.trace.arrow import to_arrow

        return to_arrow(self)
