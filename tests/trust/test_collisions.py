"""Blocks made to collide under XXH3, which has no key: never hits, whichever way they come."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from prefixsim import BlockManager, Trace, hash_blocks, replay
from prefixsim.cli import main
from prefixsim.trace import Ragged, transform

# Where 64 bits of the input are those of XXH3's secret, a product becomes 0 whatever comes next.
SECRET = [0x396CFEB8, 0xBE4BA423]


def block(x: int, y: int) -> list[int]:
    return [*SECRET, x, y] + [7] * 12


@pytest.fixture
def colliding() -> Trace:
    """Return a trace of prompts that share nothing, although all hashes are equal."""
    return Trace.from_prompts([block(i, i + 1) + [5] * 20 for i in range(20)])


def test_the_blocks_do_collide() -> None:
    hashes = [hash_blocks(block(i, 9 * i)) for i in range(5)]
    assert all(h == hashes[0] for h in hashes)


def test_lookup_of_other_tokens() -> None:
    manager = BlockManager(100, 16)
    assert manager.allocate("a", [*block(1, 2), 3]) is not None
    assert manager.lookup([*block(1, 2), 4]) == 16
    assert manager.lookup([*block(3, 4), 3]) == 0
    allocation = manager.allocate("b", [*block(3, 4), 3])
    assert allocation is not None
    assert allocation.hit_tokens == 0
    manager.validate()


def test_appended_tokens() -> None:
    manager = BlockManager(100, 16)
    assert manager.allocate("a", block(1, 2)[:10]) is not None
    manager.append("a", [*block(1, 2)[10:], 1, 2])
    manager.free("a")
    assert manager.lookup([*block(1, 2), 4]) == 16
    assert manager.lookup([*block(8, 2), 4]) == 0


@pytest.mark.parametrize("engine", ["lru", "block-manager", "vllm"])
def test_replays_hit_nothing(engine: str, colliding: Trace) -> None:
    outcome = replay(colliding, engine=engine).outcome
    assert outcome.hit_tokens.tolist() == [0] * len(colliding)


@pytest.mark.parametrize("engine", ["lru", "block-manager", "vllm"])
def test_hash_ids_hit_nothing(engine: str, colliding: Trace) -> None:
    secret = SECRET[0] | SECRET[1] << 32
    ids = [np.array([secret, i, 7, 7, 7, 7, 7, 7], np.uint64) for i in range(20)]
    trace = colliding.replace(
        prompts=Ragged.from_lists(ids, np.uint64),
        prompt_len=np.full(20, 8 * 16, np.uint32),
        id_block_size=16,
    )
    outcome = replay(trace, engine=engine, block_size=8 * 16).outcome
    assert outcome.hit_tokens.tolist() == [0] * 20


def test_commands(colliding: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "t.jsonl")
    colliding.write(path)
    assert main(["compare", path, "--json"]) == 0
    text = capsys.readouterr().out
    assert '"token_hit_rate": 0.0' in text
    runs = json.loads(text)["runs"]
    assert runs
    assert main(["replay", path, "--engine", "vllm"]) == 0
    assert main(["report", path, "-o", str(tmp_path / "r.html")]) == 0


def test_many_random_blocks_still_hit() -> None:
    rng = np.random.default_rng(0)
    manager = BlockManager(2000, 16)
    prompts = [rng.integers(0, 2**32, 65, dtype=np.uint32) for _ in range(100)]
    for i, prompt in enumerate(prompts):
        assert manager.allocate(i, prompt) is not None
    assert [manager.lookup(prompt) for prompt in prompts] == [64] * 100
    for a, b in itertools.pairwise(prompts):
        assert manager.lookup(np.concatenate([a[:32], b[32:]])) == 32


def test_samples_of_trees_that_collide() -> None:
    secret = SECRET[0] | SECRET[1] << 32
    ids = [np.array([secret, i, 7, 7], np.uint64) for i in range(100)]
    trace = Trace.from_prompts([[1] * 8] * 100).replace(
        prompts=Ragged.from_lists(ids, np.uint64), id_block_size=2
    )
    assert transform.largest_tree(trace, head=8) == 1 / 100
    assert 20 < len(transform.sample_trees(trace, 0.4, head=8)) < 60
