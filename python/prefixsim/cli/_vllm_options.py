"""Options of ``engine="vllm"`` on the command line, under vLLM's own names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefixsim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefixsim.study.result import Result

__all__ = [
    "Arrivals",
    "ChunkedPrefill",
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
    "Version",
    "Watermark",
    "engine_for",
    "given",
    "write_records",
]

_PANEL = "Engine vllm"


def _option(help: str, metavar: str, *names: str) -> Any:  # noqa: A002
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=_PANEL)


Version = Annotated[
    str | None, _option("Rules of this vLLM version. Default: 0.33.", "V", "--vllm-version")
]
MaxNumSeqs = Annotated[int | None, _option("Requests running at once. Default: 256.", "N")]
MaxNumBatchedTokens = Annotated[int | None, _option("Tokens per step. Default: 8192.", "N")]
MaxModelLen = Annotated[int | None, _option("Tokens of a request at most.", "N")]
ChunkedPrefill = Annotated[
    bool | None,
    typer.Option(
        "--chunked-prefill/--no-chunked-prefill",
        help="Prefill a prompt over several steps. Default: on.",
        rich_help_panel=_PANEL,
    ),
]
LongPrefill = Annotated[
    int | None,
    _option(
        "Tokens of one request per step while there are others; 0: no limit.",
        "N",
        "--long-prefill-token-threshold",
    ),
]
Watermark = Annotated[
    float | None, _option("Share of blocks an admission leaves free. Default: 0.", "SHARE")
]
SlidingWindow = Annotated[
    int | None, _option("Attention window of a model whose layers all have one.", "TOKENS")
]
Arrivals = Annotated[
    str | None,
    _option(
        "'trace': by timestamp (default); 'closed:K': K in flight; 'start'; 'sequential'.", "HOW"
    ),
]
Latency = Annotated[
    str | None,
    _option(
        "What a step costs: 20ms (default), a .json of coefficients, a .csv of measured steps, or "
        "a GPU's name (needs --model-config).",
        "MODEL",
    ),
]
KvMemory = Annotated[
    str | None,
    _option("Size the cache in bytes, like 40GB; needs --model-config.", "SIZE"),
]
ModelConfig = Annotated[
    Path | None, _option("Hugging Face config.json, for --kv-memory and --latency.", "FILE")
]
TensorParallel = Annotated[int | None, _option("GPUs that share the model. Default: 1.", "GPUS")]
KvEvents = Annotated[
    Path | None, _option("Write the KV events vLLM would publish, as JSON Lines.", "FILE")
]
StepsOut = Annotated[
    Path | None, _option("Write one row per step (.parquet, .csv, .jsonl).", "FILE")
]


def given(**options: Any) -> dict[str, Any]:
    """Keep the options that were given; paths as text, for provenance."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in options.items()
        if value is not None
    }


def engine_for(engine: str | None, options: Mapping[str, Any], *records: Path | None) -> str | None:
    """Return the engine asked for; options that only ``vllm`` has ask for it.

    Raises
    ------
    InputError
        If another engine was named beside them.
    """
    if not options and not any(records):
        return engine
    if engine not in {None, "vllm"}:
        what = next(iter(options), "a record of its steps").replace("_", "-")
        msg = f"engine {engine!r} has no {what}, only engine 'vllm' has"
        raise InputError(msg)
    return "vllm"


def write_records(
    result: Result, options: Mapping[str, Any], kv_events: Path | None, steps_out: Path | None
) -> None:
    """Run the engine once more with its records on, and write them."""
    if kv_events is None and steps_out is None:
        return
    from prefixsim.engines.vllm.simulate import OPTIONS, config_from, simulate  # noqa: PLC0415
    from prefixsim.study.request_table import write_requests  # noqa: PLC0415

    config = config_from(
        {**OPTIONS, **options},
        block_size=result.config["block_size"],
        num_blocks=None if "kv_memory" in options else result.config["num_blocks"],
        enable_caching=result.config["enable_caching"],
    )
    run = simulate(
        result.trace,
        config,
        outputs=result.config["cache_outputs"],
        record_steps=steps_out is not None,
        record_events=kv_events is not None,
    )
    if kv_events is not None:
        run.write_kv_events(kv_events)
    if steps_out is not None:
        write_requests(run.steps(), steps_out)
