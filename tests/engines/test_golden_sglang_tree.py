"""The radix cache against SGLang's own: the whole tree after every recorded operation."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.engines.recorded_radix_operations import replay_edges, replay_sequence
from tests.golden import cases, golden_root, read_json


def sequences() -> list[Any]:
    """One parameter for each recorded operation sequence."""
    path = golden_root() / "sglang" / "fuzz_ops.json.gz"
    if not path.is_file():
        skip = pytest.mark.skip(reason=f"no recording {path}")
        return [pytest.param({}, id="absent", marks=skip)]
    recorded = read_json(path)["seqs"]
    names = [f"{i}-{s['config']['engine']}-{s['config']['policy']}" for i, s in enumerate(recorded)]
    return [pytest.param(s, id=name) for s, name in zip(recorded, names, strict=True)]


@pytest.mark.parametrize("sequence", sequences())
def test_golden_sglang_operations(sequence: dict[str, Any]) -> None:
    assert replay_sequence(sequence) > 0


@pytest.mark.parametrize("path", cases("sglang", "edge_trace.jsonl"))
def test_golden_sglang_edge_trace(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert replay_edges([json.loads(line) for line in lines]) == len(lines) > 0


def test_operations_in_the_checkout(data: Path) -> None:
    recorded = read_json(data / "sglang" / "fuzz_ops.json.gz")["seqs"]
    assert len(recorded) == 28
    assert sum(map(replay_sequence, recorded)) > 1000
    lines = (data / "sglang" / "edge_trace.jsonl").read_text().splitlines()
    assert replay_edges([json.loads(line) for line in lines]) == 124


def test_a_recording_that_was_tampered_with_fails(data: Path) -> None:
    recorded = read_json(data / "sglang" / "fuzz_ops.json.gz")["seqs"][0]
    touched = copy.deepcopy(recorded)
    for _, _, state in touched["states"]:
        if state["nodes"]:
            state["nodes"][0][1] += 1
            break
    with pytest.raises(AssertionError):
        replay_sequence(touched)
