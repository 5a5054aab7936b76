"""``prefixsim replay``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from prefixsim.cli import _vllm_options as vllm
from prefixsim.cli import app
from prefixsim.cli._remote_code import TrustRemoteCode
from prefixsim.errors import InputError

if TYPE_CHECKING:
    from prefixsim.forest import Forest
    from prefixsim.reports.files import TableFormat
    from prefixsim.study.result import Result
    from prefixsim.trace import Trace

Paths = list[Path]
GROUPS_SHOWN = 20


def _files(positional: Paths | None, named: Paths | None) -> Paths:
    paths = [*(positional or []), *(named or [])]
    if not paths:
        msg = "no trace given, name one or more trace files"
        raise InputError(msg)
    return paths


def _check_outputs(
    files: Paths,
    output_file: Path | None,
    output_dir: Path | None,
    tables: Sequence[Path | None],
    events: Path | None,
) -> None:
    """Refuse outputs that cannot be written before any work is done."""
    from prefixsim._files import check_writable  # noqa: PLC0415

    if output_dir is not None:
        check_writable(output_dir, folder=True)
    of_one_trace = [path for path in (*tables, events) if path is not None]
    for path in [*of_one_trace, *([output_file] if output_file else [])]:
        check_writable(path)
    for table in tables:
        if table is not None:
            from prefixsim.study.request_table import check_ending  # noqa: PLC0415

            check_ending(table)
    if of_one_trace and len(files) > 1:
        msg = f"{of_one_trace[0]}: takes the records of one trace, replay them one by one"
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
    trust_remote_code: TrustRemoteCode = False,
    cache_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the token ids of texts here, and use those kept."),
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
            help="'lru' (ideal), 'block-manager' (vLLM's KV cache manager, the default for a "
            "bounded cache), or 'vllm' (with its scheduler and time).",
        ),
    ] = None,
    prefix_caching: Annotated[
        bool, typer.Option("--prefix-caching/--no-prefix-caching", help="Look prompts up at all.")
    ] = True,
    warm_start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Begin with the cache that this recording of KV events leaves."
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(metavar="K", help="Requests that hold their blocks at once.")
    ] = 1,
    cache_outputs: Annotated[
        bool | None,
        typer.Option(
            "--cache-outputs/--no-cache-outputs",
            help="Generated tokens stay in the cache. Default: only with engine vllm.",
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
    vllm_version: vllm.Version = None,
    max_num_seqs: vllm.MaxNumSeqs = None,
    max_num_batched_tokens: vllm.MaxNumBatchedTokens = None,
    max_model_len: vllm.MaxModelLen = None,
    chunked_prefill: vllm.ChunkedPrefill = None,
    long_prefill: vllm.LongPrefill = None,
    watermark: vllm.Watermark = None,
    sliding_window: vllm.SlidingWindow = None,
    arrivals: vllm.Arrivals = None,
    latency: vllm.Latency = None,
    kv_memory: vllm.KvMemory = None,
    model_config: vllm.ModelConfig = None,
    tensor_parallel: vllm.TensorParallel = None,
    kv_events: vllm.KvEvents = None,
    steps_out: vllm.StepsOut = None,
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
        tokenized,
        working,
    )

    files = _files(traces, trace_file)
    _check_outputs(files, output_file, output_dir, (requests_out, steps_out), kv_events)
    check_choice("--table", table, ("parquet", "csv", "jsonl"))
    if by is not None:
        check_choice("--by", by, ("category", "salt", "session"))
    options = vllm.given(
        version=vllm_version,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=max_model_len,
        enable_chunked_prefill=chunked_prefill,
        long_prefill_token_threshold=long_prefill,
        watermark=watermark,
        sliding_window=sliding_window,
        arrivals=arrivals,
        latency=latency,
        kv_memory=kv_memory,
        model_config=model_config,
        tensor_parallel=tensor_parallel,
    )
    engine = vllm.engine_for(engine, options, kv_events, steps_out)

    from prefixsim.formats import read_trace  # noqa: PLC0415
    from prefixsim.formats.summary_file import origin_of  # noqa: PLC0415
    from prefixsim.reports.files import save_results  # noqa: PLC0415
    from prefixsim.study.replay import replay  # noqa: PLC0415
    from prefixsim.study.result import results_json  # noqa: PLC0415

    def run(trace: Trace | Forest, enable_caching: bool) -> Result:
        return replay(
            trace,
            block_size=block_size,
            num_blocks=num_blocks,
            engine=engine,
            enable_caching=enable_caching,
            concurrency=concurrency,
            last_token_rule=last_token_rule,
            cache_outputs=cache_outputs,
            partial_blocks=partial_blocks,
            warmup=warmup,
            model=model,
            warm_start=warm_start,
            **options,
        )

    results = []
    for path in files:
        with reading(path) as progress:
            trace = read_trace(
                path, format=trace_format, sort=sort, skip_bad_rows=skip_bad_rows, progress=progress
            )
        report_skipped(path, trace.meta)
        trace = trace.replace(meta={**origin_of(trace, path), **trace.meta})
        trace = tokenized(trace, model, cache_dir)
        with working(f"replaying {trace.name}"):
            result = run(trace, prefix_caching)
            if "ttft_s" in result.summary and prefix_caching:
                result = replace(result, without_caching=run(result.metrics.forest, False))
        results.append(result)
    if output_file is not None:
        from prefixsim._files import atomic_write  # noqa: PLC0415

        atomic_write(output_file, results_json(results))
    if requests_out is not None:
        from prefixsim.study.request_table import write_requests  # noqa: PLC0415

        write_requests(results[0].requests, requests_out)
    vllm.write_records(results[0], options, kv_events, steps_out)
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
        _print(results, by)


def _print(results: list[Result], by: str | None) -> None:
    from prefixsim.cli._terminal import print_tables  # noqa: PLC0415
    from prefixsim.reports.serving import serving_table  # noqa: PLC0415
    from prefixsim.study.result import labels  # noqa: PLC0415
    from prefixsim.study.tables import (  # noqa: PLC0415
        comparison_tables,
        group_table,
        summary_tables,
    )

    if len(results) == 1:
        tables = summary_tables(results[0])
    else:
        tables = comparison_tables(results, labels(results))
    for result in results:
        if "ttft_s" in result.summary:
            without = [result.without_caching] if result.without_caching else []
            names = ["with caching", "without caching"] if without else [result.trace.name]
            tables.append(serving_table([result, *without], names))
    for result in results if by else []:
        groups = result.metrics.groups(by)  # type: ignore[arg-type]
        if groups is None:
            msg = f"{result.trace.name}: its requests have no {by}"
            raise InputError(msg)
        tables.append(group_table(str(by), groups, GROUPS_SHOWN))
    print_tables(tables)
