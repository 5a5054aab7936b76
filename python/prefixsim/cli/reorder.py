"""``prefixsim reorder``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim._printable import printable
from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson, Reading
from prefixsim.cli._options import REQUIRED, Command, EngineChoice
from prefixsim.errors import InputError
from prefixsim.settings import argument, setting

if TYPE_CHECKING:
    from prefixsim.study.reorder import Reordering
    from prefixsim.trace import Trace

__all__ = ["COMMAND", "Reorder", "reorder_command"]

_BATCH = "batch"


@dataclass(frozen=True)
class Reorder(Reading, AsJson):
    """Options of ``prefixsim reorder``."""

    trace: Path = argument(REQUIRED, help="A trace, or an OpenAI batch file.", metavar="TRACE")
    output: Path | None = setting(
        None,
        help="Write the requests here in the new order: a batch file's lines as they are, of other "
        "traces the requests at the times of the old order. Without it the gain is measured only.",
        flag=("-o", "--output"),
        metavar="FILE",
    )
    to: str | None = setting(
        None, help="Format to write.", metavar="NAME", shown_default="by the ending"
    )
    shuffles: int = setting(3, help="Random orders to compare with.", least=0, metavar="N")
    shuffle_seed: int = setting(0, help="Of the first shuffle.", least=0, most=2**63, metavar="N")


def reorder_command(options: Reorder, choice: EngineChoice) -> None:
    """Put a batch in order, write it, and print the gain."""
    from prefixsim.cli._terminal import print_tables, tokenized, working
    from prefixsim.study.reorder import reorder, reorder_tables

    _check_output(options, choice)
    trace = options.read(options.trace)
    if trace.format == _BATCH and options.output is not None:
        _check_batch(options)
    tokens = tokenized(trace, options.model, options.cache_dir)
    with working(f"replaying orders of {trace.name}"):
        found = reorder(
            tokens,
            engine=choice.name,
            shuffles=options.shuffles,
            seed=options.shuffle_seed,
            **choice.given,
        )
    if options.output is not None:
        with working("writing"):
            _write(found, trace, options, options.output)
    if options.as_json:
        sys.stdout.write(found.to_json())
    else:
        print_tables(reorder_tables(found))


def _check_output(options: Reorder, choice: EngineChoice) -> None:
    """Refuse what cannot be written before any work is done."""
    from prefixsim._atomic import check_writable, refuse_own_input
    from prefixsim.formats._inputs import named_files

    if choice.records:
        name = next(iter(choice.records))
        msg = f"{choice.typed[name]}: reorder keeps no records, replay what it writes"
        raise InputError(msg)
    if options.output is None:
        if options.to is not None:
            msg = f"--to {options.to}: belongs to a file, give --output FILE as well"
            raise InputError(msg)
        return
    check_writable(options.output)
    refuse_own_input(options.output, list(named_files(options.trace)))


def _check_batch(options: Reorder) -> None:
    """Refuse a batch whose lines cannot be read again, or written as they are."""
    if not options.trace.is_file():
        msg = f"{options.trace}: give the one batch file whose lines are to be put in order"
        raise InputError(msg)
    if options.to is not None:
        msg = f"--to {options.to}: a batch file stays one, its lines as they are"
        raise InputError(msg)
    if options.output is not None and options.output.suffix != ".jsonl":
        msg = f"{options.output}: a batch file is plain JSON Lines, give a name that ends in .jsonl"
        raise InputError(msg)


def _write(found: Reordering, trace: Trace, options: Reorder, output: Path) -> None:
    if trace.format == _BATCH:
        from prefixsim.formats.batch_lines import lines_of_requests, write_lines

        lines = lines_of_requests(options.trace, skip_bad_rows=options.skip_bad_rows)
        count = write_lines(options.trace, output, [lines[row] for row in found.order.tolist()])
        told = f"{count:,} lines"
    else:
        from prefixsim.formats import write_trace
        from prefixsim.study.reorder import in_order

        write_trace(in_order(trace, found.order), output, format=options.to)
        told = f"{len(trace):,} requests"
    sys.stderr.write(f"prefixsim: {printable(str(output))}: {told}\n")


COMMAND = Command("reorder", COMMANDS["reorder"], Reorder, reorder_command, engines="one")
