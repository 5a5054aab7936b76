"""``prefixsim explain``."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefixsim.cli import _vllm_options as vllm
from prefixsim.cli import app
from prefixsim.cli._remote_code import TrustRemoteCode
from prefixsim.errors import InputError

if TYPE_CHECKING:
    from prefixsim.explanations import Waterfall
    from prefixsim.explanations.request import RequestExplanation

COLOURS = {
    "hit": "blue",
    "cold": "bright_black",
    "isolated": "magenta",
    "rounding": "yellow",
    "last_token": "cyan",
    "in_flight": "green",
    "evicted": "red",
    "preempted": "bright_red",
}
LETTERS = {
    "hit": "H",
    "cold": "C",
    "isolated": "I",
    "rounding": "R",
    "last_token": "L",
    "in_flight": "F",
    "evicted": "E",
    "preempted": "P",
}


@app.command("explain", no_args_is_help=True)
def explain_command(  # noqa: PLR0917 - the parser passes options by name
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file.")],
    engine: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="As for 'prefixsim replay'; default there: found."),
    ] = None,
    num_blocks: Annotated[
        int | None, typer.Option(metavar="N", help="Blocks of the cache; default: unbounded.")
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS", help="Default: 16; for hash ids, the tokens each stands for."
        ),
    ] = None,
    request: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Explain one request: its id, or its row from 0."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Tokenizer: for text traces, and to show where prompts part as text.",
        ),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
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
    top: Annotated[
        int, typer.Option(min=1, metavar="N", help="Rows in each list of those that lose most.")
    ] = 5,
    trace_format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="Format of the trace; default: found."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Tell where every missed prompt token went, and what would recover it."""
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
    engine = vllm.engine_for(engine, options)

    from prefixsim.cli._terminal import reading, working  # noqa: PLC0415
    from prefixsim.formats import read_trace  # noqa: PLC0415
    from prefixsim.study.replay import replay  # noqa: PLC0415

    with reading(trace) as progress:
        columns = read_trace(trace, format=trace_format, progress=progress)
    with working(f"replaying {columns.name}"):
        result = replay(
            columns,
            block_size=block_size,
            num_blocks=num_blocks,
            engine=engine,
            concurrency=concurrency,
            last_token_rule=last_token_rule,
            cache_outputs=cache_outputs,
            warmup=warmup,
            model=model,
            **options,
        )
        fall = result.waterfall()
        if request is None:
            found: Any = fall.to_dict(top)
        else:
            explained = _one(fall, request, model)
            found = explained.to_dict()
    if as_json:
        from prefixsim._json import dumps  # noqa: PLC0415

        key = "waterfall" if request is None else "request"
        whole = result.to_dict()
        head = {name: whole[name] for name in ("trace", "config", "provenance")}
        sys.stdout.write(dumps({**head, key: found}))
    elif request is None:
        _print_waterfall(fall, top)
    else:
        _print_request(explained)


def _one(fall: Waterfall, request: str, model: str | None) -> RequestExplanation:
    from prefixsim.explanations.request import explain_request, find_request  # noqa: PLC0415

    decode = None
    if model is not None:
        if fall.trace.kind != "tokens":
            msg = f"--model: {fall.trace.name} has hash ids, which no tokenizer can decode"
            raise InputError(msg)
        from prefixsim.text.pretrained import load_tokenizer  # noqa: PLC0415

        decode = load_tokenizer(model).decode
    return explain_request(fall, find_request(fall.trace, request), decode)


def _print_waterfall(fall: Waterfall, count: int) -> None:
    from prefixsim.cli._terminal import print_tables  # noqa: PLC0415
    from prefixsim.explanations.waterfall import top_tables, waterfall_tables  # noqa: PLC0415

    if sys.stdout.isatty():
        _draw(fall)
    print_tables([*waterfall_tables(fall), *top_tables(fall, count)])


def _draw(fall: Waterfall) -> None:
    """Bars that go on where the one above ends: from the hits to the whole prompt."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from prefixsim.explanations.classes import label  # noqa: PLC0415
    from prefixsim.reports.draw import bar  # noqa: PLC0415

    console = Console()
    width = max(10, min(72, console.width - 24))
    whole, done = max(1, fall.prompt_tokens), 0
    console.print()
    for name, tokens in fall.totals.items():
        if tokens:
            before = done * width // whole
            text = Text(f"{label(name):>10} ")
            text.append(" " * before)
            text.append(bar(tokens / whole, width)[: width - before].rstrip() or "▏", COLOURS[name])
            text.append(f" {tokens / whole:.1%}")
            console.print(text)
            done += tokens


def _print_request(explained: RequestExplanation) -> None:
    from prefixsim.cli._terminal import print_tables  # noqa: PLC0415
    from prefixsim.explanations.classes import label  # noqa: PLC0415
    from prefixsim.explanations.request import request_tables  # noqa: PLC0415
    from prefixsim.reports.draw import line_of  # noqa: PLC0415

    blocks = explained.blocks()
    lines = line_of(blocks, LETTERS)
    shown = set(blocks)
    legend = "  ".join(f"{LETTERS[n]} {label(n)}" for n in LETTERS if n in shown)
    if sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        colour = {LETTERS[name]: COLOURS[name] for name in LETTERS}
        for line in lines:
            text = Text("  ")
            for letter, alike in groupby(line):
                text.append("".join(alike), f"bold {colour[letter]}")
            Console().print(text)
    else:
        sys.stdout.write("".join(f"  {line}\n" for line in lines))
    sys.stdout.write(f"  ({legend})\n\n")
    sys.stdout.flush()
    print_tables(request_tables(explained))
