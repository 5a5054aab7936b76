"""What the waterfall costs beside the replay it explains; the trace has a million requests."""

from __future__ import annotations

import time

import pytest
from benches.workload import conversations
from pytest_benchmark.fixture import BenchmarkFixture

import prefixsim
from prefixsim.forest import Forest
from prefixsim.reports.page import report_html
from prefixsim.study.result import Result

REQUESTS = 1_000_000
CAPACITY_SHARE = 0.2


@pytest.fixture(scope="module")
def forest() -> Forest:
    # Hash ids of 16 tokens: the same tree as of tokens at a sixteenth of the memory.
    return prefixsim.compile(conversations(REQUESTS, unit=16))


@pytest.fixture(scope="module")
def capacity(forest: Forest) -> int:
    return int(forest.unique_blocks(16) * CAPACITY_SHARE)


@pytest.fixture(scope="module")
def replayed(forest: Forest, capacity: int) -> Result:
    return prefixsim.replay(forest, engine="lru", num_blocks=capacity)


def test_plain_replay(benchmark: BenchmarkFixture, forest: Forest, capacity: int) -> None:
    forest.profile(16)
    benchmark.pedantic(
        lambda: prefixsim.replay(forest, engine="lru", num_blocks=capacity), rounds=3
    )
    benchmark.extra_info["requests_per_s"] = REQUESTS / benchmark.stats.stats.min


def test_waterfall(benchmark: BenchmarkFixture, replayed: Result) -> None:
    fall = benchmark.pedantic(replayed.waterfall, rounds=3)
    assert sum(fall.totals.values()) == fall.prompt_tokens
    benchmark.extra_info["requests_per_s"] = REQUESTS / benchmark.stats.stats.min


def test_everything_explain_says(benchmark: BenchmarkFixture, replayed: Result) -> None:
    found = benchmark.pedantic(lambda: replayed.waterfall().to_dict(), rounds=1)
    assert found["classes"]["evicted"]["tokens"] > 0
    assert benchmark.stats.stats.max < 30


def test_report(benchmark: BenchmarkFixture, replayed: Result) -> None:
    start = time.perf_counter()
    html = benchmark.pedantic(lambda: report_html([replayed]), rounds=1)
    assert len(html) < 5_000_000
    benchmark.extra_info["megabytes"] = len(html) / 1e6
    assert time.perf_counter() - start < 120
