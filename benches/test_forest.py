"""The forest: compiling beside one memcpy, replays beside an OrderedDict; sweeps; peak memory.

The traces are conversations of 8 turns under shared system prompts, about 1,800 tokens a prompt
(``multi-turn``), and 2,000 agent sessions of 500 turns (``agent``); a million requests each.
Requests per second are over all requests, compiling not included; ratios are in ``extra_info``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benches.baseline import ordered_dict
from benches.workload import conversations

from prefixsim import _core
from prefixsim.forest import Forest, compile  # noqa: A004
from prefixsim.trace import Trace

REQUESTS = 1_000_000
TOKEN_REQUESTS = 150_000
BASELINE_REQUESTS = 20_000


def agent() -> Trace:
    return conversations(2_000 * 500, turns=500, system=640, turn=64, unit=64)


@pytest.fixture(scope="module")
def tokens() -> Trace:
    return conversations(TOKEN_REQUESTS)


@pytest.fixture(scope="module", params=["multi-turn", "agent"])
def forest(request: Any) -> Forest:
    return compile(conversations(REQUESTS, unit=16) if request.param == "multi-turn" else agent())


def block_size(forest: Forest) -> int:
    return max(16, forest.trace.id_block_size)


def beside(run: Callable[[], object], times: list[float]) -> None:
    """Time a baseline, in seconds; the set-up of every round of what it is compared with."""
    start = time.perf_counter()
    run()
    times.append(time.perf_counter() - start)


def report(benchmark: Any, requests: int) -> float:
    rate = requests / float(benchmark.stats.stats.min)
    benchmark.extra_info["requests_per_s"] = round(rate)
    return rate


@pytest.mark.parametrize("sessions", [True, False], ids=["sessions", "no-sessions"])
def test_compile_tokens(benchmark: Any, tokens: Trace, sessions: bool) -> None:
    assert tokens.prompts is not None
    trace = tokens if sessions else tokens.replace(session=None)
    values = tokens.prompts.values
    target = np.zeros_like(values)
    copies: list[float] = []
    # Taken in turns, so that both see the same machine.
    copy = partial(beside, lambda: np.copyto(target, values), copies)
    benchmark.pedantic(lambda: compile(trace), setup=copy, rounds=7)
    report(benchmark, len(trace))
    benchmark.extra_info["bytes_per_s"] = round(values.nbytes / benchmark.stats.stats.min)
    benchmark.extra_info["times_memcpy"] = round(benchmark.stats.stats.min / min(copies), 2)


@pytest.mark.parametrize("sessions", [True, False], ids=["sessions", "no-sessions"])
@pytest.mark.parametrize("shape", ["multi-turn", "agent"])
def test_compile_hash_ids(benchmark: Any, shape: str, sessions: bool) -> None:
    trace = conversations(REQUESTS, unit=16) if shape == "multi-turn" else agent()
    trace = trace if sessions else trace.replace(session=None)
    benchmark.pedantic(lambda: compile(trace), rounds=2)
    report(benchmark, len(trace))


def test_profile(benchmark: Any, forest: Forest) -> None:
    def run() -> None:
        forest._profiles.clear()
        forest.profile(block_size(forest))

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    report(benchmark, len(forest.trace))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("policy", _core.policies())
def test_replay(benchmark: Any, forest: Forest, policy: str, share: float) -> None:
    profile = forest.profile(block_size(forest))
    capacity = int(profile.unique_blocks * share)
    benchmark.pedantic(lambda: profile.replay(policy, capacity), rounds=3, warmup_rounds=1)
    report(benchmark, len(forest.trace))


def test_lru_with_residency(benchmark: Any, forest: Forest) -> None:
    profile = forest.profile(block_size(forest))
    capacity = profile.unique_blocks // 10
    benchmark.pedantic(lambda: profile.replay("lru", capacity, residency=True), rounds=2)
    report(benchmark, len(forest.trace))


def test_curve(benchmark: Any, forest: Forest) -> None:
    profile = forest.profile(block_size(forest))
    benchmark.pedantic(profile.curve, rounds=3, warmup_rounds=1)
    report(benchmark, len(forest.trace))


def test_lru_beside_an_ordered_dict(benchmark: Any) -> None:
    """The same trace, the same hits; block ids are ready made for the baseline."""
    trace = conversations(BASELINE_REQUESTS, unit=16)
    profile = compile(trace).profile(16)
    capacity = profile.unique_blocks // 10
    assert trace.prompts is not None
    requests = [trace.prompts[i].tolist() for i in range(len(trace))]
    found: list[int] = []
    baseline: list[float] = []
    beside(lambda: found.append(ordered_dict(requests, capacity)), baseline)
    run = benchmark.pedantic(
        lambda: profile.replay("lru", capacity, last_token_rule=False), rounds=20, warmup_rounds=2
    )
    assert int(run["hit_blocks"].sum()) == found[0]
    benchmark.extra_info["baseline_requests_per_s"] = round(len(trace) / baseline[0])
    benchmark.extra_info["times_faster"] = round(baseline[0] / benchmark.stats.stats.min)
    report(benchmark, len(trace))


def test_sweep_on_all_cores(benchmark: Any, forest: Forest) -> None:
    """16 configurations at once beside one after the other."""
    profile = forest.profile(block_size(forest))
    jobs = [
        (0, policy, profile.unique_blocks * share // 100)
        for policy in ("lru", "clairvoyant")
        for share in (1, 2, 5, 10, 20, 40, 60, 80)
    ]
    lengths = forest.trace.prompt_len
    alone: list[float] = []
    one = partial(beside, lambda: [_core.sweep([profile], [job], lengths) for job in jobs], alone)
    benchmark.pedantic(lambda: _core.sweep([profile], jobs, lengths), setup=one, rounds=5)
    report(benchmark, len(forest.trace) * len(jobs))
    benchmark.extra_info["times_one_core"] = round(min(alone) / benchmark.stats.stats.min, 2)


_PEAK = """
import gc, sys
from pathlib import Path
from benches.test_forest import REQUESTS, agent
from benches.baseline import ordered_dict
from benches.workload import conversations
from prefixsim.forest import compile

def memory(name):
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if name in x)
    return int(line.split()[1]) * 1024

trace = conversations(REQUESTS, unit=16) if sys.argv[1] == "multi-turn" else agent()
compile(trace.take(range(1000)))  # what is loaded once
gc.collect()
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
forest = compile(trace)
profile = forest.profile(max(16, trace.id_block_size))
for run in (profile.lru, profile.clairvoyant):
    run(profile.unique_blocks // 10)
profile.curve()
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("shape", ["multi-turn", "agent"])
def test_peak_memory(benchmark: Any, shape: str) -> None:
    """Compile, profile, both replays and the curve, beyond the arrays of the trace."""
    peaks: list[int] = []

    def run() -> None:
        command = [sys.executable, "-c", _PEAK, shape]
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(int(made.stdout))

    benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["peak_mb"] = round(max(peaks) / 1e6)
    benchmark.extra_info["bytes_per_request"] = round(max(peaks) / REQUESTS)
    assert max(peaks) <= 200 * REQUESTS + 100_000_000
