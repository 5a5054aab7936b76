"""Policies: requests a second of CPU, on conversations, and on a flat trace beside libcachesim.

``multi-turn`` is a million requests in conversations of 8 turns, compiled; ``flat`` a million
single blocks by Zipf's law, on which libcachesim (``pip install libcachesim``) runs in the same
run; both must hit the same where both follow one rule. Times are of the process, compiling and
reading not included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from benches.workload import conversations

import prefixsim
from prefixsim.eviction import POLICIES
from prefixsim.forest import Forest, compile  # noqa: A004
from prefixsim.own_policies import Segments
from prefixsim.trace import Ragged, Trace

REQUESTS = 1_000_000
OBJECTS = 100_000
# Ours as libcachesim has the rule, its class, and whether the rule is known to the last bit.
BESIDE = [
    ("lru", "LRU", True),
    ("fifo", "FIFO", True),
    ("clock", "Clock", True),
    ("sieve", "Sieve", True),
    ("s3fifo:fill=true", "S3FIFO", True),
    ("lfu", "LFU", True),
    ("gdsf:refuse=true", "GDSF", True),
    ("slru:segments=4:protected=0:room=true", "SLRU", False),
    ("2q", "TwoQ", False),
    ("arc", "ARC", True),
    ("lirs", "LIRS", False),
    ("w-tinylfu", "WTinyLFU", False),
    ("random", "Random", False),
]


class LastUse(prefixsim.Policy):
    """The simplest key."""

    def priority(self, segments: Segments) -> npt.ArrayLike:
        return segments.last_use


class Sum(prefixsim.Policy):
    """A key of three columns."""

    def priority(self, segments: Segments) -> npt.ArrayLike:
        return segments.last_use + 100 * segments.uses - 0.5 * segments.depth


@pytest.fixture(scope="module")
def chats() -> Forest:
    return compile(conversations(REQUESTS, unit=16))


@pytest.fixture(scope="module")
def objects() -> npt.NDArray[np.uint64]:
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, OBJECTS + 1)
    return rng.choice(OBJECTS, REQUESTS, p=weights / weights.sum()).astype(np.uint64)


@pytest.fixture(scope="module")
def flat(objects: npt.NDArray[np.uint64]) -> Forest:
    lengths = np.full(REQUESTS, 16, np.uint32)
    prompts = Ragged(np.arange(REQUESTS + 1, dtype=np.uint64), objects)
    trace = Trace(np.arange(REQUESTS, dtype=np.float64), lengths, lengths * 0, prompts, 16)
    return compile(trace)


@pytest.fixture(scope="module")
def reader(objects: npt.NDArray[np.uint64], tmp_path_factory: Any) -> Iterator[Any]:
    lcs = pytest.importorskip("libcachesim")
    path: Path = tmp_path_factory.mktemp("flat") / "flat.oracleGeneral.bin"
    row = [("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")]
    rows = np.zeros(REQUESTS, np.dtype(row))
    rows["time"], rows["id"], rows["size"] = np.arange(REQUESTS), objects + 1, 1
    rows["next"] = -1
    rows.tofile(path)
    yield lcs.TraceReader(str(path), lcs.TraceType.ORACLE_GENERAL_TRACE)


def timed(run: Callable[[], Any], seconds: list[float]) -> Any:
    """Run something; add its CPU seconds."""
    start = time.process_time()
    found = run()
    seconds.append(time.process_time() - start)
    return found


def report(benchmark: Any, seconds: list[float], name: str = "requests_per_cpu_s") -> None:
    benchmark.extra_info[name] = round(REQUESTS / min(seconds))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("policy", POLICIES)
def test_multi_turn(benchmark: Any, chats: Forest, policy: str, share: float) -> None:
    profile = chats.profile(16)
    capacity = int(profile.unique_blocks * share)
    seconds: list[float] = []
    benchmark.pedantic(lambda: timed(lambda: profile.replay(policy, capacity), seconds), rounds=3)
    report(benchmark, seconds)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("own", [LastUse, Sum])
def test_in_python(
    benchmark: Any, chats: Forest, own: type[prefixsim.Policy], share: float
) -> None:
    profile = chats.profile(16)
    capacity = int(profile.unique_blocks * share)
    seconds: list[float] = []
    benchmark.pedantic(lambda: timed(lambda: profile.replay(own(), capacity), seconds), rounds=2)
    report(benchmark, seconds)


@pytest.mark.parametrize("beside", BESIDE, ids=[name for name, *_ in BESIDE])
def test_flat(benchmark: Any, flat: Forest, reader: Any, beside: tuple[str, str, bool]) -> None:
    policy, other, same = beside
    lcs = pytest.importorskip("libcachesim")
    profile = flat.profile(16)
    capacity = OBJECTS // 10
    ours: list[float] = []
    theirs: list[float] = []

    def run() -> tuple[int, float]:
        found = timed(lambda: profile.replay(policy, capacity, last_token_rule=False), ours)
        cache = getattr(lcs, other)(capacity)
        reader.reset()
        missed, _ = timed(lambda: cache.process_trace(reader), theirs)
        return int(found["hit_blocks"].sum()), missed

    hits, missed = benchmark.pedantic(run, rounds=3)
    report(benchmark, ours)
    report(benchmark, theirs, "libcachesim_requests_per_cpu_s")
    benchmark.extra_info["times_libcachesim"] = round(min(theirs) / min(ours), 2)
    if same:
        assert hits == round((1 - missed) * REQUESTS)
