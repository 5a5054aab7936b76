"""The surface beside the curve it comes from, and hierarchies of tiers block by block."""

from __future__ import annotations

import time
from typing import Any

import pytest
from benches.workload import conversations

import prefixsim
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace

REQUESTS = 1_000_000
FEWER = 100_000


@pytest.fixture(scope="module")
def forest() -> Forest:
    return compile_trace(conversations(REQUESTS, unit=16))


def test_surface_beside_the_curve(benchmark: Any, forest: Forest) -> None:
    """All sizes of two tiers, for at most 1.5 times what one tier takes."""
    forest.profile(16)
    curves: list[float] = []

    def one_tier() -> None:
        forest._curves.clear()
        start = time.perf_counter()
        assert prefixsim.curve(forest, block_size=16).points
        curves.append(time.perf_counter() - start)
        forest._curves.clear()

    # Taken in turns, so that both see the same machine.
    benchmark.pedantic(
        lambda: prefixsim.surface(forest, block_size=16).points, setup=one_tier, rounds=5
    )
    benchmark.extra_info["times_curve"] = round(benchmark.stats.stats.min / min(curves), 2)
    benchmark.extra_info["requests_per_s"] = round(len(forest.trace) / benchmark.stats.stats.min)


@pytest.mark.parametrize("rules", ["", ":exclusive", ":uses=2", ":lfu"])
def test_two_tiers(benchmark: Any, rules: str) -> None:
    fewer = compile_trace(conversations(FEWER, unit=16))
    unique = fewer.unique_blocks(16)
    settings: dict[str, Any] = {
        "num_blocks": unique // 50,
        "lower_tiers": f"dram:{unique // 10}{rules}",
    }
    benchmark.pedantic(
        lambda: prefixsim.replay(fewer, engine="tiers", block_size=16, **settings), rounds=2
    )
    benchmark.extra_info["requests_per_s"] = round(FEWER / benchmark.stats.stats.min)
