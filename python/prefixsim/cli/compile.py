"""``prefixsim compile``."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson, Reading
from prefixsim.cli._options import REQUIRED, Command
from prefixsim.settings import argument

__all__ = ["COMMAND", "Compile", "compile_command"]

_FOLDER = Path(".prefixsim")


@dataclass(frozen=True)
class Compile(Reading, AsJson):
    """Options of ``prefixsim compile``."""

    trace: Path = argument(REQUIRED, help="File, pattern, or '-'.", metavar="TRACE")


def compile_command(options: Compile) -> None:
    """Compile a trace and keep it."""
    from prefixsim._files import check_writable
    from prefixsim._json import dumps
    from prefixsim.cli._terminal import print_tables, working
    from prefixsim.forest import load_or_compile
    from prefixsim.table import Table

    folder = options.cache_dir or _FOLDER
    check_writable(folder, folder=True)
    trace = options.read_tokens(options.trace)
    with working(f"compiling {trace.name}"):
        forest = load_or_compile(trace, folder)
    figures = asdict(forest.stats)
    if options.as_json:
        digest = forest.trace.digest
        sys.stdout.write(dumps({"trace": trace.name, "digest": digest, "forest": figures}))
        return
    rows = [[name.replace("_", " "), f"{value:,}"] for name, value in figures.items()]
    print_tables([Table(f"{trace.name}: compiled in {folder}", ["", ""], rows)])


COMMAND = Command("compile", COMMANDS["compile"], Compile, compile_command)
