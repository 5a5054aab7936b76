"""The scripts in examples/ run, and print what they say they print."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
UPDATE = "PREFIXSIM_UPDATE_DOCS" in os.environ
SCRIPTS = sorted((TOP / "examples").glob("*.py"))


def promised(path: Path) -> list[str]:
    """Return the lines under ``Prints::`` in a script's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    printed = docstring.partition("Prints::\n")[2]
    return [line.removeprefix("    ") for line in printed.strip("\n").splitlines()]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_an_example_prints_what_it_says(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUTF8": "1", "PYTHONWARNINGS": "error"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if UPDATE:
        source = path.read_text(encoding="utf-8")
        head, _, rest = source.partition("Prints::\n")
        shown = "".join(f"    {line}".rstrip() + "\n" for line in done.stdout.splitlines())
        body = rest.partition('"""')[2]
        path.write_text(f'{head}Prints::\n\n{shown}"""{body}', encoding="utf-8")
    assert [line.rstrip() for line in done.stdout.splitlines()] == promised(path)


def test_there_are_examples() -> None:
    assert len(SCRIPTS) >= 6
    assert all(promised(path) for path in SCRIPTS)
