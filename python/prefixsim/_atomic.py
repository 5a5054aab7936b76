"""Files and folders written whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prefixsim.errors import InputError

try:
    import fcntl
except ImportError:  # no such locks here: what a killed process left behind stays
    fcntl = None  # type: ignore[assignment]

__all__ = ["atomic_folder", "atomic_path", "atomic_write", "check_writable", "refuse_own_input"]

_STAGE = ".prefixsim-unfinished."
_STALE_S = 60.0
_RANDOM = r"[a-z0-9_]{8}"  # as tempfile names its files


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``target``; rename it to ``target`` if the block succeeds.

    On any exception the temporary file is removed and ``target`` stays as it was. What a killed
    process left behind is removed by the next one that writes the same file.

    Raises
    ------
    InputError
        If the folder is missing, or ``target`` is one.
    OSError
        With the name of ``target``, if it cannot be written.
    """
    target = Path(target)
    if target.is_dir():
        msg = f"{target}: is a directory, give the name of a file"
        raise InputError(msg)
    _check_folder(target)
    ending = "".join(target.suffixes[-2:])
    _sweep(target.parent, re.escape(f".{target.name}.") + _RANDOM + re.escape(ending))
    with _naming(target):
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=ending)
    temporary = Path(name)
    try:
        _lock(handle)
        with _naming(target, temporary):
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def atomic_write(target: str | Path, data: str | bytes) -> None:
    """Write ``data`` to ``target``, whole or not at all."""
    with atomic_path(target) as path:
        path.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_folder(target: str | Path, *, last: str) -> Iterator[Path]:
    """Give a temporary folder; move its files into ``target`` if the block succeeds.

    ``target`` is made if it is missing; other files in it stay. While files are moved, which is
    short, ``target`` has no file called ``last``: a folder that holds it is of one run.

    Parameters
    ----------
    target : path
    last : str
        Name of the file that is removed first and moved last.
    """
    target = Path(target)
    made = not target.exists()
    with _naming(target):
        target.mkdir(parents=True, exist_ok=True)
        _sweep(target, re.escape(_STAGE) + _RANDOM)
        stage = Path(tempfile.mkdtemp(dir=target, prefix=_STAGE))
    handle = os.open(stage, os.O_RDONLY)
    try:
        _lock(handle)
        yield stage
        files = sorted(path.name for path in stage.iterdir() if path.name != last)
        with _naming(target):
            (target / last).unlink(missing_ok=True)
            for name in (*files, last):
                if (stage / name).exists():
                    (stage / name).replace(target / name)
    finally:
        os.close(handle)
        shutil.rmtree(stage, ignore_errors=True)
        if made:
            with suppress(OSError):  # not empty: it was written
                target.rmdir()


@contextmanager
def _naming(target: Path, temporary: Path | None = None) -> Iterator[None]:
    """Let a failure to write name the file that was to be written."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and str(error.filename) != str(temporary):
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno or 0, reason, str(target)) from error


def _check_folder(target: Path) -> None:
    folder = target.parent
    if not folder.exists():
        msg = f"{target}: there is no folder {folder}, make it first"
        raise InputError(msg)
    if not folder.is_dir():
        msg = f"{target}: cannot be written, {folder} is not a directory"
        raise InputError(msg)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _lock(handle: int) -> None:
    """Mark what is being written, for as long as the process lives."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sweep(folder: Path, pattern: str) -> None:
    """Remove what killed processes left in a folder: it is old, and nobody holds its lock."""
    if fcntl is None:
        return
    for entry in os.scandir(folder):
        if not re.fullmatch(pattern, entry.name):
            continue
        with suppress(OSError):
            if time.time() - entry.stat(follow_symlinks=False).st_mtime < _STALE_S:
                continue
            handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)  # noqa: PTH108
            finally:
                os.close(handle)


def refuse_own_input(output: str | Path, inputs: Iterator[str | Path] | list[str | Path]) -> None:
    """Refuse to write over a file that is being read.

    Raises
    ------
    InputError
        If ``output`` is one of ``inputs``, by whatever name.
    """
    output = Path(output)
    for path in map(Path, inputs):
        if output.exists() and path.exists() and output.samefile(path):
            msg = f"{output}: is also read, give another file to write"
            raise InputError(msg)


def check_writable(target: str | Path, *, folder: bool = False) -> None:
    """Refuse a target that could not be written, before the work whose result it takes.

    Parameters
    ----------
    target : str or Path
        A file in a folder that exists, or with ``folder`` a folder that files are written into. It
        and folders above it need not exist, and are not made.

    Raises
    ------
    InputError
        If a file stands where a folder must be, or the other way round, or writing is forbidden.
    """
    target = Path(target)
    if target.is_dir() and not folder:
        msg = f"{target}: is a directory, give the name of a file"
        raise InputError(msg)
    if not folder:
        _check_folder(target)
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
