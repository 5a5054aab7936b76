"""``prefixsim demo``: the main job on embedded sample data, from text to charts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim.cli import COMMANDS
from prefixsim.cli._options import Command, EngineChoice
from prefixsim.settings import setting

if TYPE_CHECKING:
    from prefixsim.study.result import Result

__all__ = ["COMMAND", "Demo", "demo_command"]


@dataclass(frozen=True)
class Demo:
    """Options of ``prefixsim demo``."""

    output_dir: Path = setting(Path("demo-output"), help="Folder to write to.", metavar="DIR")
    max_conversations: int = setting(
        300, help="Number of sample conversations.", least=1, metavar="N"
    )
    block_size: int = setting(16, help="Tokens per block.", least=1, unit="tokens")
    seed: int = setting(0, help="Of the sample and of arrival times.", metavar="N")
    skip_visualization: bool = setting(False, help="Draw no charts.")


def demo_command(options: Demo) -> None:
    """Show what a prefix cache does for single-turn and multi-turn chat, on synthetic chats.

    Nothing is downloaded: conversations are generated, the tokenizer is part of the package.
    """
    from prefixsim._files import atomic_folder, check_writable
    from prefixsim.cli._terminal import charts_wanted, making
    from prefixsim.cli.replay import Replay, replay_all
    from prefixsim.cli.trace import draw, report
    from prefixsim.formats.summary_file import SUMMARY_FILE
    from prefixsim.text.pretrained import DEMO_MODEL
    from prefixsim.traffic.build import build_traces

    folder = options.output_dir
    drawn = charts_wanted(options.skip_visualization)
    check_writable(folder, folder=True)
    with (
        atomic_folder(folder, last=SUMMARY_FILE) as stage,
        making("conversations", options.max_conversations) as advance,
    ):
        built = build_traces(
            model=DEMO_MODEL,
            output_dir=stage,
            max_conversations=options.max_conversations,
            block_size=options.block_size,
            seed=options.seed,
            progress=advance,
        )
        charts = draw(built, stage) if drawn else []
        # What an earlier run replayed is not of the traces that come now.
        (folder / "replay" / "summary.json").unlink(missing_ok=True)
    built = built.moved(folder)
    charts = [folder / chart.name for chart in charts]
    report(built, [*built.files.values(), *charts])
    sys.stdout.write(
        "\nSynthetic text: these figures show how prefixsim works, not what real traffic gains.\n\n"
    )
    results = replay_all(
        Replay(
            traces=(built.files["single_turn"], built.files["multi_turn"]),
            output_dir=folder / "replay",
            skip_visualization=not drawn,
        ),
        EngineChoice(given={"block_size": options.block_size}),
    )
    sys.stdout.write(f"\nwrote {folder / 'replay'}\n\n{_finding(results)}\n")
    if drawn:
        from prefixsim.cli._terminal import working
        from prefixsim.reports.page import write_report

        page = folder / "report.html"
        with working("writing the report"):
            write_report(results, page)
        sys.stdout.write(f"All of it on one page: {page}\n")


def _finding(results: Sequence[Result]) -> str:
    """Say in a sentence what was found."""
    from prefixsim.study.curves import curve
    from prefixsim.table import written

    single, multi = (written(result.summary["token_hit_rate"], "rate") for result in results)
    size = results[1].config["block_size"]
    found = curve(results[1].metrics.forest, block_size=size)
    enough = found.capacity_for(0.9 * found.ceiling)
    return (
        f"Found: {single} of the prompt tokens come out of the cache if every message stands\n"
        f"alone, {multi} with the conversation before it. {enough:,} blocks of {size} tokens are\n"
        "enough for nine tenths of that."
    )


COMMAND = Command("demo", COMMANDS["demo"], Demo, demo_command)
