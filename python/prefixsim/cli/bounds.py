"""``prefixsim bounds``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import Output, Reading
from prefixsim.cli._options import REQUIRED, Command
from prefixsim.errors import InputError
from prefixsim.settings import argument, setting

__all__ = ["COMMAND", "Bounds", "bounds_command"]

_ENDINGS = (".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Bounds(Reading, Output):
    """Options of ``prefixsim bounds``."""

    trace: Path = argument(REQUIRED, help="A trace of tokens or texts.", metavar="TRACE")
    block_size: int = setting(
        16, help="Tokens per block; no shorter stretch is reused.", least=1, unit="tokens"
    )
    chunk_size: int = setting(
        64,
        help="Tokens of a content-defined chunk on average, a power of two.",
        least=1,
        unit="tokens",
    )
    recompute: float = setting(
        0.15,
        help="Share of the reused tokens that are no prefix which is computed anew.",
        least=0,
        most=1,
        metavar="SHARE",
    )


def bounds_command(options: Bounds) -> None:
    """Bound what reuse at any place could find, and print or write it."""
    from prefixsim._arrow_files import write_table
    from prefixsim._files import atomic_write, check_writable
    from prefixsim.cli._terminal import print_tables, working
    from prefixsim.study.reuse_bounds import bound_tables, bounds

    for path in options.output:
        if path.suffix not in _ENDINGS:
            msg = f"{path}: the ending says no format, use one of {', '.join(_ENDINGS)}"
            raise InputError(msg)
        check_writable(path)
    trace = options.read_tokens(options.trace)
    with working(f"looking for text of {trace.name} that comes back"):
        found = bounds(
            trace,
            block_size=options.block_size,
            chunk_size=options.chunk_size,
            recompute=options.recompute,
        )
    for path in options.output:
        if path.suffix == ".json":
            atomic_write(path, found.to_json())
        else:
            write_table(found.to_arrow(), path)
    if options.as_json:
        sys.stdout.write(found.to_json())
    else:
        print_tables(bound_tables(found))


COMMAND = Command("bounds", COMMANDS["bounds"], Bounds, bounds_command)
