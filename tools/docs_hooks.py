"""Parts of the documentation that the program writes itself: what its commands print as help.

A page asks for a part by a comment, ``<!-- generated: commands -->`` for one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from prefixsim.cli import COMMANDS

__all__ = ["commands", "on_page_markdown"]


def _help(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "prefixsim", *arguments, "--help"],
        env={**os.environ, "COLUMNS": "96", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.rstrip()


def commands() -> str:
    """Return a section for each command, with what its ``--help`` prints."""
    return "\n".join(f"## {name}\n\n```text\n{_help(name)}\n```\n" for name in COMMANDS)


_PARTS = {"commands": commands}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the generated parts where a page asks for them."""
    for name, make in _PARTS.items():
        place = f"<!-- generated: {name} -->"
        if place in markdown:
            markdown = markdown.replace(place, make())
    return markdown
