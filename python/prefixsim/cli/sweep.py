"""``prefixsim sweep``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from prefixsim.cli import app
from prefixsim.cli._remote_code import TrustRemoteCode

if TYPE_CHECKING:
    from prefixsim.study.curves import Policy
    from prefixsim.table import Table

INFINITE = "inf"


@app.command("sweep", no_args_is_help=True)
def sweep_command(  # noqa: PLR0917 - the parser passes options by name
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file.")],
    trace_format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="Format of the trace; default: found."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Tokenizer for text traces: hub name, local folder, or 'demo'."
        ),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    engine: Annotated[
        str, typer.Option(metavar="NAME,...", help="'lru' (ideal), 'block-manager'...")
    ] = "lru",
    policy: Annotated[
        str, typer.Option(metavar="NAME,...", help="'lru', 'clairvoyant' or both.")
    ] = "lru",
    block_size: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS,...", help="Default: 16; for hash ids, the tokens each stands for."
        ),
    ] = None,
    capacity: Annotated[
        str,
        typer.Option(metavar="BLOCKS,...", help="Like 5000,20k,3M; 'inf' is an infinite cache."),
    ] = INFINITE,
    last_token_rule: Annotated[
        bool,
        typer.Option(
            "--last-token-rule/--whole-prompt-hits",
            help="Compute at least the last token of every prompt, or let whole prompts hit.",
        ),
    ] = True,
    cache_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep compiled traces here, by content."),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Write .parquet, .csv or .jsonl; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave bad rows out and count them.")
    ] = False,
    sort: Annotated[
        bool, typer.Option("--sort", help="Sort rows by timestamp instead of refusing them.")
    ] = False,
) -> None:
    """Replay every combination of engines, policies, block sizes and capacities, on all cores."""
    from prefixsim.cli._terminal import (  # noqa: PLC0415
        check_choice,
        print_tables,
        reading,
        report_skipped,
        working,
    )
    from prefixsim.cli.curve import Capacity, whole_numbers  # noqa: PLC0415
    from prefixsim.engines import engine_names  # noqa: PLC0415

    _check_outputs(output or [])
    engines = [name.strip() for name in engine.split(",")]
    policies = [name.strip() for name in policy.split(",")]
    for name in engines:
        check_choice("--engine", name, engine_names())
    for name in policies:
        check_choice("--policy", name, ("lru", "clairvoyant"))
    sizes = None if block_size is None else whole_numbers("--block-size", block_size)
    capacities = [
        None if text.strip() == INFINITE else Capacity(text).blocks(1, None)
        for text in capacity.split(",")
    ]

    from prefixsim.forest import load_or_compile  # noqa: PLC0415
    from prefixsim.formats import read_trace  # noqa: PLC0415
    from prefixsim.study.replay import with_tokens  # noqa: PLC0415
    from prefixsim.study.sweeps import sweep  # noqa: PLC0415

    with reading(trace) as progress:
        read = read_trace(
            trace, format=trace_format, sort=sort, skip_bad_rows=skip_bad_rows, progress=progress
        )
    report_skipped(trace, read.meta)
    with working(f"replaying {read.name}"):
        read = with_tokens(read, model)
        table = sweep(
            load_or_compile(read, cache_dir),
            engine=engines,
            policy=cast("list[Policy]", policies),
            block_size=sizes,
            capacity=capacities,
            last_token_rule=last_token_rule,
        )
    if output:
        from prefixsim.study.request_table import write_requests  # noqa: PLC0415

        for path in output:
            write_requests(table, path)
    if as_json:
        from prefixsim._json import dumps  # noqa: PLC0415
        from prefixsim.trace.provenance import provenance, trace_facts  # noqa: PLC0415

        origin = provenance(read, {"last_token_rule": last_token_rule})
        facts = trace_facts(read, origin["digest"])
        sys.stdout.write(dumps({"trace": facts, "provenance": origin, "runs": table.to_pylist()}))
    else:
        print_tables([_table(read.name, table.to_pylist())])


def _check_outputs(paths: list[Path]) -> None:
    from prefixsim._files import check_writable  # noqa: PLC0415
    from prefixsim.study.request_table import check_ending  # noqa: PLC0415

    for path in paths:
        check_ending(path)
        check_writable(path)


def _table(name: str, rows: list[dict[str, Any]]) -> Table:
    from prefixsim.table import Table, written  # noqa: PLC0415

    heads = ["engine", "policy", "block size", "capacity (blocks)"]
    figures = ["token hit rate", "block reuse rate", "evictions"]
    cells = [
        [
            row["engine"],
            row["policy"],
            str(row["block_size"]),
            "infinite" if row["capacity_blocks"] is None else f"{row['capacity_blocks']:,}",
            written(row["token_hit_rate"], "rate"),
            written(row["block_reuse_rate"], "rate"),
            f"{row['evictions']:,}",
        ]
        for row in rows
    ]
    return Table(name, [*heads, *figures], cells)
