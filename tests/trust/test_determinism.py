"""The same input gives the same bytes: whatever the threads, hash seeds, time zones and locales."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefixsim import Trace

RUN = """
import sys
from prefixsim.cli import main
source, out = sys.argv[1:]
for command in (
    ["convert", source, out + "/t.jsonl.gz"],
    ["convert", source, out + "/t.parquet"],
    ["convert", source, out + "/sampled.jsonl", "--sample", "0.5"],
    ["curve", source, "--output", out + "/c.csv", "--output", out + "/c.json"],
    ["sweep", source, "--capacity", "10,100", "--output", out + "/s.parquet"],
    ["replay", source, "--engine", "vllm", "--num-blocks", "500", "--output-dir", out + "/r",
     "--skip-visualization"],
    ["replay", source, "--engine", "sglang", "--num-blocks", "4000", "--output-dir", out + "/s",
     "--skip-visualization"],
    ["curve", source, "--cache-dir", out + "/forests"],
    ["report", source, "-o", out + "/p.html"],
    ["generate", "chat", "--requests", "200", "--output", out + "/g.jsonl.gz"],
):
    assert main(command) == 0, command
"""

SETTINGS = [
    {"RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C"},
    {
        "RAYON_NUM_THREADS": "7",
        "PYTHONHASHSEED": "12345",
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "de_DE.UTF-8",
    },
]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    base = tmp_path_factory.mktemp("same")
    prompts = [[(i % 7) * j % 1000 for j in range(50 + i)] for i in range(120)]
    sessions = [f"s{i % 9}" for i in range(120)]
    source = base / "in.jsonl"
    Trace.from_prompts(prompts, session=sessions, output_len=[9] * 120).write(source)
    found = []
    for i, settings in enumerate(SETTINGS):
        out = base / str(i)
        out.mkdir()
        command = [sys.executable, "-c", RUN, str(source), str(out)]
        subprocess.run(command, env={**os.environ, **settings}, check=True, capture_output=True)
        found.append(digests(out))
    return found


def test_every_file_is_the_same(runs: list[dict[str, str]]) -> None:
    one, two = runs
    assert len(one) >= 10
    assert {name for name in one if one[name] != two.get(name)} == set()
    assert set(one) == set(two)
