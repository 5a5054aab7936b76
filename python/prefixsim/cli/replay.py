"""``prefixsim replay``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from prefixsim.cli import _engine_options as given
from prefixsim.cli import app
from prefixsim.errors import InputError

if TYPE_CHECKING:
    from prefixsim.result import Result, TableFormat

Paths = list[Path]
GROUPS_SHOWN = 20


def _files(positional: Paths | None, named: Paths | None) -> Paths:
    paths = [*(positional or []), *(named or [])]
    if not paths:
        msg = "no trace given, name one or more trace files"
        raise InputError(msg)
    return paths


def _check_outputs(
    files: Paths, output_file: Path | None, output_dir: Path | None, requests_out: Path | None
) -> None:
    from prefixsim._files import check_writable  # noqa: PLC0415

    if output_file is not None:
        check_writable(output_file)
    if output_dir is not None:
        check_writable(output_dir, folder=True)
    if requests_out is not None:
        from prefixsim.report.requests import check_ending  # noqa: PLC0415

        check_ending(requests_out)
        check_writable(requests_out)
        if len(files) > 1:
            msg = f"{requests_out}: takes the requests of one trace, use --output-dir for several"
            raise InputError(msg)


@app.command("replay", no_args_is_help=True)
def replay_command(  # noqa: PLR0917 - the parser passes options by name
    traces: Annotated[
        Paths | None,
        typer.Argument(
            metavar="TRACE...", help="Trace files; several are compared.", show_default=False
        ),
    ] = None,
    trace_file: Annotated[
        Paths | None, typer.Option(metavar="TRACE", help="A trace file; may be repeated.")
    ] = None,
    trace_format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="Format of the traces; default: found."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Tokenizer for text traces: hub name, local folder, or 'demo'."
        ),
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS", help="Default: 16; for hash ids, the tokens each stands for."
        ),
    ] = None,
    num_blocks: Annotated[
        int | None, typer.Option(metavar="N", help="Blocks of the cache; default: unbounded.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="'lru' (ideal), 'block-manager' (vLLM's KV cache manager), the default for a "
            "bounded cache, or 'vllm' (with its scheduler and time).",
        ),
    ] = None,
    prefix_caching: Annotated[
        bool, typer.Option("--prefix-caching/--no-prefix-caching", help="Look prompts up at all.")
    ] = True,
    concurrency: Annotated[
        int, typer.Option(metavar="K", help="Requests that hold their blocks at once.")
    ] = 1,
    cache_outputs: Annotated[
        bool | None,
        typer.Option(
            "--cache-outputs/--no-cache-outputs",
            help="Generated tokens stay in the cache; default: only with 'vllm'.",
        ),
    ] = None,
    partial_blocks: Annotated[
        bool, typer.Option("--partial-blocks", help="A trailing partial block counts as a block.")
    ] = False,
    last_token_rule: Annotated[
        bool,
        typer.Option(
            "--last-token-rule/--whole-prompt-hits",
            help="Compute at least the last token of every prompt, or let whole prompts hit.",
        ),
    ] = True,
    warmup: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of the requests that only warm the cache up."),
    ] = 0.0,
    vllm_version: given.EngineVersion = None,
    max_num_seqs: given.MaxNumSeqs = None,
    max_num_batched_tokens: given.MaxNumBatchedTokens = None,
    long_prefill_token_threshold: given.LongPrefill = None,
    watermark: given.Watermark = None,
    max_model_len: given.MaxModelLen = None,
    sliding_window: given.SlidingWindow = None,
    arrivals: given.Arrivals = None,
    latency: given.Latency = None,
    kv_memory: given.KvMemory = None,
    model_config: given.ModelConfig = None,
    tensor_parallel: given.TensorParallel = None,
    kv_events: given.KvEvents = None,
    steps_out: given.StepsOut = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="Also by 'category', 'salt' or 'session'."),
    ] = None,
    output_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the result as JSON.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write JSON, per-request tables, PNG and SVG charts."),
    ] = None,
    table: Annotated[
        str, typer.Option("--table", metavar="FORM", help="In --output-dir: parquet, csv or jsonl.")
    ] = "parquet",
    requests_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one row per request (.parquet, .csv, .jsonl)."),
    ] = None,
    skip_visualization: Annotated[
        bool, typer.Option("--skip-visualization", help="No charts in --output-dir.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave bad rows out and count them.")
    ] = False,
    sort: Annotated[
        bool, typer.Option("--sort", help="Sort rows by timestamp instead of refusing them.")
    ] = False,
) -> None:
    """Replay traces through a simulated prefix cache: hit rates, sharing, reuse."""
    from prefixsim.cli._terminal import (  # noqa: PLC0415
        check_choice,
        reading,
        report_skipped,
        working,
    )

    files = _files(traces, trace_file)
    _check_outputs(files, output_file, output_dir, requests_out)
    check_choice("--table", table, ("parquet", "csv", "jsonl"))
    if by is not None:
        check_choice("--by", by, ("category", "salt", "session"))

    options = given.chosen(
        version=vllm_version,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        long_prefill_token_threshold=long_prefill_token_threshold,
        watermark=watermark,
        max_model_len=max_model_len,
        sliding_window=sliding_window,
        arrivals=arrivals,
        latency=latency,
        kv_memory=kv_memory,
        model_config=model_config,
        tensor_parallel=tensor_parallel,
    )
    given.check(engine, files, kv_events, steps_out)

    from prefixsim._replay import replay  # noqa: PLC0415
    from prefixsim.formats import read_trace  # noqa: PLC0415
    from prefixsim.result import results_json, save_results  # noqa: PLC0415
    from prefixsim.trace_summary import origin_of  # noqa: PLC0415

    results = []
    for path in files:
        with reading(path) as progress:
            trace = read_trace(
                path, format=trace_format, sort=sort, skip_bad_rows=skip_bad_rows, progress=progress
            )
        report_skipped(path, trace.meta)
        trace = trace.replace(meta={**origin_of(trace, path), **trace.meta})
        with working(f"replaying {trace.name}"):
            results.append(
                replay(
                    trace,
                    block_size=block_size,
                    num_blocks=num_blocks,
                    engine=engine,
                    enable_caching=prefix_caching,
                    concurrency=concurrency,
                    last_token_rule=last_token_rule,
                    cache_outputs=cache_outputs,
                    partial_blocks=partial_blocks,
                    warmup=warmup,
                    model=model,
                    **options,
                )
            )
            _ = results[-1].summary
    if kv_events is not None or steps_out is not None:
        with working("recording events and steps"):
            given.record(results[0], options, kv_events, steps_out)
    if output_file is not None:
        from prefixsim._files import atomic_write  # noqa: PLC0415

        atomic_write(output_file, results_json(results))
    if requests_out is not None:
        from prefixsim.report.requests import write_requests  # noqa: PLC0415

        write_requests(results[0].requests, requests_out)
    if output_dir is not None:
        with working("writing") as step:
            save_results(
                results,
                output_dir,
                charts=not skip_visualization,
                table=cast("TableFormat", table),
                step=lambda what: step(f"writing {what}"),
            )
    if as_json:
        sys.stdout.write(results_json(results))
    else:
        _print(results, by, options)


def _print(results: list[Result], by: str | None, options: dict[str, Any]) -> None:
    from prefixsim.cli._terminal import print_tables  # noqa: PLC0415
    from prefixsim.report.tables import (  # noqa: PLC0415
        comparison_tables,
        group_table,
        summary_tables,
    )
    from prefixsim.result import labels  # noqa: PLC0415

    if len(results) == 1:
        tables = summary_tables(results[0])
    else:
        tables = comparison_tables(results, labels(results))
    for result in results if by else []:
        groups = result.metrics.groups(by)  # type: ignore[arg-type]
        if groups is None:
            msg = f"{result.trace.name}: its requests have no {by}"
            raise InputError(msg)
        tables.append(group_table(str(by), groups, GROUPS_SHOWN))
    if results[0].outcome.engine == "vllm":
        tables += given.timing(results, options)
    print_tables(tables)
