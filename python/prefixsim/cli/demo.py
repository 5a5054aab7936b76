"""``prefixsim demo``: the main job on embedded sample data, from text to charts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefixsim.cli import app

__all__ = ["demo"]

_CONVERSATIONS = 300


@app.command()
def demo(
    output_dir: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("demo-output"),
    max_conversations: Annotated[
        int, typer.Option(help="Number of sample conversations.")
    ] = _CONVERSATIONS,
    block_size: Annotated[int, typer.Option(help="Tokens per block.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the sample and of arrival times.")] = 0,
    skip_visualization: Annotated[
        bool, typer.Option("--skip-visualization", help="Draw no charts.")
    ] = False,
) -> None:
    """Show what a prefix cache does for single-turn and multi-turn chat, on synthetic chats.

    Nothing is downloaded: conversations are generated, the tokenizer is part of the package.
    """
    from prefixsim._files import atomic_folder, check_writable  # noqa: PLC0415
    from prefixsim.cli.replay import replay_command  # noqa: PLC0415
    from prefixsim.cli.trace import draw, progress_bar, report  # noqa: PLC0415
    from prefixsim.formats.summary_file import SUMMARY_FILE  # noqa: PLC0415
    from prefixsim.text.pretrained import DEMO_MODEL  # noqa: PLC0415
    from prefixsim.traffic.build import build_traces  # noqa: PLC0415

    check_writable(output_dir, folder=True)
    with (
        atomic_folder(output_dir, last=SUMMARY_FILE) as stage,
        progress_bar("conversations", max_conversations) as advance,
    ):
        built = build_traces(
            model=DEMO_MODEL,
            output_dir=stage,
            max_conversations=max_conversations,
            block_size=block_size,
            seed=seed,
            progress=advance,
        )
        charts = [] if skip_visualization else draw(built, stage)
        # What an earlier run replayed is not of the traces that come now.
        (output_dir / "replay" / "summary.json").unlink(missing_ok=True)
    built = built.moved(output_dir)
    charts = [output_dir / chart.name for chart in charts]
    report(built, [*built.files.values(), *charts])
    typer.echo(
        "\nSynthetic text: these figures show how prefixsim works, not what real traffic gains.\n"
    )
    replay_command(
        traces=[built.files["single_turn"], built.files["multi_turn"]],
        block_size=block_size,
        output_dir=output_dir / "replay",
        skip_visualization=skip_visualization,
    )
    typer.echo(f"\nwrote {output_dir / 'replay'}")
