"""``prefixsim compare``: a grid of engine settings on one trace."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefixsim.cli import app
from prefixsim.errors import InputError

if TYPE_CHECKING:
    from prefixsim.trace import Trace

MOST_RUNS = 1000
_SWITCH = {"on": True, "off": False}


def values(option: str, text: str, convert: Callable[[str], Any]) -> list[Any]:
    """Return the values of a comma-separated option."""
    found = []
    for item in text.split(","):
        try:
            found.append(convert(item.strip()))
        except (ValueError, KeyError):
            msg = f"{option} {text}: {item.strip()!r} is not usable, put commas between values"
            raise InputError(msg) from None
    return found


def _switch(text: str) -> bool:
    return _SWITCH[text]


def _grid(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    runs = [dict(zip(columns, row, strict=True)) for row in product(*columns.values())]
    if len(runs) > MOST_RUNS:
        msg = f"{len(runs):,} runs are too many for one comparison, give at most {MOST_RUNS:,}"
        raise InputError(msg)
    return runs


def compare(trace: Trace, columns: dict[str, list[Any]], fixed: dict[str, Any]) -> list[Any]:
    """Run the vLLM engine for every combination; return ``(settings, summary)`` pairs."""
    from prefixsim.engines.vllm.simulate import compile_workload, config_from, simulate  # noqa: PLC0415

    workloads: dict[int, Any] = {}
    runs = []
    for settings in _grid(columns):
        options = {**fixed, **settings}
        size, blocks = options.pop("block_size"), options.pop("num_blocks")
        caching = options.pop("prefix_caching")
        config = config_from(options, block_size=size, num_blocks=blocks, enable_caching=caching)
        if size not in workloads:
            workloads[size] = compile_workload(trace, size)
        run = simulate(trace, config, workload=workloads[size])
        outcome = run.outcome()
        prompt, hit = trace.prompt_tokens, int(outcome.hit_tokens.sum(dtype="uint64"))
        summary = {
            "requests": len(trace),
            "prompt_tokens": prompt,
            "hit_tokens": hit,
            "token_hit_rate": hit / prompt if prompt else 0.0,
            "computed_tokens": int(outcome.computed_tokens.sum(dtype="uint64")),
            "evictions": outcome.counters["evictions"],
            **outcome.summary,
        }
        runs.append((settings, summary))
    return runs


@app.command("compare", no_args_is_help=True)
def compare_command(  # noqa: PLR0917 - the parser passes options by name
    trace_file: Annotated[Path, typer.Argument(metavar="TRACE", show_default=False)],
    trace_format: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Format of the trace.")
    ] = None,
    num_blocks: Annotated[
        str, typer.Option(metavar="N,...", help="Blocks of the cache; 'none' for no limit.")
    ] = "none",
    block_size: Annotated[
        str | None,
        typer.Option(metavar="TOKENS,...", help="Default: 16, or the tokens per hash id."),
    ] = None,
    prefix_caching: Annotated[str, typer.Option(metavar="on,off", help="Caching.")] = "on,off",
    max_num_seqs: Annotated[str, typer.Option(metavar="N,...", help="Running at once.")] = "256",
    max_num_batched_tokens: Annotated[
        str, typer.Option(metavar="TOKENS,...", help="Tokens per step.")
    ] = "8192",
    long_prefill_token_threshold: Annotated[
        str, typer.Option(metavar="TOKENS,...", help="Of one prompt per step; 0: no limit.")
    ] = "0",
    watermark: Annotated[
        str, typer.Option(metavar="SHARE,...", help="Blocks an admission leaves free.")
    ] = "0",
    arrivals: Annotated[
        str, typer.Option(metavar="KIND,...", help="trace, start, or closed:K.")
    ] = "trace",
    latency: Annotated[
        str,
        typer.Option(metavar="MODEL,...", help="20ms, FILE.json, FILE.csv, or a GPU such as h100."),
    ] = "20ms",
    version: Annotated[str, typer.Option(metavar="V,...", help="vLLM version: 0.33, 0.11.")] = (
        "0.33"
    ),
    model_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The model's config.json.")
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(metavar="N", help="GPUs per model.")] = 1,
    sort: Annotated[
        str, typer.Option(metavar="FIGURE", help="Best first, such as ttft_s.p99; '' as given.")
    ] = "ttft_s.median",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave bad rows out and count them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Compare settings of the vLLM engine: every combination of the values given."""
    from prefixsim._json import dumps  # noqa: PLC0415
    from prefixsim.cli._terminal import (  # noqa: PLC0415
        print_tables,
        reading,
        report_skipped,
        working,
    )
    from prefixsim.formats import read_trace  # noqa: PLC0415
    from prefixsim.reports.serving import comparison  # noqa: PLC0415
    from prefixsim.study.replay import block_size_for  # noqa: PLC0415

    columns = {
        "num_blocks": values("--num-blocks", num_blocks, lambda n: None if n == "none" else int(n)),
        "prefix_caching": values("--prefix-caching", prefix_caching, _switch),
        "max_num_seqs": values("--max-num-seqs", max_num_seqs, int),
        "max_num_batched_tokens": values("--max-num-batched-tokens", max_num_batched_tokens, int),
        "long_prefill_token_threshold": values(
            "--long-prefill-token-threshold", long_prefill_token_threshold, int
        ),
        "watermark": values("--watermark", watermark, float),
        "arrivals": values("--arrivals", arrivals, str),
        "latency": values("--latency", latency, str),
        "version": values("--version", version, str),
    }
    with reading(trace_file) as progress:
        trace = read_trace(
            trace_file, format=trace_format, skip_bad_rows=skip_bad_rows, progress=progress
        )
    report_skipped(trace_file, trace.meta)
    sizes = [None] if block_size is None else values("--block-size", block_size, int)
    columns["block_size"] = [block_size_for(trace, size) for size in sizes]
    fixed = {
        "model_config": None if model_config is None else str(model_config),
        "tensor_parallel": tensor_parallel,
    }
    with working(f"simulating {trace.name}"):
        runs = compare(trace, columns, fixed)
    if as_json:
        shown = [{"settings": settings, "summary": summary} for settings, summary in runs]
        sys.stdout.write(dumps({"trace": trace.name, "digest": trace.digest, "runs": shown}))
        return
    names = [name for name, column in columns.items() if len(column) > 1] or ["num_blocks"]
    shared = {name: column[0] for name, column in columns.items() if len(column) == 1}
    said = ", ".join(f"{name} {value}" for name, value in shared.items() if name not in names)
    title = f"{trace.name}: {len(runs)} runs of the vllm engine ({said})"
    print_tables([comparison(names, runs, sort or None, title)])
