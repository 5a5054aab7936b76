"""Lengths that are only claimed: refused in one line, before anything is made of them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from prefixsim import Trace
from prefixsim.engines.vllm.simulate import compile_workload, simulate
from prefixsim.errors import InputError

CODE = "from prefixsim.cli import run; run()"
MEMORY = 3 << 29  # bytes of address space


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    row = {"token_ids": list(range(40)), "output_len": 1_000_000_000}
    rows = [{"request_id": name, "timestamp": i, **row} for i, name in enumerate("ab")]
    path = tmp_path / "claims.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def refused(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CODE, "replay", *command],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
        timeout=60,
        env={**os.environ, "RAYON_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_vllm(claims: Path) -> None:
    small = refused(str(claims), "--engine", "vllm", "--num-blocks", "1000")
    assert "request 0: 1000000039 tokens need 62500003 blocks" in small
    unbounded = refused(str(claims), "--engine", "vllm")
    assert "request 0: 40 prompt and 1000000000 output tokens are more than 16777216" in unbounded


def test_sglang(claims: Path) -> None:
    assert "do not fit a pool of 1000 tokens" in refused(
        str(claims), "--engine", "sglang", "--num-blocks", "1000"
    )


@pytest.mark.parametrize("pool", [[], ["--num-blocks", "2200000000"]])
def test_sglang_with_room_for_everything(pool: list[str], claims: Path) -> None:
    claims.write_text(claims.read_text().replace("1000000000", "2000000000"))
    told = refused(str(claims), "--engine", "sglang", *pool)
    assert "request 0: 40 prompt and 2000000000 output tokens are more than 16777216" in told


def test_a_limit_makes_them_fit() -> None:
    trace = Trace.from_prompts([range(40), range(40)], output_len=[10**9, 10**9])
    run = simulate(trace, num_blocks=100, max_model_len=100)
    assert run.outcome().hit_tokens.tolist() == [0, 32]
    assert run.sampled.tolist() == [60, 60]
    workload = compile_workload(trace, 16, max_model_len=100)
    assert simulate(trace, workload=workload, num_blocks=9, max_model_len=64).totals["steps"]
    with pytest.raises(InputError, match="compiled for max_model_len 100, not 200"):
        simulate(trace, workload=workload, num_blocks=100, max_model_len=200)


def test_what_fits_is_what_it_was() -> None:
    rng = np.random.default_rng(3)
    prompts = [rng.integers(0, 2, 50).tolist() for _ in range(40)]
    trace = Trace.from_prompts(prompts, output_len=[30] * 40)
    limited = simulate(trace, num_blocks=30, max_model_len=80)
    plain = simulate(trace, num_blocks=30)
    assert limited.outcome().hit_tokens.tolist() == plain.outcome().hit_tokens.tolist()
