"""``prefixsim compile``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from prefixsim.cli import app
from prefixsim.cli._remote_code import TrustRemoteCode


@app.command("compile", no_args_is_help=True)
def compile_command(  # noqa: PLR0917 - the parser passes options by name
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="File, pattern, or '-'.")],
    trace_format: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Default: found.")
    ] = None,
    cache_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where compiled traces are kept, by content.")
    ] = Path(".prefixsim"),
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Tokenizer for text traces.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    sort: Annotated[bool, typer.Option("--sort", help="Sort rows by timestamp.")] = False,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave bad rows out and count them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compile a trace ahead; curve, sweep and others find it with the same --cache-dir."""
    from prefixsim._files import check_writable  # noqa: PLC0415
    from prefixsim._json import dumps  # noqa: PLC0415
    from prefixsim.cli._terminal import (  # noqa: PLC0415
        print_tables,
        reading,
        report_skipped,
        working,
    )
    from prefixsim.forest import load_or_compile  # noqa: PLC0415
    from prefixsim.formats import read_trace  # noqa: PLC0415
    from prefixsim.study.replay import with_tokens  # noqa: PLC0415
    from prefixsim.table import Table  # noqa: PLC0415

    check_writable(cache_dir, folder=True)
    with reading(trace) as progress:
        read = read_trace(
            trace, format=trace_format, sort=sort, skip_bad_rows=skip_bad_rows, progress=progress
        )
    report_skipped(trace, read.meta)
    with working(f"compiling {read.name}"):
        forest = load_or_compile(with_tokens(read, model), cache_dir)
    figures = asdict(forest.stats)
    if as_json:
        digest = forest.trace.digest
        sys.stdout.write(dumps({"trace": read.name, "digest": digest, "forest": figures}))
        return
    rows = [[name.replace("_", " "), f"{value:,}"] for name, value in figures.items()]
    print_tables([Table(f"{read.name}: compiled in {cache_dir}", ["", ""], rows)])
