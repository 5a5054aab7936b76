"""The SGLang engine beside the vLLM engine: requests per second of one run, and peak memory.

The workload of both is multi-turn: conversations of eight turns under shared system prompts,
about 1,800 tokens a prompt, answers of 200 tokens that nobody else repeats. SGLang's own code was
measured at 130 to 2,640 requests per second on the recorded runs, which are smaller.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benches.workload import conversations

from prefixsim._core import SglangWorkload
from prefixsim.engines.sglang import simulate as sglang
from prefixsim.engines.sglang.settings import SglangSettings
from prefixsim.engines.vllm import simulate as vllm
from prefixsim.engines.vllm.settings import VllmSettings
from prefixsim.trace import Trace

REQUESTS = 100_000
MILLION = 1_000_000
OUTPUT = 200
TOKENS = 1_600_000


@pytest.fixture(scope="module")
def trace() -> Trace:
    trace = conversations(REQUESTS)
    return trace.replace(output_len=np.full(len(trace), OUTPUT, dtype=np.uint32))


@pytest.fixture(scope="module")
def workload(trace: Trace) -> SglangWorkload:
    return sglang.compile_workload(trace)


def report(benchmark: Any, trace: Trace) -> None:
    seconds = float(benchmark.stats.stats.min)
    benchmark.extra_info["requests_per_s"] = round(len(trace) / seconds)
    benchmark.extra_info["decode_tokens_per_s"] = round(len(trace) * OUTPUT / seconds)


def test_compile(benchmark: Any, trace: Trace) -> None:
    benchmark.pedantic(sglang.compile_workload, (trace,), rounds=3)
    benchmark.extra_info["requests_per_s"] = round(len(trace) / benchmark.stats.stats.min)


@pytest.mark.parametrize("page", [1, 16])
@pytest.mark.parametrize("arrivals", ["sequential", "closed:64", "closed:256", "trace"])
def test_sglang(
    benchmark: Any, trace: Trace, workload: SglangWorkload, arrivals: str, page: int
) -> None:
    settings = SglangSettings(num_blocks=TOKENS // page, block_size=page, arrivals=arrivals)
    run = benchmark.pedantic(
        sglang.simulate, (trace, settings), {"workload": workload}, rounds=3, warmup_rounds=1
    )
    report(benchmark, trace)
    computed = int(run.raw["requests"]["computed_tokens"].sum())
    hit = int(run.raw["requests"]["hit_tokens"].sum())
    assert computed + hit >= trace.prompt_tokens


@pytest.mark.parametrize("arrivals", ["sequential", "closed:64", "closed:256", "trace"])
def test_vllm(benchmark: Any, trace: Trace, arrivals: str) -> None:
    settings = VllmSettings(num_blocks=TOKENS // 16 + 1, arrivals=arrivals)
    compiled = vllm.compile_workload(trace, 16)
    benchmark.pedantic(
        vllm.simulate, (trace, settings), {"workload": compiled}, rounds=3, warmup_rounds=1
    )
    report(benchmark, trace)


_MEMORY = """
import numpy as np
from benches.workload import conversations
from prefixsim.engines.sglang.settings import SglangSettings
from prefixsim.engines.sglang.simulate import compile_workload, simulate

def memory(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) // 1024

trace = conversations({requests}, unit=16)
trace = trace.replace(output_len=np.full(len(trace), {output}, dtype=np.uint32))
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmRSS")
settings = SglangSettings(num_blocks={tokens} // 16, block_size=16, arrivals="closed:64")
simulate(trace, settings, workload=compile_workload(trace))
print(memory("VmHWM") - before)
"""


def test_a_million_requests_in_little_memory(benchmark: Any) -> None:
    """Peak memory beyond the trace, in MB: compiling and one run of a million requests."""
    script = _MEMORY.format(requests=MILLION, output=OUTPUT, tokens=TOKENS)
    folder = Path(__file__).parents[1]

    def run() -> int:
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    peak = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["peak_mb_beyond_the_trace"] = peak
    assert peak < 1000
