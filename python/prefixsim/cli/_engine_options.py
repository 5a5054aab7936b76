"""Options of ``prefixsim replay`` that only the vLLM engine knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from prefixsim.engines.vllm import VllmConfig
    from prefixsim.report.tables import Table
    from prefixsim.result import Result

__all__ = [
    "Arrivals",
    "EngineVersion",
    "KvEvents",
    "KvMemory",
    "Latency",
    "LongPrefill",
    "MaxModelLen",
    "MaxNumBatchedTokens",
    "MaxNumSeqs",
    "ModelConfig",
    "SlidingWindow",
    "StepsOut",
    "TensorParallel",
    "Watermark",
    "check",
    "chosen",
    "config_of",
    "record",
    "timing",
]

_PANEL = "Engine vllm"


def _option(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, rich_help_panel=_PANEL)


EngineVersion = Annotated[str | None, _option("V", "vLLM's version: 0.33 (default) or 0.11.")]
MaxNumSeqs = Annotated[int | None, _option("N", "Requests running at once; default: 256.")]
MaxNumBatchedTokens = Annotated[int | None, _option("N", "Tokens per step; default: 8192.")]
LongPrefill = Annotated[int | None, _option("N", "Tokens of one prompt per step, 0: no limit.")]
Watermark = Annotated[float | None, _option("SHARE", "Blocks an admission leaves free.")]
MaxModelLen = Annotated[int | None, _option("TOKENS", "Longest sequence.")]
SlidingWindow = Annotated[int | None, _option("TOKENS", "Attention window of all layers.")]
Arrivals = Annotated[
    str | None, _option("KIND", "trace (timestamps, default), start, closed:K or sequential.")
]
Latency = Annotated[
    str | None,
    _option("MODEL", "Of a step: 20ms (default), FILE.json, FILE.csv to fit, or a GPU: h100."),
]
KvMemory = Annotated[
    str | None, _option("BYTES", "Size of the cache on each GPU, like 40GB; needs --model-config.")
]
ModelConfig = Annotated[Path | None, _option("FILE", "The model's config.json.")]
TensorParallel = Annotated[int | None, _option("N", "GPUs that share the model.")]
KvEvents = Annotated[
    Path | None, _option("FILE", "Write KV events as vLLM publishes them, as JSON Lines.")
]
StepsOut = Annotated[
    Path | None, _option("FILE", "Write one row per step (.parquet, .csv, .jsonl).")
]


def chosen(**options: Any) -> dict[str, Any]:
    """Return the options that were given, as ``replay()`` takes them."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in options.items()
        if value is not None
    }


def check(
    engine: str | None, files: list[Path], kv_events: Path | None, steps_out: Path | None
) -> None:
    """Refuse recordings that cannot be made."""
    from prefixsim._files import check_writable  # noqa: PLC0415
    from prefixsim.errors import InputError  # noqa: PLC0415
    from prefixsim.report.requests import check_ending  # noqa: PLC0415

    for name, path in (("--kv-events", kv_events), ("--steps-out", steps_out)):
        if path is None:
            continue
        if engine != "vllm" or len(files) != 1:
            msg = f"{name} is for one trace and --engine vllm"
            raise InputError(msg)
        check_writable(path)
    if steps_out is not None:
        check_ending(steps_out)


def config_of(result: Result, options: dict[str, Any]) -> VllmConfig:
    """Return the engine settings of a result."""
    from prefixsim.engines.vllm import config_from  # noqa: PLC0415

    memory = "kv_memory" in options
    return config_from(
        options,
        block_size=result.config["block_size"],
        num_blocks=None if memory else result.config["num_blocks"],
        enable_caching=result.config["enable_caching"],
    )


def record(
    result: Result, options: dict[str, Any], kv_events: Path | None, steps_out: Path | None
) -> None:
    """Run the engine once more and write its KV events and steps."""
    from prefixsim.engines.vllm import simulate  # noqa: PLC0415
    from prefixsim.report.requests import write_requests  # noqa: PLC0415

    run = simulate(
        result.trace,
        config_of(result, options),
        outputs=result.config["cache_outputs"],
        record_steps=True,
        record_events=kv_events is not None,
    )
    if kv_events is not None:
        run.write_kv_events(kv_events)
    if steps_out is not None:
        write_requests(run.steps(), steps_out)


def timing(results: list[Result], options: dict[str, Any]) -> list[Table]:
    """Return a table of latencies for each result, beside the same run with caching off."""
    from prefixsim.engines.vllm import simulate, without_caching  # noqa: PLC0415
    from prefixsim.report.engine import timing_table  # noqa: PLC0415

    tables = []
    for result in results:
        off = None
        if result.config["enable_caching"]:
            config = without_caching(config_of(result, options))
            outcome = simulate(result.trace, config, outputs=False).outcome()
            off = {
                **outcome.summary,
                "token_hit_rate": 0.0,
                "computed_tokens": int(outcome.computed_tokens.sum(dtype="uint64")),
                "evictions": 0,
            }
        beside = ", and with caching off" if off else ""
        title = f"{result.trace.name}: latency and load{beside}"
        tables.append(timing_table(result.summary, off, title))
    return tables
