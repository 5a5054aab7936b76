"""``prefixsim sweep``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import ManyRuns, Output, Reading
from prefixsim.cli._options import REQUIRED, Command, EngineChoice, comma_list
from prefixsim.engines.cache_size import read_cache_size
from prefixsim.settings import argument, setting

if TYPE_CHECKING:
    from prefixsim.study.sweeps import Sweep

__all__ = ["COMMAND", "SweepOptions", "sweep_command"]

CHARTS = (".png", ".svg", ".html")


def _read_capacities(text: object) -> tuple[object, ...]:
    found = tuple(read_cache_size(part) for part in comma_list(text))
    if any(isinstance(size, int) and size < 1 for size in found):
        raise ValueError("must be at least 1 block")
    return found


@dataclass(frozen=True)
class SweepOptions(Reading, ManyRuns, Output):
    """Options of ``prefixsim sweep``."""

    trace: Path = argument(REQUIRED, help="A trace file.", metavar="TRACE")
    capacity: tuple[object, ...] = setting(
        (None,),
        help="Usable blocks (5000, 20k, 3M), sizes like 40GB (with --model-config or "
        "--bytes-per-token), or 'inf'; several with commas.",
        metavar="SIZE,...",
        read=_read_capacities,
        shown_default="inf",
    )


def sweep_command(options: SweepOptions, choice: EngineChoice) -> None:
    """Replay every combination, and print or write the table."""
    from prefixsim._json import dumps
    from prefixsim.cli._terminal import counting, print_tables, working
    from prefixsim.forest import load_or_compile
    from prefixsim.study.sweeps import sweep
    from prefixsim.trace.provenance import provenance, trace_facts

    _check_outputs(options.output)
    trace = options.read_tokens(options.trace)
    given = dict(choice.given)
    policy = given.pop("policy", None)
    capacity = None if "num_blocks" in given else list(options.capacity)
    with working(f"compiling {trace.name}"):
        outputs = any(given.get("cache_outputs", ()))
        forest = trace if outputs else load_or_compile(trace, options.cache_dir)
    with counting(f"replaying {trace.name}") as progress:
        table = sweep(
            forest,
            engine=choice.names or None,
            policy=policy,
            capacity=capacity,
            ray=options.ray,
            resume=options.resume,
            progress=progress,
            **given,
        )
    for path in options.output:
        _write(table, path)
    if options.as_json:
        origin = provenance(trace, {name: _plain(value) for name, value in given.items()})
        facts = trace_facts(trace, origin["digest"])
        runs = table.to_pylist()
        sys.stdout.write(dumps({"trace": facts, "provenance": origin, "runs": runs}))
    else:
        print_tables([table.table()])


def _plain(value: object) -> object:
    if isinstance(value, list):
        found = [_plain(item) for item in value]
        return found[0] if len(found) == 1 else found
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _check_outputs(paths: tuple[Path, ...]) -> None:
    from prefixsim._arrow_files import check_ending
    from prefixsim._files import check_writable

    for path in paths:
        if path.suffix not in CHARTS:
            check_ending(path)
        check_writable(path)


def _write(table: Sweep, path: Path) -> None:
    from prefixsim._arrow_files import write_table
    from prefixsim.charts import save_as

    if path.suffix in CHARTS:
        save_as(table.plot(), path)
    else:
        write_table(table.to_arrow(), path)


COMMAND = Command("sweep", COMMANDS["sweep"], SweepOptions, sweep_command, engines="many")
