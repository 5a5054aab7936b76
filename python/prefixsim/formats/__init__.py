"""Trace formats: a registry of small readers and writers.

Each module of this package holds one :class:`Format`, which says how sure it is that a file is its
own; the surest reads it. The name of a file is never looked at. :func:`register` adds a format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from prefixsim._files import atomic_write
from prefixsim.errors import InputError
from prefixsim.formats._format import (
    Confidence,
    Family,
    Format,
    Head,
    ReadOptions,
    TraceWriter,
)
from prefixsim.formats._inputs import input_files
from prefixsim.formats._registry import format_names, formats, load_format, register
from prefixsim.formats._sniff import sniff_format
from prefixsim.trace import Trace

__all__ = [
    "Confidence",
    "Family",
    "Format",
    "Head",
    "ReadOptions",
    "TraceWriter",
    "format_names",
    "formats",
    "open_writer",
    "read_trace",
    "register",
    "sniff_format",
    "trace_name",
    "write_trace",
]


def read_trace(
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002
    sort: bool = False,
    skip_bad_rows: bool = False,
    rejects: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
    id_block_size: int | None = None,
) -> Trace:
    """Read a trace file, whatever its format and compression.

    Parameters
    ----------
    path : str or Path
        A file of any format of :func:`format_names`, plain, gzip or Zstandard; a pattern such as
        ``"day-*.jsonl.gz"``, whose files are merged by time; ``-`` for standard input.
    format : str, optional
        Default: found from the first bytes.
    sort : bool, optional
        Sort by timestamp instead of refusing a file that is not sorted.
    skip_bad_rows : bool, optional
        Leave bad rows out; they are counted by reason in ``trace.meta["rows_skipped"]``.
    rejects : str or Path, optional
        Where rows left out are written, as they were.
    progress : callable, optional
        Called with the number of bytes read since the last call.
    id_block_size : int, optional
        Tokens that each hash id stands for. Mooncake files do not say; without it the size is found
        from the prompts' lengths and their numbers of ids.

    Raises
    ------
    InputError
        ``file:line: field: problem``, for the first thing that is wrong.
    """
    options = ReadOptions(
        sort=sort,
        skip_bad_rows=skip_bad_rows,
        rejects=None if rejects is None else Path(rejects),
        progress=progress,
        id_block_size=id_block_size,
    )
    with input_files(path) as files:
        together = _together(files, format)
        if together is not None and together.read_together is not None:
            parts = [together.read_together(files, options).replace(format=together.name)]
            parts[0] = parts[0].replace(name=trace_name(path))
        elif options.rejects is not None and len(files) > 1:
            parts = _read_keeping_rejects(files, format, options, options.rejects)
        else:
            parts = [_read_file(file, format, options) for file in files]
    for part in parts:
        _check_id_block_size(part, id_block_size)
    if len(parts) == 1:
        return parts[0]
    from prefixsim.trace.joining import merge

    return merge(parts).replace(name=Path(path).name, format=parts[0].format)


def _together(files: Sequence[Path], name: str | None) -> Format | None:
    """Return the format of several files whose rows join, if they are all of it."""
    if len(files) < 2:
        return None
    chosen = sniff_format(files[0]) if name is None else load_format(name)
    if chosen.read_together is None:
        return None
    if name is None and any(sniff_format(file).name != chosen.name for file in files[1:]):
        return None
    return chosen


def _read_keeping_rejects(
    files: Sequence[Path], name: str | None, options: ReadOptions, rejects: Path
) -> list[Trace]:
    """Read files one by one, and join the rows that each leaves out."""
    parts = []
    with TemporaryDirectory() as folder:
        kept = [Path(folder) / str(i) for i in range(len(files))]
        for file, part in zip(files, kept, strict=True):
            parts.append(_read_file(file, name, replace(options, rejects=part)))
        contents = [part.read_bytes() for part in kept if part.exists()]
    if contents:
        atomic_write(rejects, b"".join(contents))
    return parts


def _read_file(path: Path, name: str | None, options: ReadOptions) -> Trace:
    chosen = sniff_format(path) if name is None else load_format(name)
    return chosen.read(path, options).replace(name=trace_name(path), format=chosen.name)


def _check_id_block_size(trace: Trace, wanted: int | None) -> None:
    """Refuse a trace whose hash ids stand for other numbers of tokens than was said."""
    if wanted is None or (trace.kind == "hashes" and trace.id_block_size == wanted):
        return
    has = f"its hash ids stand for {trace.id_block_size}"
    if trace.kind != "hashes":
        has = "it has no hash ids"
    msg = f"{trace.name}: ids of {wanted} tokens are asked for, but {has}; leave the size out"
    raise InputError(msg)


def trace_name(path: str | Path) -> str:
    """Return what a trace read from ``path`` is called: the file's name without its endings."""
    name = Path(path).name
    for ending in (".gz", ".zst", ".jsonl", ".json", ".parquet", ".arrow", ".csv", ".msgpack"):
        name = name.removesuffix(ending)
    return name or Path(path).name


def open_writer(path: str | Path, *, format: str | None = None) -> TraceWriter:  # noqa: A002
    """Open a trace file for writing batch by batch.

    Use it in a ``with`` block: the file appears whole at its end, or not at all.

    Parameters
    ----------
    path : str or Path
    format : str, optional
        Default: by the ending: ``.jsonl``, ``.jsonl.gz``, ``.jsonl.zst``, ``.parquet``, ``.arrow``.
    """
    path = Path(path)
    if format is not None:
        chosen = load_format(format)
    else:
        by_ending = [f for f in formats() if f.endings and path.name.endswith(f.endings)]
        if not by_ending:
            endings = ", ".join(e for f in formats() for e in f.endings)
            msg = f"{path}: the ending says no trace format, use one of {endings}"
            raise InputError(msg)
        chosen = by_ending[0]
    if chosen.open_writer is None:
        msg = f"{path}: the {chosen.name} format is only read, write {_writable()}"
        raise InputError(msg)
    return chosen.open_writer(path)


def _writable() -> str:
    return ", ".join(f.name for f in formats() if f.open_writer is not None)


def write_trace(trace: Trace, path: str | Path, *, format: str | None = None) -> None:  # noqa: A002
    """Write a trace, whole or not at all; see :func:`open_writer`."""
    with open_writer(path, format=format) as writer:
        writer.write(trace)
