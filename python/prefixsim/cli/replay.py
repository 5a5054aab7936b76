"""``prefixsim replay``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import Measuring, Output, Reading
from prefixsim.cli._options import Command, EngineChoice
from prefixsim.errors import InputError
from prefixsim.settings import argument, setting

if TYPE_CHECKING:
    from prefixsim.engines import Engine
    from prefixsim.forest import Forest
    from prefixsim.reports.files import TableFormat
    from prefixsim.study.block_hashing import BlockCount
    from prefixsim.study.metrics import GroupLabel
    from prefixsim.study.result import Result
    from prefixsim.trace import Trace

__all__ = ["COMMAND", "Replay", "replay_all", "replay_command"]

GROUPS_SHOWN = 20


@dataclass(frozen=True)
class Replay(Measuring, Reading, Output):
    """Options of ``prefixsim replay``."""

    traces: tuple[Path, ...] = argument(
        (), help="Trace files; several are compared.", metavar="TRACE...", many=True
    )
    trace_file: tuple[Path, ...] = setting(
        (), help="A trace file; may be repeated.", metavar="TRACE", many=True
    )
    warm_start: Path | None = setting(
        None, help="Begin with the cache that this recording of KV events leaves.", metavar="FILE"
    )
    by: str | None = setting(
        None, help="Rates by a label too", choices=("category", "salt", "session"), metavar="LABEL"
    )
    hashing: Literal["chained", "unchained"] = setting(
        "chained",
        help="Also count the blocks that repeat anywhere in a prompt, told apart by their own "
        "tokens alone, as simple simulators do; no server does this",
    )
    requests_out: Path | None = setting(
        None, help="Write one row per request (.parquet, .csv, .jsonl).", metavar="FILE"
    )
    output_dir: Path | None = setting(
        None, help="Write JSON, per-request tables, PNG and SVG charts.", metavar="DIR"
    )
    table: str = setting(
        "parquet",
        help="Form of the tables in --output-dir",
        choices=("parquet", "csv", "jsonl"),
        metavar="FORM",
    )
    skip_visualization: bool = setting(False, help="No charts in --output-dir.")


def _check_outputs(options: Replay, files: Sequence[Path], choice: EngineChoice) -> None:
    """Refuse outputs that cannot be written before any work is done."""
    from prefixsim._files import check_writable

    if options.output_dir is not None:
        check_writable(options.output_dir, folder=True)
    of_one_trace = [*([options.requests_out] if options.requests_out else [])]
    of_one_trace += choice.records.values()
    for path in [*of_one_trace, *options.output]:
        check_writable(path)
    if options.requests_out is not None:
        from prefixsim._arrow_files import check_ending

        check_ending(options.requests_out)
    if of_one_trace and len(files) > 1:
        msg = f"{of_one_trace[0]}: takes the records of one trace, replay them one by one"
        raise InputError(msg)


def _engine_for(choice: EngineChoice) -> Engine:
    """Return the engine, which must be able to keep the records asked for.

    Raises
    ------
    InputError
        If it cannot, or a file name's ending says no form of the record.
    """
    from prefixsim.engines import choose, engines

    engine: str | Engine | None = choice.name
    if not choice.records:
        return choose(engine, choice.given)
    owners = [
        e
        for e in engines().values()
        if any(r.name in choice.records for r in e.capabilities.records)
    ]
    if engine is None:
        engine = owners[0]
    found = choose(engine, choice.given)
    kept = {record.name: record for record in found.capabilities.records}
    for name, path in choice.records.items():
        if name not in kept:
            has = " and ".join(repr(e.name) for e in owners)
            msg = f"{choice.typed[name]}: engine {found.name!r} keeps no such record, {has} does"
            raise InputError(msg)
        endings = kept[name].endings
        if endings and path.suffix not in endings:
            msg = f"{path}: the ending says no table format, use one of {', '.join(endings)}"
            raise InputError(msg)
    return found


def replay_command(options: Replay, choice: EngineChoice) -> None:
    """Replay traces, and print or write what came out."""
    replay_all(options, choice)


def replay_all(options: Replay, choice: EngineChoice) -> list[Result]:
    """Do what the command does, and return the results."""
    from prefixsim._files import atomic_write
    from prefixsim.cli._terminal import charts_wanted, working

    files = [*options.traces, *options.trace_file]
    if not files:
        msg = "no trace given, name one or more trace files"
        raise InputError(msg)
    engine = _engine_for(choice)
    _check_outputs(options, files, choice)
    results = [_replayed(path, options, choice, engine) for path in files]
    for path in options.output:
        atomic_write(path, _as_json(results, options.hashing))
    if options.requests_out is not None:
        from prefixsim._arrow_files import write_table

        write_table(results[0].requests, options.requests_out)
    for name, path in choice.records.items():
        results[0].outcome.records[name](path)
    if options.output_dir is not None:
        from prefixsim.reports.files import save_results

        charts = charts_wanted(options.skip_visualization)
        with working("writing") as step:
            save_results(
                results,
                options.output_dir,
                charts=charts,
                table=cast("TableFormat", options.table),
                step=lambda what: step(f"writing {what}"),
            )
    if options.as_json:
        sys.stdout.write(_as_json(results, options.hashing))
    else:
        _print(results, options.by)
        if options.hashing != "chained":
            _print_hashed(results)
    return results


def _replayed(path: Path, options: Replay, choice: EngineChoice, engine: Engine) -> Result:
    from prefixsim.cli._terminal import working
    from prefixsim.study.replay import replay

    trace = options.read_tokens(path)
    given = {**choice.given, "record": tuple(choice.records)}

    def run(source: Trace | Forest, **changes: Any) -> Result:
        return replay(
            source,
            engine=engine,
            warmup=options.warmup,
            warm_start=options.warm_start,
            cache_dir=options.cache_dir,
            **{**given, **changes},
        )

    with working(f"replaying {trace.name}"):
        result = run(trace)
        if engine.capabilities.has_time and result.config["enable_caching"]:
            forest: Forest = result.metrics.forest
            without = run(forest, enable_caching=False, record=())
            result = replace(result, without_caching=without)
    return result


def _print(results: list[Result], by: str | None) -> None:
    from prefixsim.cli._terminal import print_tables
    from prefixsim.study.result import labels
    from prefixsim.study.tables import comparison_tables, group_table, summary_tables

    if len(results) == 1:
        tables = summary_tables(results[0])
    else:
        tables = comparison_tables(results, labels(results))
    for result in results:
        if "ttft_s" in result.summary:
            from prefixsim.reports.serving import serving_table

            without = [result.without_caching] if result.without_caching else []
            names = ["with caching", "without caching"] if without else [result.trace.name]
            tables.append(serving_table([result, *without], names))
    for result in results if by else []:
        groups = result.metrics.groups(cast("GroupLabel", by))
        if groups is None:
            msg = f"{result.trace.name}: its requests have no {by}"
            raise InputError(msg)
        tables.append(group_table(str(by), groups, GROUPS_SHOWN))
    print_tables(tables)


def _counted(result: Result) -> tuple[BlockCount, ...]:
    from prefixsim.study.block_hashing import block_counts

    return block_counts(result.trace, result.metrics.block_size)


def _as_json(results: list[Result], hashing: str) -> str:
    from prefixsim import _json
    from prefixsim.study.result import results_json

    if hashing == "chained":
        return results_json(results)
    told = [
        {**result.to_dict(), "block_hashing": [count.to_dict() for count in _counted(result)]}
        for result in results
    ]
    return _json.dumps(told[0] if len(told) == 1 else told)


def _print_hashed(results: list[Result]) -> None:
    from prefixsim.cli._terminal import print_tables
    from prefixsim.study.block_hashing import count_table

    sys.stdout.write("\n")
    print_tables([count_table(result.trace.name, _counted(result)) for result in results])


COMMAND = Command("replay", COMMANDS["replay"], Replay, replay_command, engines="one")
