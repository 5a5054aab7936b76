"""What commands show: progress on a terminal, nothing in a pipe; tables fit for either."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from prefixsim._printable import printable
from prefixsim.cli._progress import Line, bar
from prefixsim.errors import InputError
from prefixsim.table import plain

if TYPE_CHECKING:
    from prefixsim.table import Table
    from prefixsim.trace import Trace

__all__ = [
    "charts_wanted",
    "check_choice",
    "counting",
    "making",
    "print_tables",
    "reading",
    "report_skipped",
    "timed",
    "tokenized",
    "working",
]

Given = ParamSpec("Given")


@contextmanager
def _shown(
    text: Callable[Concatenate[Line, Given], str],
) -> Iterator[Callable[Given, None] | None]:
    """Give the callback of a long task, which shows ``text`` of what it is called with.

    ``None`` where nobody looks: a task without a callback need not count.
    """
    with Line() as line:

        def show(*args: Given.args, **named: Given.kwargs) -> None:
            line.show(text(line, *args, **named))

        yield show if line.seen else None


def reading(path: Path) -> AbstractContextManager[Callable[[int], None] | None]:
    """Show a bar while a file is read; gives the callback that takes the bytes read."""
    # Readers count decompressed bytes, so the end is known only for plain files.
    packed = path.suffix in (".gz", ".zst")
    total = 0 if packed or not path.is_file() else path.stat().st_size
    done = 0

    def text(line: Line, size: int) -> str:
        nonlocal done
        done += size
        share = done / total if total else 0.0
        drawn = f"{bar(share)}  " if total else ""
        return f"reading {path.name}  {drawn}{done / 1e6:,.1f} MB  {line.left(share)}"

    return _shown(text)


def counting(what: str) -> AbstractContextManager[Callable[[int, int], None] | None]:
    """Show a bar; gives the callback that takes what is done, and all there is."""

    def text(line: Line, done: int, total: int) -> str:
        share = done / total if total else 1.0
        return f"{what}  {bar(share)}  {done:,} of {total:,}  {line.left(share)}"

    return _shown(text)


def making(
    what: str, total: int | None
) -> AbstractContextManager[Callable[[int, tuple[int, int] | None], None] | None]:
    """Show a bar towards a limit or the end of the input, whichever is nearer.

    Gives the callback that takes what is made, and the bytes read of all there are.
    """

    def text(line: Line, done: int, read: tuple[int, int] | None) -> str:
        shares = [done / total] if total else []
        if read and read[1]:
            shares.append(read[0] / read[1])
        share = max(shares, default=0.0)
        drawn = f"  {bar(share)}  {share:.0%}" if share else ""
        return f"{done:,} {what}{drawn}  {line.left(share)}"

    return _shown(text)


def tokenized(trace: Trace, model: str | None, cache_dir: Path | None) -> Trace:
    """Return the trace, tokenized with a bar if it is one of texts."""
    if trace.kind != "text":
        return trace
    from prefixsim.text.text_trace import tokenize_trace
    from prefixsim.text.tokenize import DEFAULT_MODEL

    if model is None and trace.meta.get("texts") == "messages":
        msg = f"{trace.name}: holds messages, give --model, the tokenizer of their server"
        raise InputError(msg)
    with counting("tokenizing texts") as progress:
        return tokenize_trace(trace, model or DEFAULT_MODEL, cache_dir=cache_dir, progress=progress)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is going on; gives the function that changes it."""
    with Line() as line:
        line.show(what, now=True)
        yield lambda now: line.show(now, now=True)


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables: fitted to a terminal, aligned plain text elsewhere."""
    if sys.stdout.isatty():
        from prefixsim._screen import fitted, styled_output

        width = shutil.get_terminal_size().columns
        sys.stdout.write(f"\n{fitted(tables, width, styled=styled_output())}")
    else:
        sys.stdout.write(plain(tables))


def charts_wanted(skip: bool) -> bool:
    """Whether charts are to be drawn; says so where they are, and cannot be."""
    if skip:
        return False
    from prefixsim._extras import missing

    for package in ("altair", "vl_convert"):
        advice = missing(package, extra="report")
        if advice is not None:
            sys.stderr.write(f"prefixsim: no charts: {advice}\n")
            return False
    return True


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        msg = f"{option} {value}: choose one of {', '.join(choices)}"
        raise InputError(msg)


def timed(trace: Trace, path: Path, unit: str | None) -> Trace:
    """Take the timestamps as the unit that was given; without one, say so if they are odd."""
    from prefixsim.trace.times import doubt, in_unit

    if unit is not None:
        return in_unit(trace, unit)
    doubts = doubt(trace)
    if doubts is not None:
        sys.stderr.write(f"prefixsim: warning: {printable(f'{path}: {doubts}')}\n")
    return trace


def report_skipped(path: Path, meta: dict[str, object]) -> None:
    """Say how many rows a reader left out, and why."""
    skipped = meta.get("rows_skipped")
    if isinstance(skipped, dict) and skipped:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in skipped.items())
        total = sum(skipped.values())
        told = printable(f"{path}: {total:,} rows left out ({reasons})")
        sys.stderr.write(f"prefixsim: {told}\n")
