"""What people see: commands on a terminal of 60, 80 and 120 columns."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from prefixsim import Trace
from prefixsim._screen import width_of

if sys.platform == "win32":
    pytest.skip("Windows has no pseudo-terminals", allow_module_level=True)

import fcntl
import pty
import struct
import termios

COMMANDS = {
    "replay": "replay one_turn_a_time.jsonl whole_conversations.jsonl",
    "explain": "explain whole_conversations.jsonl --num-blocks 40 --engine ideal --top 1",
    "compare": "compare whole_conversations.jsonl --num-blocks 20,40 --max-num-seqs 4,16",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    system = list(range(1000, 1040))
    turns = [[*system, *range(s * 100, s * 100 + 30 * k)] for k in (1, 2, 3) for s in range(5)]
    alone = [turn[-30:] for turn in turns]
    Trace.from_prompts(turns).write(folder / "whole_conversations.jsonl")
    Trace.from_prompts(alone).write(folder / "one_turn_a_time.jsonl")
    return folder


def on_a_terminal(command: str, columns: int, folder: Path) -> str:
    """Run a command with a pseudo-terminal as standard output and return what it printed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "prefixsim", *command.split()],
        cwd=folder,
        env={**environment, "NO_COLOR": "1", "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert process.stderr is not None
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), error) == (0, b"")
    return b"".join(parts).decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_tables_fit_and_nothing_is_cut(
    name: str, columns: int, folder: Path, snapshot: SnapshotAssertion
) -> None:
    text = on_a_terminal(COMMANDS[name], columns, folder)
    assert max(map(width_of, text.splitlines())) <= columns
    assert "…" not in text
    assert text == snapshot


@pytest.mark.parametrize("name", COMMANDS)
def test_every_figure_is_there_at_every_width(name: str, folder: Path) -> None:
    wide, narrow = (on_a_terminal(COMMANDS[name], columns, folder) for columns in (300, 60))
    figures = re.compile(r"(?<![\w.,])\d[\d.,]*x?(?![\w.,])")
    table = re.compile("[▁-▏█]")  # bars are drawn to scale
    shown = {f for line in narrow.splitlines() for f in figures.findall(line)}
    for line in wide.splitlines():
        if not table.search(line):
            assert set(figures.findall(line.split("  ")[0])) <= shown
            assert set(figures.findall(line)) - shown <= {"1"}, line  # in notes, which go first
