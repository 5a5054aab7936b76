"""The host tier against vLLM's own offload manager: the whole state after every operation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.engines.recorded_offload_operations import Core, config_of, replay_sequence
from tests.golden import golden_root, read_json
from tests.oracle.offload import HostTier


def sequences() -> list[Any]:
    """One parameter for each recorded operation sequence."""
    path = golden_root() / "tiers" / "fuzz_manager.json.gz"
    if not path.is_file():
        skip = pytest.mark.skip(reason=f"no recording {path}")
        return [pytest.param({}, id="absent", marks=skip)]
    recorded = read_json(path)["seqs"]
    return [pytest.param(s, id=f"{i}-{s['policy']}") for i, s in enumerate(recorded)]


@pytest.mark.parametrize("sequence", sequences())
def test_golden_tiers_manager(sequence: dict[str, Any]) -> None:
    assert replay_sequence(Core(*config_of(sequence)), sequence) > 0


def in_checkout(data: Path) -> Any:
    return read_json(data / "tiers" / "fuzz_manager.json.gz")["seqs"]


def test_operations_in_the_checkout(data: Path) -> None:
    recorded = in_checkout(data)
    policies = {(s["policy"], s["store_threshold"] >= 2) for s in recorded}
    assert policies == {("lru", False), ("lru", True), ("arc", False), ("arc", True)}
    assert sum(replay_sequence(Core(*config_of(s)), s) for s in recorded) > 500


def test_the_oracle_agrees_with_the_recordings(data: Path) -> None:
    for sequence in in_checkout(data):
        replay_sequence(HostTier(*config_of(sequence)), sequence)


@pytest.mark.parametrize("name", ["fresh", "evictable", "order"])
def test_a_recording_that_was_tampered_with_fails(data: Path, name: str) -> None:
    sequence = copy.deepcopy(next(s for s in in_checkout(data) if s["policy"] == "lru"))
    state = next(state for _, state in sequence["ops"] if state["order"])
    state[name] = [*state[name][::-1], [0, 0, 0]] if name == "order" else state[name] + 1
    with pytest.raises(AssertionError):
        replay_sequence(Core(*config_of(sequence)), sequence)
