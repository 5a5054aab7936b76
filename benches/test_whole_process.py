"""Whole commands: start-up, reading and the work, beside a plain Python script in the same run.

CPU seconds of all threads and peak memory are in ``extra_info``. The traces of 200,000 and a
million requests (31 and 158 million hash ids of 16 tokens) are made once, in a temporary folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from benches.workload import conversations

MOONCAKE = Path(__file__).parents[2] / "shared/data/mooncake/conversation_trace.jsonl.gz"
TRACES = ["mooncake", "200k.jsonl", "1m.jsonl", "1m.parquet"]
CALL = "import sys; from prefixsim.cli import main; sys.exit(main(sys.argv[1:]))"

# What one would write: an LRU cache of block ids, one size, hash ids as they are.
SCRIPT = """
import gzip, json, sys
from collections import OrderedDict
cache, hits, total = OrderedDict(), 0, 0
opened = gzip.open if sys.argv[1].endswith(".gz") else open
for line in opened(sys.argv[1], "rt"):
    row = json.loads(line)
    ids = row["hash_ids"]
    total += row["input_length"] if "input_length" in row else row["prompt_len"]
    hit = True
    for block in ids:
        hit = hit and block in cache
        hits += hit
        cache[block] = None
        cache.move_to_end(block)
        if len(cache) > 10_000_000:
            cache.popitem(last=False)
print(hits, total)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


def trace(folder: Path, name: str) -> Path:
    if name == "mooncake":
        if not MOONCAKE.exists():
            pytest.skip("no Mooncake trace beside the checkout")
        return MOONCAKE
    path = folder / name
    if not path.exists():
        requests = 200_000 if name.startswith("200k") else 1_000_000
        conversations(requests, unit=16).write(path)
    return path


def run(benchmark: Any, arguments: list[str]) -> None:
    """Time a process, and note its CPU seconds and peak memory."""
    spent: list[float] = []
    peak: list[int] = []

    def once() -> None:
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, *arguments],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
        )
        _, status, usage = os.wait4(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        spent.append(usage.ru_utime + usage.ru_stime)
        peak.append(usage.ru_maxrss)

    benchmark.pedantic(once, rounds=3)
    benchmark.extra_info["cpu_s"] = sorted(spent)[len(spent) // 2]
    benchmark.extra_info["peak_mb"] = max(peak) / 1000


@pytest.mark.parametrize("command", ["replay", "curve", "info"])
@pytest.mark.parametrize("name", TRACES)
def test_command(benchmark: Any, folder: Path, name: str, command: str) -> None:
    run(benchmark, ["-c", CALL, command, str(trace(folder, name)), "--json"])


@pytest.mark.parametrize("name", ["mooncake", "200k.jsonl"])
def test_plain_script(benchmark: Any, folder: Path, name: str) -> None:
    run(benchmark, ["-c", SCRIPT, str(trace(folder, name))])
