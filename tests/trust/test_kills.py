"""Commands killed and interrupted at random points leave whole files, or none."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefixsim import Trace
from prefixsim.errors import InputError
from prefixsim.formats import read_trace

CODE = "from prefixsim.cli import run; run()"
ROUNDS = int(os.environ.get("PREFIXSIM_KILLS", "2"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kills") / "in.jsonl"
    Trace.from_prompts([[i * j % 997 for j in range(4000)] for i in range(400)]).write(path)
    return path


def visible(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.startswith(".")}


def stop_at_random(command: list[str], how: signal.Signals, seed: int) -> int:
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(random.Random(seed).uniform(0.1, 1.5))
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    started = "KeyboardInterrupt" not in errors  # before our code ran, Python itself tells
    if how == signal.SIGINT and started and process.returncode not in (0, -2):
        assert process.returncode == 130, errors
        assert errors == "prefixsim: interrupted\n"
    return process.returncode


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("ending", ["jsonl.gz", "parquet"])
def test_converted_files(how: signal.Signals, ending: str, source: Path, tmp_path: Path) -> None:
    for seed in range(ROUNDS):
        out = tmp_path / f"{seed}.{ending}"
        stop_at_random(["convert", str(source), str(out)], how, seed)
        if out.exists():
            assert len(read_trace(out)) == 400
        if how == signal.SIGINT:
            assert visible(tmp_path) == {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_folders_are_of_one_run(how: signal.Signals, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed in range(ROUNDS):
        size = 16 << seed % 3
        command = ["replay", str(source), "--block-size", str(size), "--output-dir", str(out)]
        stop_at_random([*command, "--skip-visualization"], how, seed)
        if (out / "summary.json").exists():
            summary = json.loads((out / "summary.json").read_text())
            assert summary["config"]["block_size"] in (16, 32, 64)
            assert visible(out) == {"summary.json", "requests.parquet"}


def test_a_cut_file_is_refused(source: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(InputError, match="400: token_ids: not valid JSON"):
        read_trace(cut)
