"""Columns of a trace: lists, strings and labels, one per request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

__all__ = ["COLUMNS", "Array", "Codes", "Ragged", "Strings", "offsets_of", "taken"]


COLUMNS = (
    "timestamp", "prompt_len", "output_len", "prompts", "outputs", "texts", "output_texts",
    "request_id", "session", "turn", "answer_s", "salt", "category",
)  # fmt: skip
"""Names of the columns that have a row per request."""

Array: TypeAlias = npt.NDArray[Any]
"""A column of numbers whose type its name says: seconds are float64, counts uint32."""


def offsets_of(lengths: Iterable[int] | npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    """Return where lists of these lengths start when joined, and where the last one ends.

    Examples
    --------
    >>> offsets_of([2, 0, 3]).tolist()
    [0, 2, 2, 5]
    """
    sizes = lengths if isinstance(lengths, np.ndarray) else list(lengths)
    offsets = np.zeros(len(sizes) + 1, dtype=np.uint64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


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
    def from_lists(cls, lists: Sequence[object], dtype: npt.DTypeLike = np.uint32) -> Ragged:
        """Join a sequence of integer sequences into one column."""
        arrays = [np.asarray(x, dtype=dtype) for x in lists]
        offsets = offsets_of(len(x) for x in arrays)
        values = np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)
        return cls(offsets, values)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> Array:
        lo, hi = int(self.offsets[i]), int(self.offsets[i + 1])
        return self.values[lo:hi]

    @property
    def lengths(self) -> npt.NDArray[np.uint64]:
        """Length of each list."""
        return np.diff(self.offsets)

    def take(self, index: npt.NDArray[np.intp]) -> Ragged:
        """Return the lists at ``index``, in that order."""
        offsets = offsets_of(self.lengths[index])
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
        data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return cls(offsets_of(len(x) for x in encoded), data)

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


Column: TypeAlias = "Ragged | Codes | Strings | Sequence[str] | Array | None"


def taken(column: Column, index: npt.NDArray[np.intp]) -> Column:
    """Return the rows of any column at ``index``, in that order; ``None`` for no column."""
    if isinstance(column, Ragged | Codes | Strings):
        return column.take(index)
    if isinstance(column, Sequence):
        return [column[i] for i in index]
    return None if column is None else column[index]
