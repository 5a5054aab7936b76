"""Install a wheel into a fresh virtual environment and use it as a newcomer would.

    python tools/check_wheel.py dist/prefixsim-*.whl

Looks into the wheel (license, type marker, stubs), installs the core alone and runs the README's
quick start with it, then installs every extra and runs the demo. Prints seconds and megabytes.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

__all__ = ["main", "quick_start"]

_TOP = Path(__file__).resolve().parents[1]
_MEGABYTE = 1_000_000


def quick_start(readme: str) -> list[str]:
    """Return the commands of the README's quick start, without the blocks marked as not run."""
    section = readme.partition("## Quick start")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?<!-->\n)```console\n(.*?)```", section, re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if line.startswith("prefixsim ")]


def _contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    for wanted in ("/licenses/LICENSE", "prefixsim/py.typed", "prefixsim/_core.pyi"):
        if not any(name.endswith(wanted) for name in names):
            raise SystemExit(f"{wheel.name}: has no {wanted}")
    for wanted in ("License-Expression: Apache-2.0", "License-File: LICENSE", "Author: "):
        if wanted not in text:
            raise SystemExit(f"{wheel.name}: its metadata has no '{wanted}'")


def _megabytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / _MEGABYTE


class _Environment:
    """A virtual environment of its own, and what was put into it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=True)
        self.folder = folder
        self.bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        self.empty = _megabytes(folder / "venv")

    def install(self, what: str) -> None:
        started = time.monotonic()
        command = [str(self.bin / "python"), "-m", "pip", "install", "--quiet", what]
        subprocess.run(command, check=True)
        size = _megabytes(self.folder / "venv") - self.empty
        print(f"pip install {what}: {time.monotonic() - started:.0f} s, {size:.0f} MB")

    def run(self, line: str) -> None:
        name, *arguments = shlex.split(line)
        started = time.monotonic()
        subprocess.run(
            [str(self.bin / name), *arguments],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )
        print(f"{line}: {time.monotonic() - started:.1f} s")


def main(wheel: Path) -> None:
    """Check one wheel."""
    _contents(wheel)
    commands = quick_start((_TOP / "README.md").read_text(encoding="utf-8"))
    if not commands:
        raise SystemExit("README.md: its quick start has no command")
    with tempfile.TemporaryDirectory() as folder:
        environment = _Environment(Path(folder))
        environment.install(str(wheel))
        for line in commands:
            environment.run(line)
        environment.install(f"{wheel}[all]")
        environment.run("prefixsim demo --output-dir demo")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: check_wheel.py WHEEL")
    main(Path(sys.argv[1]).resolve())
