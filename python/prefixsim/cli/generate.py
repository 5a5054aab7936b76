"""``prefixsim generate``: synthetic traces of any size."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson
from prefixsim.cli._options import Command
from prefixsim.settings import argument, setting

if TYPE_CHECKING:
    from prefixsim.traffic.synthetic.shapes import ShapeName

__all__ = ["COMMAND", "Generate", "generate_command"]

_MOONCAKE_BLOCK = 512


@dataclass(frozen=True)
class Generate(AsJson):
    """Options of ``prefixsim generate``."""

    shape: str = argument(
        "chat", help="chat, rag, agent (tool loops) or parallel (sampling).", metavar="SHAPE"
    )
    output: Path = setting(
        Path("trace.jsonl"),
        help="File to write: .jsonl, .jsonl.gz, .jsonl.zst, .parquet, .arrow.",
        flag=("-o", "--output"),
        metavar="FILE",
    )
    requests: int = setting(100_000, help="Number of requests.", metavar="N")
    seed: int = setting(0, help="The same seed gives the same trace.", metavar="N")
    hash_ids: bool = setting(
        False,
        help="Hash ids instead of tokens; JSON lines of 512-token ids are Mooncake's format.",
    )
    id_block_size: int = setting(_MOONCAKE_BLOCK, help="Tokens per hash id.", unit="tokens")
    prompt_tokens: float | None = setting(
        None, help="Mean prompt length.", unit="tokens", shown_default="the shape's"
    )
    output_tokens: float | None = setting(
        None, help="Mean output length.", unit="tokens", shown_default="the shape's"
    )
    turns: float | None = setting(
        None, help="Mean turns of a session.", metavar="X", shown_default="the shape's"
    )
    arrival_rate: float | None = setting(
        None, help="Sessions per second.", metavar="X", shown_default="10, or as in --arrivals"
    )
    think_time: float | None = setting(
        None,
        help="Mean time before the next turn.",
        unit="s",
        metavar="SECONDS",
        shown_default="the shape's",
    )
    time_per_token: float = setting(
        0.02, help="Time per output token.", unit="s", metavar="SECONDS"
    )
    arrivals: Path | None = setting(
        None,
        help="Azure or BurstGPT CSV whose arrivals and lengths to follow.",
        metavar="FILE",
        shown_default="none",
    )
    vocabulary: int = setting(50_000, help="Number of different token ids.", metavar="N")


def generate_command(options: Generate) -> None:
    """Write a synthetic trace, batch by batch."""
    from prefixsim.cli._terminal import making
    from prefixsim.formats import open_writer
    from prefixsim.traffic.synthetic import generate

    output, hash_ids = options.output, options.hash_ids
    workload = generate(
        cast("ShapeName", options.shape),
        options.requests,
        seed=options.seed,
        form="hashes" if hash_ids else "tokens",
        id_block_size=options.id_block_size,
        prompt_tokens=options.prompt_tokens,
        output_tokens=options.output_tokens,
        turns=options.turns,
        arrival_rate=options.arrival_rate,
        think_time=options.think_time,
        time_per_token=options.time_per_token,
        arrivals=options.arrivals,
        vocabulary=options.vocabulary,
    )
    lines = output.name.removesuffix(".gz").removesuffix(".zst").endswith(".jsonl")
    mooncake = hash_ids and lines and options.id_block_size == _MOONCAKE_BLOCK
    done = prompt = produced = ids = 0
    with (
        open_writer(output, format="mooncake" if mooncake else None) as writer,
        making("requests", options.requests) as advance,
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
    if options.as_json:
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
        return
    sys.stdout.write(
        f"{done:,} requests ({workload.shape.title}), {prompt:,} prompt tokens "
        f"({prompt / done:,.1f} on average), {ids:,} {'hash ids' if hash_ids else 'token ids'}, "
        f"seed {options.seed}\n"
    )
    sys.stdout.write(f"wrote {output}\n")


COMMAND = Command("generate", COMMANDS["generate"], Generate, generate_command)
