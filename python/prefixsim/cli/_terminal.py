"""What commands show: progress on a terminal, nothing in a pipe; tables fit for either."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim._printable import printable
from prefixsim.errors import InputError

if TYPE_CHECKING:
    from prefixsim.table import Table
    from prefixsim.trace import Trace

__all__ = [
    "check_choice",
    "counting",
    "print_tables",
    "reading",
    "report_skipped",
    "tokenized",
    "working",
]


@contextmanager
def reading(path: Path) -> Iterator[Callable[[int], None] | None]:
    """Show a bar while a file is read; gives the callback that takes the bytes read."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    # Readers count decompressed bytes, so the end is known only for plain files.
    packed = path.suffix in (".gz", ".zst")
    total = None if packed or not path.is_file() else path.stat().st_size
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"reading {_marked(path.name)}", total=total)
        yield lambda size: progress.advance(task, size)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar; gives the callback that takes what is done, and all there is."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=1)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def tokenized(trace: Trace, model: str | None, cache_dir: Path | None) -> Trace:
    """Return the trace, tokenized with a bar if it is one of texts."""
    if trace.kind != "text":
        return trace
    from prefixsim.text.text_trace import tokenize_trace
    from prefixsim.text.tokenize import DEFAULT_MODEL

    with counting("tokenizing texts") as progress:
        return tokenize_trace(trace, model or DEFAULT_MODEL, cache_dir=cache_dir, progress=progress)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is going on; gives the function that changes it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(_marked(what)) as status:
        yield lambda now: status.update(_marked(now))


def _marked(text: str) -> str:
    """Return text as rich takes it where it looks for markup."""
    from rich.markup import escape

    return escape(printable(text))


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables: drawn on a terminal, aligned plain text elsewhere."""
    from prefixsim import table as draw

    if not sys.stdout.isatty():
        sys.stdout.write(draw.plain(tables))
        return
    from rich.console import Console

    Console().print(draw.rich(tables))


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        msg = f"{option} {value}: choose one of {', '.join(choices)}"
        raise InputError(msg)


def report_skipped(path: Path, meta: dict[str, object]) -> None:
    """Say how many rows a reader left out, and why."""
    skipped = meta.get("rows_skipped")
    if isinstance(skipped, dict) and skipped:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in skipped.items())
        total = sum(skipped.values())
        told = printable(f"{path}: {total:,} rows left out ({reasons})")
        sys.stderr.write(f"prefixsim: {told}\n")
