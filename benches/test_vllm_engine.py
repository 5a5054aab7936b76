"""The vLLM engine: requests, prompt blocks and decode tokens per second of one run.

The workload is multi-turn: sessions of eight turns, each prompt repeats the one before and adds 225
tokens, each answer has 200 tokens. vLLM's own scheduler and cache manager, in Python, were measured
at 85,000 to 138,000 prompt blocks/s without hashing and 82,000 decode tokens/s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prefixsim._core import VllmWorkload
from prefixsim.engines.vllm import VllmSettings
from prefixsim.engines.vllm.simulate import compile_workload, simulate
from prefixsim.trace import Ragged, Trace

SESSIONS = 12_500
TURNS = 8
NEW_TOKENS = 225
OUTPUT = 200


@pytest.fixture(scope="module")
def trace() -> Trace:
    rng = np.random.default_rng(0)
    lengths = np.tile((np.arange(TURNS) + 1) * NEW_TOKENS, SESSIONS)
    chats = rng.integers(0, 50_000, (SESSIONS, TURNS * NEW_TOKENS), dtype=np.uint32)
    start = rng.uniform(0, SESSIONS / 5, (SESSIONS, 1))
    times = (start + np.cumsum(rng.exponential(30, (SESSIONS, TURNS)), axis=1)).ravel()
    order = np.argsort(times, kind="stable")
    offsets = np.zeros(len(order) + 1, dtype=np.uint64)
    np.cumsum(lengths[order], out=offsets[1:])
    values = np.concatenate([chats[i // TURNS, : lengths[i]] for i in order])
    return Trace(
        timestamp=times[order],
        prompt_len=lengths[order].astype(np.uint32),
        output_len=np.full(len(order), OUTPUT, dtype=np.uint32),
        prompts=Ragged(offsets, values),
    )


@pytest.fixture(scope="module")
def workload(trace: Trace) -> VllmWorkload:
    return compile_workload(trace, 16)


def test_compile(benchmark: Any, trace: Trace) -> None:
    benchmark.pedantic(compile_workload, (trace, 16), rounds=3)
    seconds = benchmark.stats.stats.min
    benchmark.extra_info["bytes_per_s"] = round(4 * trace.prompt_tokens / seconds)


@pytest.mark.parametrize("arrivals", ["trace", "closed:64", "closed:256"])
def test_run(benchmark: Any, trace: Trace, workload: VllmWorkload, arrivals: str) -> None:
    config = VllmSettings(num_blocks=100_000, arrivals=arrivals)
    run = benchmark.pedantic(
        simulate, (trace, config), {"workload": workload}, rounds=3, warmup_rounds=1
    )
    seconds = benchmark.stats.stats.min
    blocks = int((trace.prompt_len // 16).sum())
    benchmark.extra_info["requests_per_s"] = round(len(trace) / seconds)
    benchmark.extra_info["prompt_blocks_per_s"] = round(blocks / seconds)
    benchmark.extra_info["decode_tokens_per_s"] = round(len(trace) * OUTPUT / seconds)
    benchmark.extra_info["steps"] = run.totals["steps"]
    decoded = len(trace) * (OUTPUT - 1)
    computed = int(run.raw["requests"]["computed_tokens"].sum())
    assert run.totals["scheduled_tokens"] == computed + decoded
