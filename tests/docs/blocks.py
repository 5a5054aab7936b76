"""Fenced blocks of Markdown pages: found, run, compared, and their outputs written anew."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Block", "Page", "read_page"]

_MARK = re.compile(r"\s*<!-- (not run|data): (.+?) -->\s*$")
_SECONDS = 120


@dataclass
class Block:
    """One fenced block.

    Attributes
    ----------
    kind : str
        What the fence says: ``console``, ``python``...
    line : int
        Line of the fence, from 1.
    lines : list of str
    not_run, data : str or None
        From a comment on the line before: the reason why it is not run, or the recorded data it
        and the blocks after it need.
    """

    kind: str
    line: int
    lines: list[str]
    not_run: str | None = None
    data: str | None = None

    def commands(self) -> list[tuple[str, list[str]]]:
        """Return the commands of a console block, each with the output that the page shows."""
        commands: list[tuple[str, list[str]]] = []
        for line in self.lines:
            if commands and commands[-1][0].endswith("\\") and not line.startswith("$ "):
                commands[-1] = (commands[-1][0][:-1] + line.strip(), [])
            elif line.startswith("$ "):
                commands.append((line[2:], []))
            elif commands:
                commands[-1][1].append(line)
            else:
                msg = f"line {self.line}: a console block begins with a command after '$ '"
                raise ValueError(msg)
        return commands


@dataclass
class Page:
    """The blocks of one page, run one after the other in one folder and one namespace."""

    path: Path
    text: list[str]
    blocks: list[Block]
    names: dict[str, Any] = field(default_factory=dict)

    def run(self, folder: Path, data: Path | None, *, update: bool) -> list[str]:
        """Run the blocks and return what differs from the page.

        Parameters
        ----------
        folder : Path
            Where commands and code run.
        data : Path or None
            Recorded data; without it, a page ends at the first block that needs some.
        update : bool
            Put what commands print into :attr:`text` in place of comparing.
        """
        _put_command(folder)
        differences: list[str] = []
        moved = 0
        for block in self.blocks:
            if block.not_run is not None:
                continue
            if block.data is not None:
                if data is None:
                    break
                for name in block.data.split(", "):
                    shutil.copy(data / name, folder)
            if block.kind == "python":
                differences += self._run_python(block)
            elif block.kind == "console":
                shown = []
                for command, expected in block.commands():
                    printed = _run(command, folder)
                    if not _same(expected, printed):
                        differences.append(_difference(block, command, expected, printed))
                    keep = not expected or "..." in expected
                    shown += [*_as_written(block, command), *(expected if keep else printed)]
                if update:
                    begin = block.line + moved
                    self.text[begin : begin + len(block.lines)] = shown
                    moved += len(shown) - len(block.lines)
        return [] if update else differences

    def _run_python(self, block: Block) -> list[str]:
        source = "\n".join(block.lines) + "\n"
        where = f"{self.path.name}:{block.line}"
        if not source.startswith(">>>"):
            exec(compile("\n" * block.line + source, str(self.path), "exec"), self.names)
            return []
        test = doctest.DocTestParser().get_doctest(source, self.names, where, where, block.line)
        said: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        runner.run(test, out=said.append, clear_globs=False)
        self.names.update(test.globs)
        return said


def read_page(path: Path) -> Page:
    """Find the blocks of a page."""
    text = path.read_text(encoding="utf-8").splitlines()
    blocks: list[Block] = []
    marks: dict[str, str] = {}
    open_block: Block | None = None
    for number, line in enumerate(text, 1):
        fence = re.match(r"```(\w*)", line)
        if open_block is not None:
            if fence:
                open_block = None
            else:
                open_block.lines.append(line)
        elif fence:
            open_block = Block(
                fence[1], number, [], not_run=marks.get("not run"), data=marks.get("data")
            )
            blocks.append(open_block)
            marks = {}
        elif mark := _MARK.match(line):
            marks[mark[1]] = mark[2]
        elif line.strip():
            marks = {}
    return Page(path, text, blocks)


def _put_command(folder: Path) -> None:
    """Make ``prefixsim`` a command of the folder, run by this Python."""
    commands = folder / ".bin"
    commands.mkdir(exist_ok=True)
    if os.name == "nt":
        (commands / "prefixsim.cmd").write_text(f'@"{sys.executable}" -m prefixsim %*\n')
    else:
        script = commands / "prefixsim"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m prefixsim "$@"\n')
        script.chmod(0o755)


def _run(command: str, folder: Path) -> list[str]:
    """Run a command and return the lines it prints; a failure is shown as a shell would tell."""
    environment = {
        **os.environ,
        "PATH": f"{folder / '.bin'}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "PYTHONUTF8": "1",
    }
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=_SECONDS,
        check=False,
    )
    lines = [line.rstrip() for line in done.stdout.rstrip().splitlines()]
    return lines if done.returncode == 0 else [*lines, f"(exit code {done.returncode})"]


def _same(expected: list[str], printed: list[str]) -> bool:
    """Compare: a line ``...`` stands for any lines, no lines at all for any but a failure."""
    if not expected:
        return not (printed and printed[-1].startswith("(exit code "))
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line.rstrip()) + r"\n"
        for line in expected
    )
    return re.fullmatch(pattern, "".join(line + "\n" for line in printed)) is not None


def _difference(block: Block, command: str, expected: list[str], printed: list[str]) -> str:
    shown = "\n".join(f"- {line}" for line in expected)
    got = "\n".join(f"+ {line}" for line in printed)
    return f"line {block.line}: $ {command}\n{shown}\n{got}"


def _as_written(block: Block, command: str) -> list[str]:
    """Return the lines of a command as they are in the page, continued ones too."""
    for at, line in enumerate(block.lines):
        if not line.startswith("$ "):
            continue
        end = at
        while block.lines[end].endswith("\\"):
            end += 1
        joined = line[2:]
        for more in block.lines[at + 1 : end + 1]:
            joined = joined[:-1] + more.strip()
        if joined == command:
            return block.lines[at : end + 1]
    raise AssertionError(command)
