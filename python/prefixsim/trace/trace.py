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

from prefixsim._core import digest_columns
from prefixsim.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LATEST_S", "Codes", "Ragged", "Strings", "Trace", "TraceKind"]

LATEST_S = 1e19
"""Times lie within this many seconds of zero, far beyond nanoseconds taken for seconds, so that
they can be subtracted and summed."""

TraceKind = Literal["tokens", "hashes", "text", "lengths"]
"""What a trace knows of its prompts: token ids, chained hash ids, text, or only lengths."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """One variable-length list per request, in CSR layout.

    Attributes
    ----------
    offsets : ndarray of uint64, shape (requests + 1,)
        List ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
    values : ndarray of uint32 (token ids) or uint64 (hash ids)
    """

    offsets: npt.NDArray[np.uint64]
    values: npt.NDArray[np.uint32] | npt.NDArray[np.uint64]

    @classmethod
    def from_lists(cls, lists: Sequence[Any], dtype: npt.DTypeLike = np.uint32) -> Ragged:
        """Join a sequence of integer sequences into one column."""
        arrays = [np.asarray(x, dtype=dtype) for x in lists]
        offsets = np.zeros(len(arrays) + 1, dtype=np.uint64)
        np.cumsum([len(x) for x in arrays], out=offsets[1:])
        values = np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)
        return cls(offsets, values)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> npt.NDArray[Any]:
        lo, hi = int(self.offsets[i]), int(self.offsets[i + 1])
        return self.values[lo:hi]

    @property
    def lengths(self) -> npt.NDArray[np.uint64]:
        """Length of each list."""
        return np.diff(self.offsets)

    def take(self, index: npt.NDArray[np.intp]) -> Ragged:
        """Return the lists at ``index``, in that order."""
        lengths = self.lengths[index]
        offsets = np.zeros(len(index) + 1, dtype=np.uint64)
        np.cumsum(lengths, out=offsets[1:])
        if len(index) and np.all(np.diff(index) == 1):  # a slice: no copy
            lo, hi = int(self.offsets[index[0]]), int(self.offsets[index[-1] + 1])
            return Ragged(offsets, self.values[lo:hi])
        values = np.empty(int(offsets[-1]), dtype=self.values.dtype)
        for new, old in enumerate(index):
            values[int(offsets[new]) : int(offsets[new + 1])] = self[int(old)]
        return Ragged(offsets, values)


@dataclass(frozen=True, eq=False)
class Strings(Sequence[str]):
    """Many strings in one buffer; a sequence of ``str``.

    Attributes
    ----------
    offsets : ndarray of uint64, shape (requests + 1,)
        String ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
    data : ndarray of uint8
        UTF-8.
    """

    offsets: npt.NDArray[np.uint64]
    data: npt.NDArray[np.uint8]

    @classmethod
    def from_list(cls, values: Sequence[str]) -> Strings:
        """Join Python strings into one buffer; a :class:`Strings` is returned as it is."""
        if isinstance(values, Strings):
            return values
        encoded = [value.encode() for value in values]
        offsets = np.zeros(len(encoded) + 1, dtype=np.uint64)
        np.cumsum([len(x) for x in encoded], out=offsets[1:])
        return cls(offsets, np.frombuffer(b"".join(encoded), dtype=np.uint8))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, i: int) -> str: ...

    @overload
    def __getitem__(self, i: slice) -> list[str]: ...

    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if i < 0:
            i += len(self)
        if not 0 <= i < len(self):
            raise IndexError(i)
        return bytes(self.data[int(self.offsets[i]) : int(self.offsets[i + 1])]).decode()

    def take(self, index: npt.NDArray[np.intp]) -> Strings:
        """Return the strings at ``index``, in that order."""
        return Strings.from_list([self[int(i)] for i in index])


@dataclass(frozen=True, eq=False)
class Codes:
    """A dictionary-encoded string column.

    Attributes
    ----------
    codes : ndarray of uint32, shape (requests,)
        Index into ``names``.
    names : list of str
    """

    codes: npt.NDArray[np.uint32]
    names: list[str]

    @classmethod
    def from_strings(cls, values: Sequence[str | None]) -> Codes:
        """Encode strings in the order of first appearance; ``None`` is the empty string."""
        index: dict[str, int] = {}
        codes = np.fromiter(
            (index.setdefault(v or "", len(index)) for v in values), np.uint32, len(values)
        )
        return cls(codes, list(index))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, i: int) -> str:
        return self.names[int(self.codes[i])]

    def take(self, index: npt.NDArray[np.intp]) -> Codes:
        """Return the values at ``index``, in that order."""
        return Codes(self.codes[index], self.names)


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
    turn : ndarray of uint32 or None
        0-based position of the request in its session.
    salt : Codes or None
        Isolation key; the empty string is "no salt". ``None``: no request has one.
    category : Codes or None
        A label to group by.
    name, format : str
        Where the trace came from, for titles and messages.
    meta : dict
        Facts about how the trace was made (seed, tokenizer...), kept as provenance.
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
    salt: Codes | None = None
    category: Codes | None = None
    name: str = "trace"
    format: str = "memory"
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.timestamp)
        for f in fields(self):
            column = getattr(self, f.name)
            if f.name in _COLUMNS and column is not None and len(column) != n:
                msg = f"{self.name}: column {f.name} has {len(column)} rows, timestamp has {n}"
                raise InputError(msg)

    def outside_time(self) -> int | None:
        """Row of the first timestamp that is none: not finite, or beyond :data:`LATEST_S`."""
        good = np.abs(self.timestamp) <= LATEST_S
        return None if good.all() else int(np.argmin(good))

    @classmethod
    def from_prompts(
        cls,
        prompts: Sequence[Any],
        *,
        timestamp: Sequence[float] | None = None,
        output_len: Sequence[int] | None = None,
        outputs: Sequence[Any] | None = None,
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
        n = len(column)
        produced = None if outputs is None else Ragged.from_lists(outputs)
        lengths = (
            output_len
            if output_len is not None
            else (np.zeros(n) if produced is None else produced.lengths)
        )
        times = np.arange(n, dtype=np.float64) if timestamp is None else timestamp
        trace = cls(
            timestamp=np.asarray(times, dtype=np.float64),
            prompt_len=column.lengths.astype(np.uint32),
            output_len=np.asarray(lengths, dtype=np.uint32),
            prompts=column,
            outputs=produced,
            session=None if session is None else Codes.from_strings(session),
            salt=None if salt is None else Codes.from_strings(salt),
            name=name,
        )
        row = trace.outside_time()
        if row is not None:
            msg = f"{name}: row {row}: timestamp: {trace.timestamp[row]:g} s is no time"
            raise InputError(msg)
        return trace

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
        columns: list[npt.NDArray[Any]] = [self.timestamp, self.prompt_len, self.output_len]
        for ragged in (self.prompts, self.outputs):
            if ragged is not None:
                columns += [ragged.offsets, ragged.values]
        for codes in (self.session, self.salt, self.category):
            if codes is not None:
                columns.append(codes.codes)
        tail = "\0".join([str(self.id_block_size), *(self.texts or []), *self._names()])
        columns.append(np.frombuffer(tail.encode(), dtype=np.uint8))
        return digest_columns([np.ascontiguousarray(c).view(np.uint8) for c in columns])

    def _names(self) -> list[str]:
        return [n for c in (self.salt, self.category) if c is not None for n in c.names]

    def replace(self, **changes: Any) -> Trace:
        """Return a copy with the given columns or facts changed."""
        return replace(self, **changes)

    def take(self, index: npt.ArrayLike) -> Trace:
        """Return the requests at ``index``, in that order."""
        at = np.asarray(index, dtype=np.intp)
        changes: dict[str, Any] = {}
        for name in _COLUMNS:
            column = getattr(self, name)
            if isinstance(column, (Ragged, Codes, Strings)):
                changes[name] = column.take(at)
            elif isinstance(column, Sequence):
                changes[name] = [column[i] for i in at]
            elif column is not None:
                changes[name] = column[at]
        return replace(self, **changes)

    def sorted(self) -> Trace:
        """Return the requests in stable order of their timestamps."""
        if np.all(self.timestamp[1:] >= self.timestamp[:-1]):
            return self
        return self.take(np.argsort(self.timestamp, kind="stable"))

    def to_arrow(self) -> pa.Table:
        """Return the trace as an Arrow table with the native schema."""
        from prefixsim.trace.arrow import to_arrow

        return to_arrow(self)


_COLUMNS = (
    "timestamp",
    "prompt_len",
    "output_len",
    "prompts",
    "outputs",
    "texts",
    "output_texts",
    "request_id",
    "session",
    "turn",
    "salt",
    "category",
)
