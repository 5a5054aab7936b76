"""``prefixsim report``."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefixsim.cli import _vllm_options as vllm
from prefixsim.cli import app
from prefixsim.cli._remote_code import TrustRemoteCode
from prefixsim.errors import InputError

if TYPE_CHECKING:
    from prefixsim.explanations.lint import Lint
    from prefixsim.forest import Forest
    from prefixsim.study.result import Result
    from prefixsim.trace import Trace


def _numbers(option: str, text: str | None) -> list[int | None]:
    if text is None:
        return [None]
    try:
        return [int(part.replace("_", "")) for part in text.split(",")]
    except ValueError:
        msg = f"{option} {text}: give whole numbers with commas between them"
        raise InputError(msg) from None


@app.command("report", no_args_is_help=True)
def report_command(  # noqa: PLR0917 - the parser passes options by name
    traces: Annotated[
        list[Path], typer.Argument(metavar="TRACE...", help="Trace files; several are compared.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="HTML file to write.")
    ] = Path("report.html"),
    engine: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="As for 'prefixsim replay'; several are compared."),
    ] = None,
    num_blocks: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Blocks of the cache; default: unbounded."),
    ] = None,
    block_size: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS,...", help="Default: 16; for hash ids, the tokens each stands for."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Tokenizer: for text traces, to show prefixes, and for the lint."
        ),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    model_config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="config.json of the model: capacities in GB."),
    ] = None,
    bytes_per_token: Annotated[
        float | None,
        typer.Option(metavar="N", help="KV cache bytes of a token: capacities in GB."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(metavar="K", help="Requests that hold their blocks at once.")
    ] = 1,
    cache_outputs: Annotated[
        bool | None,
        typer.Option(
            "--cache-outputs/--no-cache-outputs",
            help="Generated tokens stay in the cache. Default: as the engine does.",
        ),
    ] = None,
    warmup: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of the requests that only warm the cache up."),
    ] = 0.0,
    max_num_seqs: vllm.MaxNumSeqs = None,
    max_num_batched_tokens: vllm.MaxNumBatchedTokens = None,
    arrivals: vllm.Arrivals = None,
    latency: vllm.Latency = None,
    trace_format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="Format of the traces; default: found."),
    ] = None,
) -> None:
    """Write an HTML page to pass around: figures, losses and what would recover them."""
    from prefixsim._files import check_writable  # noqa: PLC0415
    from prefixsim.cli._terminal import reading, working  # noqa: PLC0415
    from prefixsim.formats import read_trace  # noqa: PLC0415
    from prefixsim.reports.page import write_report  # noqa: PLC0415

    check_writable(output)
    options = vllm.given(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        arrivals=arrivals,
        latency=latency,
    )
    engines = [vllm.engine_for(e, options) for e in (engine.split(",") if engine else [None])]
    sizes, blocks = _numbers("--block-size", block_size), _numbers("--num-blocks", num_blocks)
    per_token = _bytes_per_token(model_config, bytes_per_token)
    settings: dict[str, Any] = {
        "concurrency": concurrency,
        "cache_outputs": cache_outputs,
        "warmup": warmup,
        **options,
    }
    results: list[Result] = []
    found: list[Lint] = []
    decode = None
    for path in traces:
        with reading(path) as progress:
            columns = read_trace(path, format=trace_format, progress=progress)
        with working(f"replaying {columns.name}"):
            source: Any = columns
            for e, size, n in product(engines, sizes, blocks):
                config = {"engine": e, "block_size": size, "num_blocks": n, **settings}
                results.append(_replayed(source, model, config))
                source = results[-1].metrics.forest  # compiled once
        with working(f"looking at the prompts of {columns.name}"):
            decode = _decoder(source, model) or decode
            if decode is not None and source.trace.kind == "tokens":
                from prefixsim.explanations.lint import lint  # noqa: PLC0415

                found.append(lint(source, decode))
    with working(f"writing {output}"):
        write_report(results, output, bytes_per_token=per_token, decode=decode, lint=found)
    sys.stdout.write(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)\n")


def _replayed(source: Trace | Forest, model: str | None, config: dict[str, Any]) -> Result:
    """Replay, on the forest there is if it is of the kind that the engine needs."""
    from prefixsim.forest import Forest  # noqa: PLC0415
    from prefixsim.study.replay import caches_outputs, replay  # noqa: PLC0415

    if isinstance(source, Forest):
        wanted = caches_outputs(source.trace, config["engine"], config["cache_outputs"])
        if source.outputs != wanted:
            source = source.trace
    return replay(source, model=model, **config)


def _decoder(forest: Forest, model: str | None) -> Any:
    """Return what turns ids into text, if a tokenizer was named."""
    if forest.trace.kind != "tokens" or model is None:
        return None
    from prefixsim.text.pretrained import load_tokenizer  # noqa: PLC0415

    return load_tokenizer(model).decode


def _bytes_per_token(config: Path | None, given: float | None) -> float | None:
    if given is not None and given <= 0:
        msg = f"--bytes-per-token {given}: give a number above 0"
        raise InputError(msg)
    if config is None:
        return given
    if given is not None:
        msg = "--model-config and --bytes-per-token say the same, give one of them"
        raise InputError(msg)
    from prefixsim.hardware.kv_bytes import kv_bytes_per_token  # noqa: PLC0415

    return float(kv_bytes_per_token(config).per_token)
