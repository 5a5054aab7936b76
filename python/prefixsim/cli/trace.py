"""``prefixsim trace``: chat data to traces."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prefixsim._json import JsonObject
from prefixsim._printable import printable
from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson, Tokenizing
from prefixsim.cli._options import Command
from prefixsim.settings import setting

if TYPE_CHECKING:
    from prefixsim.traffic.build import BuiltTraces

__all__ = ["COMMAND", "TraceOptions", "draw", "report", "trace_command"]

_TITLES = {"single_turn": "single turn", "multi_turn": "multi turn"}


def _read_limit(value: object) -> int | None:
    """Return a number of conversations; ``None`` for all."""
    text = str(value).strip().lower()
    if text == "all":
        return None
    if not text.isdecimal():
        raise ValueError("is not usable, give a number, or 0 or 'all' for all")
    return int(text) or None


@dataclass(frozen=True)
class TraceOptions(Tokenizing, AsJson):
    """Options of ``prefixsim trace``."""

    data_path: Path | None = setting(
        None,
        help="ShareGPT, OpenAI style or WildChat/LMSYS data: JSON array, JSON lines or Parquet, "
        "also .gz and .zst.",
        metavar="FILE",
        shown_default="an embedded synthetic sample",
    )
    max_conversations: int | None = setting(
        1000,
        help="Use the first so many conversations; 0 or 'all' is all.",
        metavar="N",
        read=_read_limit,
    )
    output_dir: Path = setting(Path("traces"), help="Folder to write to.", metavar="DIR")
    block_size: int = setting(16, help="Tokens per block, for the summary.", least=1, unit="tokens")
    arrival_rate: float = setting(2.0, help="New conversations per second.", metavar="X")
    skip_visualization: bool = setting(False, help="Draw no charts.")
    text: bool = setting(False, help="Keep text; replay then tokenizes it.")
    template: Literal["none", "role", "chat"] = setting(
        "none", help="Prompt rendering: as it is, 'User: ...', or the tokenizer's own"
    )
    tokenization: Literal["whole", "message"] = setting(
        "whole", help="Token ids of the whole prompt, or of each message"
    )
    output_format: Literal["jsonl", "parquet"] = setting("jsonl", help="Form of the traces")
    data_format: Literal["sharegpt", "openai", "wildchat"] | None = setting(
        None, help="Form of the data", shown_default="as it looks"
    )
    turns: Literal["every", "first"] = setting(
        "every", help="User turns that are requests of the single-turn trace"
    )
    seed: int = setting(0, help="Of arrival times, and of the sample.", metavar="N")
    think_time: float = setting(
        10.0, help="Mean time between an answer and the next turn.", unit="s", metavar="SECONDS"
    )
    time_per_token: float = setting(
        0.02, help="Time per output token.", unit="s", metavar="SECONDS"
    )
    sequential: bool = setting(False, help="Conversations one after the other, no overlap.")
    skip_bad_rows: bool = setting(False, help="Leave out what cannot be read, and count it.")


def trace_command(options: TraceOptions) -> None:
    """Build traces, and print what they are."""
    from prefixsim._files import atomic_folder, check_writable
    from prefixsim.cli._terminal import charts_wanted, making
    from prefixsim.formats.summary_file import SUMMARY_FILE
    from prefixsim.text.tokenize import DEFAULT_MODEL
    from prefixsim.traffic.build import build_traces

    limit = options.max_conversations
    check_writable(options.output_dir, folder=True)
    with (
        atomic_folder(options.output_dir, last=SUMMARY_FILE) as stage,
        making("conversations", limit) as advance,
    ):
        built = build_traces(
            options.data_path,
            model=options.model or DEFAULT_MODEL,
            cache_dir=options.cache_dir,
            output_dir=stage,
            max_conversations=limit,
            template=options.template,
            tokenization=options.tokenization,
            text=options.text,
            arrival_rate=options.arrival_rate,
            think_time=options.think_time,
            time_per_token=options.time_per_token,
            sequential=options.sequential,
            turns=options.turns,
            seed=options.seed,
            data_format=options.data_format,
            skip_bad_rows=options.skip_bad_rows,
            output_format=options.output_format,
            block_size=options.block_size,
            progress=advance,
        )
        charts = draw(built, stage) if charts_wanted(options.skip_visualization) else []
    built = built.moved(options.output_dir)
    charts = [options.output_dir / chart.name for chart in charts]
    if options.as_json:
        sys.stdout.write(json.dumps(built.summary, indent=2) + "\n")
    else:
        report(built, [*built.files.values(), *charts])


def draw(built: BuiltTraces, folder: Path) -> list[Path]:
    """Write the charts and return their files."""
    from prefixsim.charts import save, traffic

    title = built.summary["data"]["name"]
    unit = "tokens" if built.summary["config"]["tokenization"] else "characters"
    lengths = {_TITLES[kind]: counts.prompt_lengths for kind, counts in built.counts.items()}
    turns = traffic.turns_per_conversation(built.conversations.turns, title)
    return [
        *save(turns, folder / "turns_per_conversation"),
        *save(traffic.prompt_lengths(lengths, unit, title), folder / "prompt_length"),
    ]


def report(built: BuiltTraces, files: list[Path]) -> None:
    """Print what was made, and everything that was left out."""
    from prefixsim.cli._terminal import print_tables
    from prefixsim.table import Table

    data, config = built.summary["data"], built.summary["config"]
    used, read = data["conversations_used"], data["conversations_read"]
    unit = "tokens" if config["tokenization"] else "characters"
    notes = [*remarks(data), f"tokenizer: {config['model'] or 'none, text is kept'}"]
    if unit == "tokens":
        size = config["block_size"]
        notes.insert(0, f"shared: token hit rate of an unbounded cache, block size {size}")
    table = Table(
        f"{used:,} of {read:,} conversations from {data['name']}",
        ["trace", "requests", f"prompt {unit}", "mean", "median", "max", "output tokens", "shared"],
        [[_TITLES[kind], *_figures(row, unit)] for kind, row in built.summary["traces"].items()],
    )
    print_tables([table])
    for note in notes:
        sys.stdout.write(f"{printable(note)}\n")
    for file in files:
        sys.stdout.write(f"wrote {printable(str(file))}" + "\n")


def _figures(row: JsonObject, unit: str) -> list[str]:
    lengths = row["prompt_len" if unit == "tokens" else "prompt_len_characters"]
    ceiling = row["sharing_ceiling"]
    return [
        f"{row['requests']:,}",
        f"{row[f'prompt_{unit}']:,}",
        f"{lengths['mean']:,.1f}",
        f"{lengths['median']:,.0f}",
        f"{lengths['max']:,}",
        f"{row['output_tokens']:,}",
        f"{ceiling['token_hit_rate']:.1%}" if ceiling else "-",
    ]


def remarks(data: JsonObject) -> list[str]:
    """Return one line for each kind of irregularity that occurred."""
    kinds = (
        ("left out", data["dropped"]),
        ("left out, bad row", data["bad_rows"]),
        ("kept", data["kept"]),
        ("repaired", data["repaired"]),
    )
    lines = [
        f"{what}: {count:,} {name.replace('_', ' ')}"
        for what, counts in kinds
        for name, count in counts.items()
        if count
    ]
    return lines + [f"  {line}" for line in data["first_bad_rows"]]


COMMAND = Command("trace", COMMANDS["trace"], TraceOptions, trace_command)
