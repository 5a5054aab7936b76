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

import pyarrow.parquet as pq
import pytest

from prefixsim import Trace
from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.formats import read_trace
from tests.trust.test_atomic import largest_file

# Libraries turn an interrupt of their import into errors of their own: they are there before.
CODE = """
import numpy, pyarrow.parquet, zstandard
from prefixsim.cli import run
print("started", flush=True)
run()
"""
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
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(random.Random(seed).uniform(0, 1))
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    if how == signal.SIGINT and process.returncode not in (0, -2):
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


# Commands and the files they write below a folder; SOURCE and OUT stand for paths.
WRITERS = {
    "trace": "trace --model demo --max-conversations 9 --skip-visualization --output-dir OUT/t",
    "generate": "generate chat --requests 3000 -o OUT/g.jsonl.gz",
    "compile": "compile SOURCE --cache-dir OUT/cache",
    "curve": "curve SOURCE -o OUT/c.json",
    "sweep": "sweep SOURCE --capacity 100,1000,10k -o OUT/s.parquet",
    "report": "report SOURCE -o OUT/r.html",
}


def command_of(name: str, source: Path, out: Path) -> list[str]:
    words = WRITERS[name].replace("SOURCE", str(source)).replace("OUT", str(out))
    return words.split(" ")


def assert_whole(name: str, out: Path) -> None:
    """Check that what can be seen below ``out`` is all there."""
    for path in out.rglob("*"):
        if path.is_dir() or any(part.startswith(".") for part in path.relative_to(out).parts):
            continue
        if path.name.endswith((".jsonl", ".jsonl.gz", ".parquet")):
            assert len(pq.read_table(path) if name == "sweep" else read_trace(path)) > 0
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")
    if name == "trace" and (out / "t").exists():
        assert len(visible(out / "t")) in (0, 3)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("name", WRITERS)
def test_what_other_commands_write(
    name: str, how: signal.Signals, source: Path, tmp_path: Path
) -> None:
    for seed in range(max(1, ROUNDS // 2)):
        stop_at_random(command_of(name, source, tmp_path), how, seed)
        assert_whole(name, tmp_path)
    # Whatever is left of that is in nobody's way.
    assert main(command_of(name, source, tmp_path)) == 0
    assert_whole(name, tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_other_commands_on_a_full_disk(
    name: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with largest_file(10):
        code = main(command_of(name, source, tmp_path))
    errors = capsys.readouterr().err
    if name == "compile":  # a cache that cannot be kept is not needed
        assert code in (0, 2)
    else:
        assert code == 2
        assert str(tmp_path) in errors
    assert "Traceback" not in errors
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_cut_file_is_refused(source: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(InputError, match="400: token_ids: not valid JSON"):
        read_trace(cut)
