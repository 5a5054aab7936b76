"""BlockManager: blocks per second, beside a replay on a plain OrderedDict that hashes nothing.

The workload is long multi-turn chats: 32 conversations take turns, each prompt repeats the one
before and adds 512 tokens, up to 32k tokens, in a cache of 64k blocks that does not hold them all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from benches.baseline import ordered_dict

import prefixsim
from prefixsim import _core
from prefixsim.trace import Ragged

BLOCK_SIZE = 16
NUM_BLOCKS = 50_000
SESSIONS = 32
TURNS = 64
NEW_TOKENS = 512


@pytest.fixture(scope="module")
def prompts() -> list[npt.NDArray[np.uint32]]:
    rng = np.random.default_rng(0)
    chats = rng.integers(0, 50_000, (SESSIONS, TURNS * NEW_TOKENS), dtype=np.uint32)
    return [chats[s, : (t + 1) * NEW_TOKENS] for t in range(TURNS) for s in range(SESSIONS)]


def report(benchmark: Any, blocks: int) -> None:
    benchmark.extra_info["blocks_per_s"] = round(blocks / benchmark.stats.stats.min)


def count_blocks(prompts: list[npt.NDArray[np.uint32]]) -> int:
    return sum(len(p) // BLOCK_SIZE for p in prompts)


def test_allocate_and_free(benchmark: Any, prompts: list[npt.NDArray[np.uint32]]) -> None:
    def run() -> None:
        manager = prefixsim.BlockManager(NUM_BLOCKS, BLOCK_SIZE)
        for i, prompt in enumerate(prompts):
            assert manager.allocate(i, prompt) is not None
            manager.free(i)

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    report(benchmark, count_blocks(prompts))


def test_allocate_and_free_without_hits(benchmark: Any) -> None:
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, 50_000, 8192, dtype=np.uint32) for _ in range(1000)]

    def run() -> None:
        manager = prefixsim.BlockManager(NUM_BLOCKS, BLOCK_SIZE)
        for i, prompt in enumerate(prompts):
            assert manager.allocate(i, prompt) is not None
            manager.free(i)

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    report(benchmark, count_blocks(prompts))


def test_replay_of_a_trace(benchmark: Any, prompts: list[npt.NDArray[np.uint32]]) -> None:
    column = Ragged.from_lists(prompts)
    lengths = column.lengths.astype(np.uint32)

    def run() -> None:
        _core.replay_block_manager(
            column.offsets, column.values, 1, lengths, None, BLOCK_SIZE, NUM_BLOCKS, True, 1
        )

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    report(benchmark, count_blocks(prompts))


def test_baseline_ordered_dict(benchmark: Any, prompts: list[npt.NDArray[np.uint32]]) -> None:
    """Least recently used blocks by ready-made ids: no hashing, reference counts or tables."""
    requests = [
        [(i % SESSIONS) * 10_000 + b for b in range(len(p) // BLOCK_SIZE)]
        for i, p in enumerate(prompts)
    ]

    def run() -> int:
        return ordered_dict(requests, NUM_BLOCKS)

    benchmark.pedantic(run, rounds=2, warmup_rounds=1)
    report(benchmark, count_blocks(prompts))
