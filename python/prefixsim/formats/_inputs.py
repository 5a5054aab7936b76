"""What a user may name as input: a file, a pattern, or standard input."""

from __future__ import annotations

import glob
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from prefixsim.errors import InputError

__all__ = ["STDIN", "input_files", "named_files"]

STDIN = "-"


@contextmanager
def input_files(name: str | Path) -> Iterator[list[Path]]:
    """Give the files that ``name`` stands for.

    ``-`` is standard input; it and named pipes are kept in a temporary file for as long as the
    block lasts, since a trace is looked at before it is read. A name with ``*``, ``?`` or ``[``
    that is not a file itself is a pattern; its files come in the order of their names.

    Raises
    ------
    InputError
        If a pattern fits no file, or standard input is a terminal.
    """
    if str(name) == STDIN:
        if sys.stdin.isatty():
            msg = "standard input is a terminal, pipe a trace into it"
            raise InputError(msg)
        with _kept(sys.stdin.buffer, "stdin") as path:
            yield [path]
        return
    path = Path(name)
    if path.is_fifo():
        with path.open("rb") as pipe, _kept(pipe, path.name) as copy:
            yield [copy]
        return
    if glob.has_magic(str(name)) and not path.exists():
        # Not Path.glob: the pattern may be absolute.
        names = glob.glob(str(name), recursive=True)  # noqa: PTH207
        paths = [p for p in map(Path, sorted(names)) if p.is_file()]
        if not paths:
            msg = f"{name}: no file fits this pattern"
            raise InputError(msg)
        yield paths
        return
    yield [path]


def named_files(name: str | Path) -> list[Path]:
    """Return the files of the file system that ``name`` stands for, as far as they exist."""
    if str(name) == STDIN:
        return []
    if glob.has_magic(str(name)) and not Path(name).exists():
        return [Path(p) for p in glob.glob(str(name), recursive=True)]  # noqa: PTH207
    return [Path(name)]


@contextmanager
def _kept(stream: IO[bytes], name: str) -> Iterator[Path]:
    """Keep what a stream gives in a temporary file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with path.open("wb") as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
        yield path
