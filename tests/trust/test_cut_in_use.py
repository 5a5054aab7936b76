"""Traces that somebody cuts while they are in use: what was read stays, and nothing ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from prefixsim import Trace

CODE = """
import os, sys
from prefixsim import Trace, replay
trace = Trace.read(sys.argv[1])
os.truncate(sys.argv[1], int(sys.argv[2]))
print(int(trace.prompts.values.sum()), int(replay(trace).outcome.hit_tokens.sum()))
"""


@pytest.mark.parametrize("ending", ["arrow", "parquet", "jsonl"])
@pytest.mark.parametrize("left", [0, 5000])
def test_cut_after_reading(ending: str, left: int, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    Trace.from_prompts([range(i, i + 2000) for i in range(200)] * 2).write(path)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path), str(left)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    total = 2 * sum(sum(range(i, i + 2000)) for i in range(200))
    assert done.stdout.split() == [str(total), str(200 * 1984)]
    assert path.stat().st_size == left
