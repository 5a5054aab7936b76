"""``prefixsim info``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefixsim.cli import app

if TYPE_CHECKING:
    from prefixsim.table import Table

_SPREADS = {
    "prompt_len": "prompt tokens",
    "prompt_characters": "prompt characters",
    "messages_per_request": "messages per request",
    "output_len": "output tokens",
    "turns_per_session": "turns per session",
}
_STATISTICS = ("mean", "min", "median", "p90", "p99", "max")
_LABELS_SHOWN = 12


@app.command("info", no_args_is_help=True)
def info_command(  # noqa: PLR0917 - the parser passes options by name
    trace: Annotated[str, typer.Argument(metavar="TRACE", help="File, pattern, or '-'.")],
    trace_format: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Default: found.")
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="TOKENS", help="For the ceiling hit rate."),
    ] = None,
    sort: Annotated[bool, typer.Option("--sort", help="Sort rows by timestamp.")] = False,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave bad rows out and count them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Say what is in a trace: requests, sessions, lengths, rate, and its ceiling hit rate."""
    from prefixsim._json import dumps  # noqa: PLC0415
    from prefixsim.cli._terminal import print_tables, reading  # noqa: PLC0415
    from prefixsim.formats import read_trace  # noqa: PLC0415
    from prefixsim.study.describe import info as describe  # noqa: PLC0415

    with reading(Path(trace)) as progress:
        read = read_trace(
            trace, format=trace_format, sort=sort, skip_bad_rows=skip_bad_rows, progress=progress
        )
    facts = describe(read, block_size=block_size)
    if as_json:
        sys.stdout.write(dumps(facts))
    else:
        print_tables(_tables(facts))


def _tables(facts: dict[str, Any]) -> list[Table]:
    from prefixsim.table import Table  # noqa: PLC0415

    tables = [Table(facts["name"], ["", ""], _rows(facts))]
    spreads = [
        [label, *(f"{facts[key][s]:,.1f}" for s in _STATISTICS)]
        for key, label in _SPREADS.items()
        if facts.get(key)
    ]
    tables.append(Table("", ["", *_STATISTICS], spreads))
    for name in ("category", "salt", "rows_skipped"):
        if name in facts:
            counts = sorted(facts[name].items(), key=lambda item: -item[1])
            rows = [[label or "(none)", f"{n:,}"] for label, n in counts[:_LABELS_SHOWN]]
            if len(counts) > _LABELS_SHOWN:
                rows.append([f"... and {len(counts) - _LABELS_SHOWN:,} more", ""])
            tables.append(Table("", [name.replace("_", " "), "requests"], rows))
    return tables


def _rows(facts: dict[str, Any]) -> list[list[str]]:
    rate = facts["request_rate"]
    rows: list[tuple[str, str | None]] = [
        ("format", f"{facts['format']} ({facts.get('texts', facts['kind'])})"),
        ("requests", f"{facts['requests']:,}"),
        ("sessions", f"{facts['sessions']:,}" if "sessions" in facts else None),
        ("prompt tokens", f"{facts['prompt_tokens']:,}" if "prompt_tokens" in facts else None),
        ("output tokens", f"{facts['output_tokens']:,}" if "output_tokens" in facts else None),
        ("time span", f"{facts['span_s']:,.1f} s"),
        ("request rate", None if rate is None else f"{rate:,.3f} requests/s"),
        ("same time as the one before", f"{facts['same_time_as_before']:,}"),
    ]
    if facts.get("duplicate_request_ids"):
        rows.append(("duplicate request ids", f"{facts['duplicate_request_ids']:,}"))
    if "hash_ids" in facts:
        rows += [
            ("tokens per hash id", f"{facts['id_block_size']:,}"),
            ("hash ids", f"{facts['hash_ids']:,}"),
            ("ids with several prefixes", _unchained(facts["unchained_ids"])),
        ]
    if "block_size" in facts:
        ceiling = facts["ceiling_token_hit_rate"]
        rows += [
            ("block size", f"{facts['block_size']:,} tokens"),
            ("unique blocks", f"{facts['unique_blocks']:,}"),
            ("ceiling token hit rate", f"{100 * ceiling:.2f} % (infinite cache)"),
        ]
    return [[label, value] for label, value in rows if value is not None]


def _unchained(count: int) -> str:
    if not count:
        return "0 (chained)"
    return f"{count:,} (not chained; 'convert --content-hashes' chains them)"
