"""``prefixsim lint``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from prefixsim.cli import app
from prefixsim.cli._remote_code import TrustRemoteCode


@app.command("lint", no_args_is_help=True)
def lint_command(  # noqa: PLR0917 - the parser passes options by name
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Tokenizer: for text traces, and to tell times, ids and names apart.",
        ),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    min_requests: Annotated[
        int, typer.Option(min=1, metavar="N", help="Requests a finding has to concern.")
    ] = 3,
    min_share: Annotated[
        float,
        typer.Option(min=0.0, metavar="SHARE", help="Share of all prompt tokens it has to cost."),
    ] = 0.001,
    max_requests: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Requests looked at; of more, every so many."),
    ] = 20_000,
    trace_format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="Format of the trace; default: found."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Find what in the prompts keeps prefixes from being shared: times, ids, order, whitespace."""
    from prefixsim.cli._terminal import print_tables, reading, working  # noqa: PLC0415
    from prefixsim.explanations.lint import lint, lint_tables  # noqa: PLC0415
    from prefixsim.forest import compile as compile_trace  # noqa: PLC0415
    from prefixsim.formats import read_trace  # noqa: PLC0415

    with reading(trace) as progress:
        columns = read_trace(trace, format=trace_format, progress=progress)
    with working(f"looking at {columns.name}"):
        decode = None
        if columns.kind == "text":
            from prefixsim.text.text_trace import tokenize_trace  # noqa: PLC0415

            columns = tokenize_trace(columns, *([] if model is None else [model]))
            model = str(columns.meta["tokenizer"])
        if model is not None and columns.kind == "tokens":
            from prefixsim.text.pretrained import load_tokenizer  # noqa: PLC0415

            decode = load_tokenizer(model).decode
        found = lint(
            compile_trace(columns),
            decode,
            min_requests=min_requests,
            min_share=min_share,
            max_requests=max_requests,
        )
    if as_json:
        from prefixsim._json import dumps  # noqa: PLC0415

        head = {"name": columns.name, "requests": len(columns), "digest": columns.digest}
        sys.stdout.write(dumps({"trace": head, "lint": found.to_dict()}))
    else:
        print_tables(lint_tables(found))
