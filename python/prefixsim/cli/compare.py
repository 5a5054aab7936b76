"""``prefixsim compare``: servers and their settings on one trace."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson, ManyRuns, Reading
from prefixsim.cli._options import REQUIRED, Command, EngineChoice
from prefixsim.settings import argument, setting

__all__ = ["COMMAND", "CompareOptions", "compare_command"]

_TIMED = "ttft_s.median"
_UNTIMED = "token_hit_rate"
# Results name this setting as the command line does.
_SHOWN = {"enable_caching": "prefix_caching"}


@dataclass(frozen=True)
class CompareOptions(Reading, ManyRuns, AsJson):
    """Options of ``prefixsim compare``."""

    trace: Path = argument(REQUIRED, help="A trace file.", metavar="TRACE")
    rank_by: str | None = setting(
        None,
        help="The figure that comes first when best, such as ttft_s.p99 or token_hit_rate; '' "
        "leaves the order.",
        metavar="FIGURE",
        shown_default=f"{_TIMED}, without time {_UNTIMED}",
    )


def compare_command(options: CompareOptions, choice: EngineChoice) -> None:
    """Run every combination, and print them, best first."""
    from prefixsim._json import dumps
    from prefixsim.cli._terminal import counting, print_tables
    from prefixsim.engines import timed
    from prefixsim.reports.serving import comparison
    from prefixsim.study.compare import compare, differences

    trace = options.read_tokens(options.trace)
    given = {**choice.given}
    given.setdefault("enable_caching", [True, False])
    with counting(f"simulating {trace.name}") as progress:
        found = compare(
            trace,
            engine=choice.names or timed(),
            ray=options.ray,
            resume=options.resume,
            progress=progress,
            **given,
        )
    runs = [({_SHOWN.get(k, k): v for k, v in row.items()}, s) for row, s in found.runs]
    if options.as_json:
        shown = [{"settings": settings, "summary": summary} for settings, summary in runs]
        sys.stdout.write(dumps({"trace": trace.name, "digest": trace.digest, "runs": shown}))
        return
    names = [_SHOWN.get(name, name) for name in found.axes] or ["num_blocks"]
    fixed = {k: v for k, v in found.fixed.items() if k not in ("engine", *names)}
    words = ", ".join(f"{_SHOWN.get(name, name)} {value}" for name, value in fixed.items())
    engines = " and ".join(engine.name for engine in found.engines)
    title = f"{trace.name}: {len(runs)} runs of {engines}{f' ({words})' if words else ''}"
    timed_runs = any("ttft_s" in summary for _, summary in runs)
    rank_by = options.rank_by
    if rank_by is None:
        rank_by = _TIMED if timed_runs else _UNTIMED
    if any("estimate" in summary for _, summary in runs):
        title += "\ntimes are an estimate: rooflines of data sheets"
    told = differences(found.engines)
    tables = [comparison(names, runs, rank_by or None, title)]
    print_tables(tables if told is None else [*tables, told])


COMMAND = Command("compare", COMMANDS["compare"], CompareOptions, compare_command, engines="many")
