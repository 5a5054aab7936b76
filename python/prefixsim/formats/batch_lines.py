"""OpenAI batch files in another order: whole lines move, no byte of them changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prefixsim._files import atomic_path, open_bytes
from prefixsim.errors import InputError
from prefixsim.formats.logs._source import read_calls

__all__ = ["lines_of_requests", "write_lines"]


def lines_of_requests(path: Path, *, skip_bad_rows: bool = False) -> list[int]:
    """Return the line, from 1, that each request of a batch file stands in.

    A line with several prompts, or that asks for several answers, is several requests.
    """
    found = read_calls(path, skip_bad_rows=skip_bad_rows)
    return [found.calls[row].line for row in found.rows]


def write_lines(source: Path, target: Path, lines: Iterable[int]) -> int:
    """Write the lines of a file in another order, whole or not at all; return how many.

    Parameters
    ----------
    source, target : Path
        ``target`` is plain text, whatever the compression of ``source``.
    lines : iterable of int
        Numbers from 1; the first mention of a line counts. Lines that are not mentioned come at the
        end as they stood; empty ones are left out.

    Raises
    ------
    InputError
        If ``source`` has no such line.
    """
    with open_bytes(source) as file:
        kept = file.read().split(b"\n")
    wanted = list(dict.fromkeys(lines))
    beyond = next((line for line in wanted if not 1 <= line <= len(kept)), None)
    if beyond is not None:
        msg = f"{source}: has no line {beyond}, it changed while it was read"
        raise InputError(msg)
    known = set(wanted)
    rest = [line for line in range(1, len(kept) + 1) if line not in known]
    moved = [kept[line - 1] for line in [*wanted, *rest] if kept[line - 1].strip()]
    with atomic_path(target) as path, path.open("wb") as out:
        out.writelines(line + b"\n" for line in moved)
    return len(moved)
