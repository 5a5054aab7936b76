"""Files written whole or not at all, and files opened whatever their compression."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from prefixsim._atomic import atomic_folder, atomic_path, atomic_write, check_writable
from prefixsim.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc.Buffer from Python 3.12

__all__ = ["atomic_folder", "atomic_path", "atomic_write", "check_writable", "open_bytes"]

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


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
    except (FileNotFoundError, ValueError):  # or a name that no file can have
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

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)


class _Decompressed(io.BufferedReader):
    """A decompressing reader that closes the file below it."""

    def __init__(self, stream: io.RawIOBase, below: IO[bytes]) -> None:
        super().__init__(stream, buffer_size=1 << 20)
        self._below = below

    def close(self) -> None:
        super().close()
        self._below.close()
