"""The embedded sample: conversations, tokenizer, and the demo command."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from prefixsim.cli import main
from prefixsim.traffic.demo import sample_conversations, train


def test_same_seed_same_conversations_whatever_the_count() -> None:
    first = list(sample_conversations(50, seed=4))
    assert first == list(sample_conversations(50, seed=4))
    assert first == list(itertools.islice(sample_conversations(500, seed=4), 50))
    assert first != list(sample_conversations(50, seed=5))


def test_shape_of_the_workload() -> None:
    rows = list(sample_conversations(2000, seed=1))
    assert len({row["id"] for row in rows}) == 2000
    turns = [sum(m["from"] == "human" for m in row["conversations"]) for row in rows]
    assert min(turns) == 1
    assert 3 < sum(turns) / len(turns) < 6
    assert 0.01 < sum(t >= 20 for t in turns) / len(turns) < 0.1  # the heavy tail
    systems = Counter(
        row["conversations"][0]["value"]
        for row in rows
        if row["conversations"][0]["from"] == "system"
    )
    assert len(systems) == 6
    assert 0.5 < systems.total() / len(rows) < 0.7
    answers = {m["value"] for row in rows for m in row["conversations"] if m["from"] == "gpt"}
    assert len(answers) > 5000  # varied text
    assert not any(
        "{" in m["value"].replace('{"', "") for row in rows for m in row["conversations"]
    )


def test_embedded_tokenizer_is_what_the_script_makes(tmp_path: Path) -> None:
    train.train(tmp_path)
    made, kept = (
        json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        for folder in (tmp_path, train.FOLDER)
    )
    for field in ("vocab", "merges"):
        assert made["model"][field] == kept["model"][field]
    config = "tokenizer_config.json"
    assert (tmp_path / config).read_bytes() == (train.FOLDER / config).read_bytes()
    assert sum(p.stat().st_size for p in train.FOLDER.iterdir()) <= 200_000


def test_demo_goes_from_text_to_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["demo", "--output-dir", str(tmp_path), "--max-conversations", "40"]
    assert main([*args, "--skip-visualization"]) == 0
    out = capsys.readouterr().out
    assert "Synthetic text" in out
    assert "single_turn_trace  multi_turn_trace" in out
    assert "block reuse rate" in out
    assert (tmp_path / "multi_turn_trace.jsonl").is_file()
    assert list((tmp_path / "replay").glob("*.json"))
    summary = json.loads((tmp_path / "trace_summary.json").read_text())
    multi = summary["traces"]["multi_turn"]["sharing_ceiling"]
    assert f"{multi['blocks_reused']:,}" in out
