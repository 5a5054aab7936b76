"""``prefixsim generate``: synthetic traces of any size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from prefixsim.cli import app

__all__ = ["generate_command"]

_MOONCAKE_BLOCK = 512


@app.command("generate")
def generate_command(  # noqa: PLR0917 - the parser passes options by name
    shape: Annotated[
        str, typer.Argument(help="chat, rag, agent (tool loops) or parallel (sampling).")
    ] = "chat",
    output: Annotated[
        Path, typer.Option(help="File to write: .jsonl, .jsonl.gz, .jsonl.zst, .parquet, .arrow.")
    ] = Path("trace.jsonl"),
    requests: Annotated[int, typer.Option(help="Number of requests.")] = 100_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same trace.")] = 0,
    hash_ids: Annotated[
        bool,
        typer.Option(
            "--hash-ids",
            help="Hash ids instead of tokens; JSON lines of 512-token ids are Mooncake's format.",
        ),
    ] = False,
    id_block_size: Annotated[int, typer.Option(help="Tokens per hash id.")] = _MOONCAKE_BLOCK,
    prompt_tokens: Annotated[
        float | None, typer.Option(help="Mean prompt length. Default: the shape's.")
    ] = None,
    output_tokens: Annotated[
        float | None, typer.Option(help="Mean output length. Default: the shape's.")
    ] = None,
    turns: Annotated[
        float | None, typer.Option(help="Mean turns of a session. Default: the shape's.")
    ] = None,
    arrival_rate: Annotated[
        float | None, typer.Option(help="Sessions per second. Default: 10, or as in --arrivals.")
    ] = None,
    think_time: Annotated[
        float | None, typer.Option(help="Mean time before the next turn, in s.")
    ] = None,
    time_per_token: Annotated[float, typer.Option(help="Time per output token, in s.")] = 0.02,
    arrivals: Annotated[
        Path | None,
        typer.Option(help="Azure or BurstGPT CSV whose arrivals and lengths to follow."),
    ] = None,
    vocabulary: Annotated[int, typer.Option(help="Number of different token ids.")] = 50_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Write a synthetic trace, streamed: memory does not grow with its size."""
    from prefixsim.cli.trace import progress_bar  # noqa: PLC0415
    from prefixsim.formats import open_writer  # noqa: PLC0415
    from prefixsim.traffic.synthetic import generate  # noqa: PLC0415

    workload = generate(
        shape,  # type: ignore[arg-type]
        requests,
        seed=seed,
        form="hashes" if hash_ids else "tokens",
        id_block_size=id_block_size,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        turns=turns,
        arrival_rate=arrival_rate,
        think_time=think_time,
        time_per_token=time_per_token,
        arrivals=arrivals,
        vocabulary=vocabulary,
    )
    lines = output.name.removesuffix(".gz").removesuffix(".zst").endswith(".jsonl")
    mooncake = hash_ids and lines and id_block_size == _MOONCAKE_BLOCK
    done = prompt = produced = ids = 0
    with (
        open_writer(output, format="mooncake" if mooncake else None) as writer,
        progress_bar("requests", requests) as advance,
    ):
        for batch in workload:
            writer.write(batch)
            done += len(batch)
            prompt += batch.prompt_tokens
            produced += int(batch.output_len.sum())
            ids += 0 if batch.prompts is None else len(batch.prompts.values)
            if advance is not None:
                advance(done, None)
    summary = {
        "file": str(output),
        "requests": done,
        "prompt_tokens": prompt,
        "output_tokens": produced,
        "ids": ids,
        "config": workload.config,
    }
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    typer.echo(
        f"{done:,} requests ({workload.shape.title}), {prompt:,} prompt tokens "
        f"({prompt / done:,.1f} on average), {ids:,} {'hash ids' if hash_ids else 'token ids'}, "
        f"seed {seed}"
    )
    typer.echo(f"wrote {output}")
