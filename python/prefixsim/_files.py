"""Files written whole or not at all, and files opened whatever their compression."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from prefixsim.errors import InputError

__all__ = ["atomic_path", "atomic_write", "check_writable", "open_bytes"]

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``target``; rename it to ``target`` if the block succeeds.

    Missing parent folders are made. On any exception the temporary file is removed and ``target``
    stays as it was.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        msg = f"{target}: is a directory, give the name of a file"
        raise InputError(msg)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.name}.", suffix="".join(target.suffixes[-2:])
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def atomic_write(target: str | Path, data: str | bytes) -> None:
    """Write ``data`` to ``target``, whole or not at all."""
    with atomic_path(target) as path:
        path.write_bytes(data.encode() if isinstance(data, str) else data)


def check_writable(target: str | Path, *, folder: bool = False) -> None:
    """Refuse a target that could not be written, before the work whose result it takes.

    Parameters
    ----------
    target : str or Path
        A file, or with ``folder`` a folder that files are written into. It and folders above it
        need not exist, and are not made.

    Raises
    ------
    InputError
        If a file stands where a folder must be, or the other way round, or writing is forbidden.
    """
    target = Path(target)
    if target.is_dir() and not folder:
        msg = f"{target}: is a directory, give the name of a file"
        raise InputError(msg)
    above = target if folder else target.parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        msg = f"{target}: cannot be written, {above} is not a directory"
        raise InputError(msg)
    try:
        tempfile.TemporaryFile(dir=above).close()
    except OSError as error:
        msg = f"{target}: cannot be written ({(error.strerror or str(error)).lower()})"
        raise InputError(msg) from None


def open_bytes(path: str | Path) -> IO[bytes]:
    """Open a file for reading, decompressing gzip and Zstandard by their first bytes.

    Raises
    ------
    InputError
        If the file is missing, a directory, or not readable.
    """
    path = Path(path)
    if path.is_dir():
        msg = f"{path}: is a directory, give a file"
        raise InputError(msg)
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        msg = f"{path}: no such file"
        raise InputError(msg) from None
    except OSError as error:
        msg = f"{path}: {(error.strerror or str(error)).lower()}"
        raise InputError(msg) from None
    magic = raw.peek(4)[:4]
    if magic.startswith(_GZIP_MAGIC):
        return _Decompressed(cast("io.RawIOBase", gzip.GzipFile(fileobj=raw)), raw)
    if magic.startswith(_ZSTD_MAGIC):
        return _Decompressed(_Zstandard(raw), raw)
    return raw


class _Zstandard(io.RawIOBase):
    """Zstandard frames as a stream; raises :class:`OSError` where a file is damaged or cut off."""

    def __init__(self, below: IO[bytes]) -> None:
        import pyarrow as pa

        self._stream = pa.CompressedInputStream(pa.PythonFile(below, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Decompressed(io.BufferedReader):
    """A decompressing reader that closes the file below it."""

    def __init__(self, stream: io.RawIOBase, below: IO[bytes]) -> None:
        super().__init__(stream, buffer_size=1 << 20)
        self._below = below

    def close(self) -> None:
        super().close()
        self._below.close()
