"""``prefixsim curve --points`` and ``--sample`` as their users run them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import prefixsim
from prefixsim.study.sampled_curve import sample_curve
from prefixsim.trace import Trace
from tests.commands import Cli


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    prompts = [[*range(100 * (i % 50), 100 * (i % 50) + 3 + i % 9)] for i in range(800)]
    Trace.from_prompts(prompts).write(path)
    return path


def test_points_of_any_policy(cli: Cli, chats: Path) -> None:
    code, out, err = cli(
        "curve", chats, "--policy", "s3fifo", "--points", 5, "--block-size", 1, "--json"
    )
    assert (code, err) == (0, "")
    [made] = json.loads(out)["curves"]
    trace = Trace.read(chats)
    unique = prefixsim.compile(trace).unique_blocks(1)
    assert made["points"][0]["capacity_blocks"] == 1
    assert made["points"][-1]["capacity_blocks"] == unique
    assert len(made["points"]) == 5
    for point in made["points"]:
        replayed = prefixsim.replay(
            trace, engine="ideal", policy="s3fifo", block_size=1,
            num_blocks=point["capacity_blocks"],
        )  # fmt: skip
        assert point["hit_tokens"] == replayed.summary["hit_tokens"]


def test_samples(cli: Cli, chats: Path, tmp_path: Path) -> None:
    trace = Trace.read(chats)
    given = ["--sample", 0.5, "--block-size", 1, "--capacity", "200,inf", "--samples", 3]
    files = [tmp_path / "s.json", tmp_path / "s.parquet"]
    outputs = [x for file in files for x in ("-o", file)]
    code, out, err = cli("curve", chats, *given, *outputs, "--json")
    assert code == 0
    assert "fewer than 100 mean prompts" in err
    unique = prefixsim.compile(trace).unique_blocks(1)
    wanted = sample_curve(trace, rate=0.5, capacity=[200, unique], samples=3, block_size=1)
    assert json.loads(out)["points"] == wanted.to_dict()["points"]
    assert json.loads(files[0].read_text())["points"] == wanted.to_dict()["points"]
    assert pq.read_table(files[1]).num_rows == 2
    code, out, _ = cli(
        "curve", chats, *given, "--sample-engine", "ideal", "--policy", "sieve", "--sample-seed", 4
    )
    assert code == 0
    assert "ideal, block size 1: estimated from 3 samples" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--points", "4", "--capacity", "5"], "--points 4: not with --capacity"),
        (["--policy", "ttl", "--points", "4"], "--points: not with --policy ttl"),
        (["--tiers", "--sample", "0.1"], "--sample: not with --tiers"),
        (["--sample", "0.5", "--policy", "lru,arc"], "--sample takes one"),
        (["--sample", "0.5", "--policy", "arc"], "other engines have their own order"),
        (["--sample", "0.5", "--whole-prompt-hits"], "--whole-prompt-hits: not with"),
        (["--sample", "0.5", "--cache-outputs"], "--cache-outputs: not with --sample"),
        (["--sample", "2"], "above 0 and below 1"),
        (["--sample", "0.5", "--block-size", "1", "-o", "x.svg"], "has no chart"),
    ],
)
def test_what_is_refused(
    cli: Cli, chats: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(chats.parent)
    code, _, err = cli("curve", chats, *options)
    assert code == 2
    assert message in err
