"""What people read, as it was last agreed: tables, ``--help``, error lines.

``pytest tests/cli/test_snapshots.py --snapshot-update`` writes what is there now; the change is
then read in the diff.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from prefixsim import Trace
from prefixsim.cli import COMMANDS, main


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pipe 100 characters wide, in a folder with one small trace."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    rules = list(range(64))
    prompts = [[*rules, *range(1000 * i, 1000 * i + 40)] for i in range(1, 7)]
    trace = Trace.from_prompts(
        [prompts[0], prompts[1], prompts[0], [7, 8, 9], prompts[2], prompts[0]],
        output_len=[8] * 6,
        session=["a", "b", "a", "c", "b", "a"],
    )
    trace.write("small.jsonl")
    bad = Path("small.jsonl").read_text().splitlines()
    bad[2] = bad[2].replace('"timestamp":', '"when":')
    Path("bad.jsonl").write_text("\n".join(bad) + "\n")
    Path("order.jsonl").write_text("\n".join(reversed(bad[3:])) + "\n")


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    code = main(list(args))
    out, err = capsys.readouterr()
    return f"exit code {code}\n{out}{err}"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(
    command: str, capsys: pytest.CaptureFixture[str], snapshot: SnapshotAssertion
) -> None:
    assert shown(capsys, *([command] if command else []), "--help") == snapshot


@pytest.mark.parametrize(
    "line",
    [
        "info small.jsonl",
        "replay small.jsonl --block-size 16",
        "replay small.jsonl --block-size 16 --num-blocks 10",
        "replay small.jsonl --block-size 16 --by session",
        "curve small.jsonl --block-size 16 --policy lru,clairvoyant",
        "curve small.jsonl --block-size 16 --hbm 2,4 --dram 0,2,4,9",
        "curve small.jsonl --block-size 16 --hbm 2 --dram 2 --disk 1MB --bytes-per-token 100",
        "curve small.jsonl --block-size 16 --hbm 2 --dram 4 --model-config qwen3-8b --latency h100 "
        "--links dram=pcie5",
        "explain small.jsonl --block-size 16 --num-blocks 10",
        "explain small.jsonl --block-size 16 --request 2",
    ],
)
def test_tables(line: str, capsys: pytest.CaptureFixture[str], snapshot: SnapshotAssertion) -> None:
    assert shown(capsys, *line.split()) == snapshot


@pytest.mark.parametrize(
    "line",
    [
        "replay missing.jsonl",
        "replay bad.jsonl",
        "replay order.jsonl",
        "replay small.jsonl --block-size 0",
        "replay small.jsonl --num-blocks many",
        "replay small.jsonl --num-blok 3",
        "replay small.jsonl --engine nothing",
        "replay small.jsonl --block-size 16 --num-blocks 4",
        "explain small.jsonl --request 99",
        "curve small.jsonl --policy mru",
        "curve small.jsonl --tiers --capacity 3",
        "curve small.jsonl --tiers --prices dram",
        "curve small.jsonl --tiers --links dram=pcie5",
        "curve small.jsonl --tiers --links dram",
        "lint",
        "replai small.jsonl",
        "info small.jsonl --format nothing",
    ],
)
def test_errors(line: str, capsys: pytest.CaptureFixture[str], snapshot: SnapshotAssertion) -> None:
    assert shown(capsys, *line.split()) == snapshot
