"""JSON Lines written batch by batch, whole or not at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from prefixsim._core import json_lists
from prefixsim._files import atomic_path
from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.trace import Ragged, Trace

__all__ = ["JsonlWriter"]

_scalars = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class JsonlWriter:
    """Writes one JSON object per request.

    Parameters
    ----------
    path : Path
        Compressed if it ends in ``.gz`` or ``.zst``.
    row : callable
        The scalar fields of request ``i`` of a batch.
    lists : callable
        For a batch: JSON field to the name of the :class:`Ragged` column it is written from.
    check : callable
        Says why a trace cannot be written in this format, or ``None``.
    """

    def __init__(
        self,
        path: Path,
        row: Callable[[Trace, int], JsonObject],
        lists: Callable[[Trace], Mapping[str, str]],
        check: Callable[[Trace], str | None] = lambda _: None,
    ) -> None:
        self._path = path
        self._row = row
        self._lists = lists
        self._check = check
        self._stack = ExitStack()
        self._out: IO[bytes] | None = None

    def __enter__(self) -> JsonlWriter:
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._out = self._stack.enter_context(_open_for_writing(temporary))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def write(self, batch: Trace) -> None:
        """Append the requests of ``batch``."""
        assert self._out is not None, "write inside the with block"
        problem = self._check(batch)
        if problem is not None:
            msg = f"{self._path}: {problem}"
            raise InputError(msg)
        columns: list[tuple[bytes, list[bytes]]] = []
        for field, name in self._lists(batch).items():
            ragged: Ragged | None = getattr(batch, name)
            if ragged is not None:
                key = f',"{field}":'.encode()
                columns.append((key, json_lists(ragged.offsets, ragged.values)))
        parts: list[bytes] = []
        for i in range(len(batch)):
            parts.append(_scalars(self._row(batch, i))[:-1].encode())
            for key, texts in columns:
                parts += (key, texts[i])
            parts.append(b"}\n")
        self._out.write(b"".join(parts))


@contextmanager
def _gzip(path: Path) -> Iterator[IO[bytes]]:
    """Compress without name and time in the header: the same rows make the same file."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
    ):
        yield cast("IO[bytes]", packed)


def _open_for_writing(path: Path) -> AbstractContextManager[IO[bytes]]:
    if path.name.endswith(".gz"):
        return _gzip(path)
    if path.name.endswith(".zst"):
        import pyarrow as pa

        return cast("IO[bytes]", pa.CompressedOutputStream(str(path), "zstd"))
    return path.open("wb")
