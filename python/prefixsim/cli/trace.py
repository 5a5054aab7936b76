"""``prefixsim trace``: chat data to traces."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefixsim._printable import printable
from prefixsim.cli import app
from prefixsim.cli._remote_code import TrustRemoteCode
from prefixsim.errors import InputError
from prefixsim.text.tokenize import DEFAULT_MODEL

if TYPE_CHECKING:
    from prefixsim.traffic.build import BuiltTraces

__all__ = ["trace"]

_TITLES = {"single_turn": "single turn", "multi_turn": "multi turn"}


@app.command()
def trace(  # noqa: PLR0917
    data_path: Annotated[
        Path | None,
        typer.Option(
            help="ShareGPT, OpenAI style or WildChat/LMSYS data: JSON array, JSON lines or "
            "Parquet, also .gz and .zst. Default: an embedded synthetic sample."
        ),
    ] = None,
    max_conversations: Annotated[
        str, typer.Option(help="Use the first so many conversations; 0 or 'all' is all.")
    ] = "1000",
    output_dir: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("traces"),
    block_size: Annotated[int, typer.Option(help="Tokens per block, for the summary.")] = 16,
    arrival_rate: Annotated[float, typer.Option(help="New conversations per second.")] = 2.0,
    skip_visualization: Annotated[
        bool, typer.Option("--skip-visualization", help="Draw no charts.")
    ] = False,
    model: Annotated[
        str, typer.Option(help="Tokenizer: hub name, local folder, or 'demo' (embedded).")
    ] = DEFAULT_MODEL,
    trust_remote_code: TrustRemoteCode = False,
    cache_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the token ids of texts here, and use those kept."),
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Keep text; replay then tokenizes it.")
    ] = False,
    template: Annotated[
        str,
        typer.Option(help="Prompt rendering: none, role (User: ...), or chat (the tokenizer's)."),
    ] = "none",
    tokenization: Annotated[
        str, typer.Option(help="Token ids of the whole prompt, or of each message: whole, message.")
    ] = "whole",
    output_format: Annotated[str, typer.Option(help="jsonl or parquet.")] = "jsonl",
    data_format: Annotated[
        str | None, typer.Option(help="sharegpt, openai or wildchat. Default: as it looks.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of arrival times, and of the sample.")] = 0,
    think_time: Annotated[
        float, typer.Option(help="Mean time between an answer and the next turn, in s.")
    ] = 10.0,
    time_per_token: Annotated[float, typer.Option(help="Time per output token, in s.")] = 0.02,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Conversations one after the other, no overlap.")
    ] = False,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out what cannot be read, and count it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Turn chat data into a single-turn and a multi-turn trace."""
    from prefixsim._files import atomic_folder, check_writable  # noqa: PLC0415
    from prefixsim.formats.summary_file import SUMMARY_FILE  # noqa: PLC0415
    from prefixsim.traffic.build import build_traces  # noqa: PLC0415

    limit = parse_count(max_conversations)
    check_writable(output_dir, folder=True)
    with (
        atomic_folder(output_dir, last=SUMMARY_FILE) as stage,
        progress_bar("conversations", limit) as advance,
    ):
        built = build_traces(
            data_path,
            model=model,
            cache_dir=cache_dir,
            output_dir=stage,
            max_conversations=limit,
            template=template,  # type: ignore[arg-type]
            tokenization=tokenization,  # type: ignore[arg-type]
            text=text,
            arrival_rate=arrival_rate,
            think_time=think_time,
            time_per_token=time_per_token,
            sequential=sequential,
            seed=seed,
            data_format=data_format,
            skip_bad_rows=skip_bad_rows,
            output_format=output_format,  # type: ignore[arg-type]
            block_size=block_size,
            progress=advance,
        )
        charts = [] if skip_visualization else draw(built, stage)
    built = built.moved(output_dir)
    charts = [output_dir / chart.name for chart in charts]
    if as_json:
        typer.echo(json.dumps(built.summary, indent=2))
    else:
        report(built, [*built.files.values(), *charts])


def parse_count(value: str) -> int | None:
    """Return a number of conversations; ``None`` for all."""
    if value.lower() == "all":
        return None
    try:
        number = int(value)
    except ValueError:
        number = -1
    if number < 0:
        msg = f"--max-conversations {value} is not usable, give a number, or 0 or 'all' for all"
        raise InputError(msg)
    return number or None


@contextmanager
def progress_bar(
    what: str, total: int | None
) -> Iterator[Callable[[int, tuple[int, int] | None], None] | None]:
    """Show progress on a terminal; in a pipe give ``None``."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.completed:,} {task.description}"),
        BarColumn(),
        TextColumn("{task.fields[percent]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, percent="")

        def advance(done: int, read: tuple[int, int] | None) -> None:
            shares = [done / total] if total else []
            if read and read[1]:
                shares.append(read[0] / read[1])
            share = max(shares, default=0.0)
            expected = done / share if share else None
            percent = f"{share:.0%}" if share else ""
            bar.update(task, completed=done, total=expected, percent=percent)

        yield advance


def draw(built: BuiltTraces, folder: Path) -> list[Path]:
    """Write the charts and return their files."""
    from prefixsim.charts import save, traffic  # noqa: PLC0415

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
    from prefixsim.cli._terminal import print_tables  # noqa: PLC0415
    from prefixsim.table import Table  # noqa: PLC0415

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
        typer.echo(printable(note))
    for file in files:
        typer.echo(f"wrote {printable(str(file))}")


def _figures(row: dict[str, Any], unit: str) -> list[str]:
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


def remarks(data: dict[str, Any]) -> list[str]:
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
