"""Trace formats: a registry of small readers and writers.

Each module of this package holds one :class:`Format`. A format is found by looking at the first
bytes of a file, never by its name.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from prefixsim._files import atomic_write, open_bytes
from prefixsim.errors import InputError
from prefixsim.formats._inputs import input_files
from prefixsim.formats._registry import Format, ReadOptions, Source, TraceWriter, csv_header
from prefixsim.trace import Trace
from prefixsim.trace.joining import merge

__all__ = [
    "Format",
    "ReadOptions",
    "Source",
    "TraceWriter",
    "format_names",
    "formats",
    "open_writer",
    "read_trace",
    "sniff_format",
    "trace_name",
    "write_trace",
]

# Where each format lives; a module is imported when its turn comes. The order is the order of
# sniffing: binary formats first, then the most telling field names.
_HOMES = {
    "parquet": ("native_files", "PARQUET"),
    "arrow": ("native_files", "ARROW"),
    "kv-events": ("kv_events", "FORMAT"),
    "azure": ("azure", "FORMAT"),
    "burstgpt": ("burstgpt", "FORMAT"),
    "bailian": ("bailian", "FORMAT"),
    "mooncake": ("mooncake", "FORMAT"),
    "lmcache": ("lmcache", "FORMAT"),
    "openai": ("openai_log", "FORMAT"),
    "jsonl": ("native_jsonl", "FORMAT"),
}
_BINARY = ("parquet", "arrow")
_EVENTS = ("kv-events",)
_CSV = ("azure", "burstgpt")
_BINARY_MAGIC = (b"PAR1", b"\xff\xff\xff\xff")
# First bytes of a msgpack array or map; no UTF-8 text that is JSON begins with them.
_MSGPACK_STARTS = frozenset(bytes([b]) for b in (*range(0x80, 0xA0), *range(0xDC, 0xE0)))
_HEAD_BYTES = 64
_ONE_OBJECT = (
    "a trace has one JSON object a line (chat data becomes a trace with 'prefixsim trace')"
)
_LONGEST_FIRST_LINE = 64 << 20
_BLANK = b" \t\r\n"
_BLANK_BYTES = 1 << 16


def format_names() -> list[str]:
    """Names that ``--format`` takes."""
    return list(_HOMES)


def _load(name: str) -> Format:
    if name not in _HOMES:
        msg = f"unknown trace format {name!r}, choose one of {', '.join(_HOMES)}"
        raise InputError(msg)
    module, attribute = _HOMES[name]
    chosen: Format = getattr(import_module(f"prefixsim.formats.{module}"), attribute)
    return chosen


def formats() -> Iterator[Format]:
    """Every format, in the order of sniffing."""
    return (_load(name) for name in _HOMES)


def sniff_format(path: str | Path) -> Format:
    """Find the format of a file from its first bytes.

    Raises
    ------
    InputError
        If the file is missing, empty, or of no known format.
    """
    path = Path(path)
    head, line = _start(path)
    if not head.strip():
        msg = f"{path}: is empty, expected a trace"
        raise InputError(msg)
    candidates = tuple(name for name in _HOMES if name not in (*_BINARY, *_CSV))
    value: object = None
    if head.startswith(_BINARY_MAGIC):
        candidates = _BINARY
    elif head.lstrip(b"\xef\xbb\xbf")[:1].isalpha() and b"," in line:
        candidates = _CSV
    elif head[:1] in _MSGPACK_STARTS:
        candidates = _EVENTS
    else:
        value = _first_value(path, line)
        if isinstance(value, list):
            candidates = _EVENTS
    row = value if isinstance(value, dict) else None
    source = Source(path, line if candidates == _CSV else head, row, value)
    for name in candidates:
        if (candidate := _load(name)).sniff(source):
            return candidate
    if isinstance(value, list):
        msg = f"{path}:1: not a JSON object; {_ONE_OBJECT}"
        raise InputError(msg)
    known = "; ".join(candidate.title for candidate in formats())
    fields = ", ".join(list(row)[:8] if row else csv_header(line)[:8])
    msg = (
        f"{path}:1: fields ({fields}) fit no trace format; chat data becomes a trace with "
        f"'prefixsim trace'; trace formats: {known}"
    )
    raise InputError(msg)


def _is_binary(head: bytes) -> bool:
    return head.startswith(_BINARY_MAGIC) or head[:1] in _MSGPACK_STARTS


def _start(path: Path) -> tuple[bytes, bytes]:
    try:
        with open_bytes(path) as file:
            head = file.read(_HEAD_BYTES)
            line = b"" if _is_binary(head) else head.lstrip(_BLANK)
            looked_at = len(head) if head and not _is_binary(head) else _LONGEST_FIRST_LINE
            while b"\n" not in line and looked_at < _LONGEST_FIRST_LINE:
                # Blank lines, which may be millions, are passed over by the block.
                more = file.readline(_LONGEST_FIRST_LINE) if line else file.read(_BLANK_BYTES)
                if not more:
                    break
                looked_at += len(more)
                line = (line + more).lstrip(_BLANK)
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        msg = f"{path}: cannot be decompressed: {str(error).lower()}"
        raise InputError(msg) from None
    return head, line.removeprefix(b"\xef\xbb\xbf").strip()


def _first_value(path: Path, line: bytes) -> dict[str, object] | list[object]:
    line = line.split(b"\n", 1)[0]
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        msg = f"{path}:1: is not UTF-8 text, expected JSON Lines, Parquet or Arrow"
        raise InputError(msg) from None
    except (ValueError, RecursionError) as error:
        msg = f"{path}:1: not valid JSON ({error}), expected one JSON object a line"
        raise InputError(msg) from None
    if not isinstance(value, dict | list):
        msg = f"{path}:1: not a JSON object; {_ONE_OBJECT}"
        raise InputError(msg)
    return value


def read_trace(
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002
    sort: bool = False,
    skip_bad_rows: bool = False,
    rejects: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
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
    )
    with input_files(path) as files:
        if options.rejects is not None and len(files) > 1:
            parts = _read_keeping_rejects(files, format, options, options.rejects)
        else:
            parts = [_read_file(file, format, options) for file in files]
    if len(parts) == 1:
        return parts[0]
    return merge(parts).replace(name=Path(path).name, format=parts[0].format)


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
    chosen = sniff_format(path) if name is None else _load(name)
    return chosen.read(path, options).replace(name=trace_name(path), format=chosen.name)


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
        chosen = _load(format)
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
