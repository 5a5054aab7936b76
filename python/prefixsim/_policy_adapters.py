"""What stands between the core and a policy in Python.

The core asks an adapter; it asks the policy, and makes one clear error of what goes wrong there.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence, Set
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from prefixsim.errors import InputError

__all__ = ["Adapter", "BlockAdapter", "KeyAdapter", "Segments"]

_Column: TypeAlias = npt.NDArray[np.int64]
_Told = Callable[[int, _Column], None]


class Segments:
    """Segments of the cached tree, in columns.

    A segment is neighbouring blocks of one path that came in with one request and were used by the
    same requests since. Requests are rows of the trace.

    Attributes
    ----------
    request : int
        The request that runs.
    last_use, previous_use, first_use : ndarray of int64, shape (segments,)
        The request that used each last, the one before that (-1: none), the one it came in with.
    uses : ndarray of int64, shape (segments,)
        Requests that used it since it came in, at least 1.
    depth : ndarray of int64, shape (segments,)
        Blocks of its path before its first.
    size : ndarray of int64, shape (segments,)
        Its blocks, at least 1.
    """

    __slots__ = ("_columns", "request")

    def __init__(self, request: int, columns: npt.NDArray[np.int64]) -> None:
        self.request = request
        self._columns = cast("Sequence[_Column]", columns)

    def __len__(self) -> int:
        return len(self._columns[0])

    @property
    def last_use(self) -> _Column:
        """The request that used each last."""
        return self._columns[0]

    @property
    def previous_use(self) -> _Column:
        """The request that used each before its last use; -1: none."""
        return self._columns[1]

    @property
    def first_use(self) -> _Column:
        """The request each came in with."""
        return self._columns[2]

    @property
    def uses(self) -> _Column:
        """Requests that used each since it came in, at least 1."""
        return self._columns[3]

    @property
    def depth(self) -> _Column:
        """Blocks of the path before the first of each."""
        return self._columns[4]

    @property
    def size(self) -> _Column:
        """Blocks of each, at least 1."""
        return self._columns[5]


class KeyAdapter:
    """A policy with ``priority``."""

    __slots__ = ("_label", "_priority", "kind")

    def __init__(
        self, label: str, kind: str, priority: Callable[[Segments], npt.ArrayLike]
    ) -> None:
        self.kind = kind
        self._label = label
        self._priority = priority

    def keys(self, request: int, columns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the keys of segments."""
        try:
            found = np.asarray(self._priority(Segments(request, columns)), dtype=np.float64)
        except Exception as error:
            raise _failed(self._label, request, error) from error
        if found.shape != columns.shape[1:]:
            self._refuse_shape(request, found.shape, columns.shape[1])
        return found

    def _refuse_shape(self, request: int, shape: tuple[int, ...], segments: int) -> None:
        msg = (
            f"policy {self._label}, request {request}: keys of shape {shape} for {segments} "
            f"segments, give ({segments},)"
        )
        raise InputError(msg)

    def refuse_nan(self, request: int, place: int) -> None:
        """Raise the error for a key that is not a number."""
        msg = (
            f"policy {self._label}, request {request}: the key of segment {place} is not a number, "
            "give numbers"
        )
        raise InputError(msg)


class BlockAdapter:
    """A policy with ``victim``; the core keeps ``leaves``."""

    __slots__ = ("_label", "_on_evict", "_on_hit", "_on_insert", "_victim", "kind", "leaves")

    def __init__(
        self,
        label: str,
        victim: Callable[[int, Set[int]], int],
        on_hit: _Told,
        on_insert: _Told,
        on_evict: Callable[[int, int], None],
    ) -> None:
        self.kind = "blocks"
        self.leaves: set[int] = set()
        self._label = label
        self._victim = victim
        self._on_hit = on_hit
        self._on_insert = on_insert
        self._on_evict = on_evict

    def hit(self, request: int, blocks: _Column) -> None:
        """Tell of blocks that a request found."""
        try:
            self._on_hit(request, blocks)
        except Exception as error:
            raise _failed(self._label, request, error) from error

    def inserted(self, request: int, blocks: _Column) -> None:
        """Tell of blocks that came in."""
        try:
            self._on_insert(request, blocks)
        except Exception as error:
            raise _failed(self._label, request, error) from error

    def dropped(self, request: int, block: int) -> None:
        """Tell of a block that was dropped."""
        try:
            self._on_evict(request, block)
        except Exception as error:
            raise _failed(self._label, request, error) from error

    def victim(self, request: int) -> int:
        """Return the block to drop."""
        try:
            block = operator.index(self._victim(request, self.leaves))
        except Exception as error:
            raise _failed(self._label, request, error) from error
        if block not in self.leaves:
            msg = (
                f"policy {self._label}, request {request}: block {block} may not go, choose one of "
                f"the {len(self.leaves)} leaves"
            )
            raise InputError(msg)
        return block


Adapter: TypeAlias = KeyAdapter | BlockAdapter


def _failed(label: str, request: int, error: Exception) -> InputError:
    return InputError(f"policy {label}, request {request}: {type(error).__name__}: {error}")
