"""Reading traces, beside pyarrow alone and ``json.loads`` per line on the same files.

Every figure is throughput: ``extra_info`` holds MB/s and requests/s. Ratios are worth comparing,
seconds are not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.json as pajson
import pyarrow.parquet as pq
import pytest

from prefixsim.formats import read_trace
from prefixsim.trace import Ragged, Trace

REQUESTS = 40_000
TURNS = 8
GROWTH = 35


@pytest.fixture(scope="module")
def trace() -> Trace:
    """Sessions of 8 turns that grow by 35 hash ids a turn, interleaved."""
    sessions = REQUESTS // TURNS
    turn, session = np.divmod(np.arange(REQUESTS), sessions)
    lengths = ((turn + 1) * GROWTH).astype(np.int64)
    offsets = np.zeros(REQUESTS + 1, dtype=np.uint64)
    np.cumsum(lengths, out=offsets[1:])
    first = np.repeat(session * TURNS * GROWTH, lengths)
    position = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1].astype(np.int64), lengths)
    return Trace(
        timestamp=np.arange(REQUESTS) / 100,
        prompt_len=(lengths * 512).astype(np.uint32),
        output_len=np.full(REQUESTS, 200, dtype=np.uint32),
        prompts=Ragged(offsets, (first + position).astype(np.uint64)),
        id_block_size=512,
    )


@pytest.fixture(scope="module")
def jsonl(trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("read") / "trace.jsonl"
    trace.write(path, format="mooncake")
    return path


@pytest.fixture(scope="module")
def parquet(trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("read") / "trace.parquet"
    trace.write(path)
    return path


def json_loads(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [json.loads(line) for line in file]


READERS: dict[str, Callable[[Path], Any]] = {
    "prefixsim": read_trace,
    "pyarrow": pajson.read_json,
    "json.loads": json_loads,
}


@pytest.mark.benchmark(group="read Mooncake JSONL")
@pytest.mark.parametrize("reader", READERS)
def test_jsonl(benchmark: Any, jsonl: Path, reader: str) -> None:
    benchmark.pedantic(READERS[reader], (jsonl,), rounds=5, warmup_rounds=1)
    megabytes = jsonl.stat().st_size / 1e6
    benchmark.extra_info["MB/s"] = round(megabytes / benchmark.stats["median"])
    benchmark.extra_info["requests/s"] = round(REQUESTS / benchmark.stats["median"])


@pytest.mark.benchmark(group="read Parquet")
@pytest.mark.parametrize("reader", ["prefixsim", "pyarrow"])
def test_parquet(benchmark: Any, parquet: Path, reader: str) -> None:
    call = read_trace if reader == "prefixsim" else pq.read_table
    benchmark.pedantic(call, (parquet,), rounds=5, warmup_rounds=1)
    benchmark.extra_info["requests/s"] = round(REQUESTS / benchmark.stats["median"])


# The kernel's high-water mark of this process; getrusage would report the parent's.
PEAK = """
import re, sys
from pathlib import Path
from prefixsim.formats import read_trace

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

before = peak()
trace = read_trace(sys.argv[1])
print(trace.prompts.values.nbytes, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_peak_memory(kind: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(kind)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
    )
    ids, peak = map(int, done.stdout.split())
    print(f"\n{kind}: ids {ids / 1e6:.0f} MB, peak above start {peak / 1e6:.0f} MB")
    assert peak < 1.5 * ids + 200e6
