"""Routers: requests per second of each with 8 replicas, regret included, on one core.

A million requests in conversations of eight turns, hash ids of 16 tokens. The baseline is the plain
Python fleet that the tests compare against, on the first thousand. Whole processes route the
Mooncake conversation trace by twelve routers.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benches.workload import conversations
from tests.oracle import fleet as plain
from tests.oracle import routing as oracle

from prefixsim import _core
from prefixsim.forest import compile as compile_trace
from prefixsim.routing import load_router, router_names
from prefixsim.routing.traffic import compile_traffic

REQUESTS, REPLICAS, BLOCKS = 1_000_000, 8, 100_000
MOONCAKE = Path(__file__).parents[2] / "shared/data/mooncake/conversation_trace.jsonl.gz"
TWELVE = [name for name in router_names() if name not in ("pooled", "greedy", "work-oracle")][:12]
CALL = "import sys; from prefixsim.cli import main; sys.exit(main(sys.argv[1:]))"


def fleet() -> dict[str, Any]:
    return {
        "replicas": REPLICAS, "capacity": BLOCKS, "block_size": 16, "seed": 0, "ties": "random",
        "event_delay": 0, "scaling": [], "seen": False, "index_after": [], "validate": False,
        "choices": None,
    }  # fmt: skip


@pytest.fixture(scope="module")
def traffic() -> _core.FleetTraffic:
    trace = conversations(REQUESTS, unit=16)
    hold = np.random.default_rng(1).integers(0, 32, REQUESTS).astype(np.uint32)
    return compile_traffic(compile_trace(trace), hold)


@pytest.mark.parametrize("name", [name for name in router_names() if name != "pooled"])
def test_router(benchmark: Any, traffic: _core.FleetTraffic, name: str) -> None:
    router = load_router(name)
    spec = router.spec(router.settings(), REPLICAS)
    assert isinstance(spec, dict)
    (found,) = benchmark.pedantic(traffic.route, ([spec], fleet()), rounds=3, warmup_rounds=1)
    seconds = float(benchmark.stats.stats.min)
    benchmark.extra_info["requests_per_s"] = round(REQUESTS / seconds)
    assert found["best_hit_tokens"].sum() >= found["hit_tokens"].sum()


def test_plain_python(benchmark: Any) -> None:
    trace = conversations(1000, unit=16)
    assert trace.prompts is not None
    requests = [
        plain.Request(tuple(int(t) for t in trace.prompts[i]), "", i % 32) for i in range(1000)
    ]
    router = oracle.RoundRobin(requests, REPLICAS)
    benchmark.pedantic(plain.simulate, (requests, router, BLOCKS, 1), rounds=1)
    benchmark.extra_info["requests_per_s"] = round(1000 / benchmark.stats.stats.min)


@pytest.mark.skipif(not MOONCAKE.exists(), reason="needs the Mooncake trace")
def test_twelve_routers_whole_process(benchmark: Any) -> None:
    command = [sys.executable, "-c", CALL, "fleet", str(MOONCAKE), "--replicas", "8",
               "--num-blocks", "1365", "--router", ",".join(TWELVE)]  # fmt: skip
    outputs = set()

    def run() -> None:
        begin = time.process_time()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        outputs.add(done.stdout)
        assert time.process_time() >= begin

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    assert len(outputs) == 1  # byte for byte
