"""``prefixsim demo``: the main job on embedded sample data, from text to charts."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from prefixsim.cli import COMMANDS
from prefixsim.cli._options import Command, EngineChoice
from prefixsim.settings import setting

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
    from prefixsim.cli.replay import Replay, replay_command
    from prefixsim.cli.trace import draw, progress_bar, report
    from prefixsim.formats.summary_file import SUMMARY_FILE
    from prefixsim.text.pretrained import DEMO_MODEL
    from prefixsim.traffic.build import build_traces

    folder = options.output_dir
    check_writable(folder, folder=True)
    with (
        atomic_folder(folder, last=SUMMARY_FILE) as stage,
        progress_bar("conversations", options.max_conversations) as advance,
    ):
        built = build_traces(
            model=DEMO_MODEL,
            output_dir=stage,
            max_conversations=options.max_conversations,
            block_size=options.block_size,
            seed=options.seed,
            progress=advance,
        )
        charts = [] if options.skip_visualization else draw(built, stage)
        # What an earlier run replayed is not of the traces that come now.
        (folder / "replay" / "summary.json").unlink(missing_ok=True)
    built = built.moved(folder)
    charts = [folder / chart.name for chart in charts]
    report(built, [*built.files.values(), *charts])
    sys.stdout.write(
        "\nSynthetic text: these figures show how prefixsim works, not what real traffic gains.\n\n"
    )
    replay_command(
        Replay(
            traces=(built.files["single_turn"], built.files["multi_turn"]),
            output_dir=folder / "replay",
            skip_visualization=options.skip_visualization,
        ),
        EngineChoice(given={"block_size": options.block_size}),
    )
    sys.stdout.write(f"\nwrote {folder / 'replay'}\n")


COMMAND = Command("demo", COMMANDS["demo"], Demo, demo_command)
