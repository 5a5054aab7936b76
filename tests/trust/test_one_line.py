"""Whatever is asked for and whatever is in a file: an answer or one line, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from prefixsim import Trace
from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.formats import read_trace
from prefixsim.trace.arrow import to_arrow
from prefixsim.traffic.synthetic import generate

HUGE = str(2**63)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must refuse; return its one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("prefixsim: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.jsonl"
    Trace.from_prompts([[i] * 3000 for i in range(40)]).write(path)
    return str(path)


@pytest.mark.parametrize(
    "row",
    [
        {"type": []},
        {"type": {}},
        {"events": {}},
        {"timestamp": 0, "token_ids": {}},
        {"messages": [], "ts": []},
        {"hash_ids": [], "input_length": [], "timestamp": 0},
    ],
)
@pytest.mark.parametrize("command", ["info", "replay", "report"])
def test_fields_of_the_wrong_type(
    row: Any, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(row) + "\n")
    refused([command, str(path)], capsys)


@pytest.mark.parametrize("times", [(-1e308, 1.7e308), (0.0, 1e308), (-2e19, 0.0)])
@pytest.mark.parametrize("ending", ["jsonl", "parquet", "arrow"])
def test_times_that_cannot_be_subtracted(
    times: tuple[float, float], ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"t.{ending}"
    trace = Trace.from_prompts([[1] * 17, [1] * 17])
    trace.replace(timestamp=np.array(times)).write(path)
    for command in ("info", "report"):
        assert "is no time" in refused([command, str(path)], capsys)
    with pytest.raises(InputError, match="is no time"):
        Trace.from_prompts([[1], [2]], timestamp=times)


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "--capacity", HUGE],
        ["sweep", "--capacity", str(2**32 - 1)],
        ["sweep", "--capacity", "10", "--block-size", HUGE],
        ["sweep", "--engine", "block-manager", "--capacity", "100"],
        ["sweep", "--engine", "vllm", "--capacity", "100"],
        ["replay", "--num-blocks", HUGE],
        ["replay", "--block-size", HUGE],
        ["replay", "--engine", "block-manager", "--num-blocks", "100"],
        ["replay", "--engine", "vllm", "--max-model-len", str(2**64)],
        ["replay", "--engine", "sglang", "--next-prompt-estimate", str(-(2**64))],
        ["replay", "--engine", "vllm", "--watermark", "1" + "0" * 400],
        ["replay", "--latency", "DEEP"],
        ["replay", "--latency", "ENDLESS"],
        ["replay", "--num-blocks", "40GB", "--model-config", "DEEP"],
        ["replay", "--num-blocks", "40GB", "--model-config", "\udcff\0\ud800"],
        ["curve", "--tiers", "--dram", "1" + "0" * 40],
        ["curve", "--capacity", str(2**64), "--output", "OUT.csv"],
        ["curve", "--block-size", HUGE],
        ["explain", "--block-size", HUGE],
        ["convert", "--anonymize", "--block-size", "1" + "0" * 23, "OUT"],
        ["convert", "--rate-scale", "1e-300", "OUT"],
    ],
)
def test_numbers_that_fit_nothing(
    arguments: list[str], small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "endless.json").write_text('{"base": Infinity}')
    names = {"OUT": "out.jsonl", "DEEP": "deep.json", "ENDLESS": "endless.json"}
    for word, name in names.items():
        arguments = [a.replace(word, str(tmp_path / name)) for a in arguments]
    command, *options = arguments
    outputs = [options.pop()] if command == "convert" else []
    refused([command, *options, small, *outputs], capsys)


@pytest.mark.parametrize("capacity", [HUGE, str(2**64), "1" + "0" * 30])
def test_curves_end_at_no_capacity(
    capacity: str, small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["curve", small, "--capacity", capacity, "--policy", "lru,clairvoyant"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--prompt-tokens", "4294967296"),
        ("--prompt-tokens", "1e300"),
        ("--prompt-tokens", "nan"),
        ("--output-tokens", "1e300"),
        ("--arrival-rate", "1e-300"),
        ("--arrival-rate", "1e300"),
        ("--arrival-rate", "nan"),
        ("--think-time", "1e300"),
        ("--time-per-token", "1e300"),
        ("--turns", "1e300"),
        ("--requests", "-1"),
    ],
)
def test_figures_of_generated_traffic(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "g.jsonl"
    refused(["generate", "chat", "--output", str(out), option, value], capsys)
    assert not out.exists()


def test_largest_figures_of_generated_traffic() -> None:
    workload = generate("parallel", 2, prompt_tokens=1 << 24, arrival_rate=1e-9, form="hashes")
    assert sum(map(len, workload)) == 2


@pytest.mark.parametrize("rate", ["1e-300", "inf", "0"])
def test_arrival_rates_of_conversations(
    rate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(["trace", "--arrival-rate", rate, "--output-dir", str(tmp_path / "o")], capsys)


@pytest.mark.parametrize(
    "facts",
    ["[]", "{}", '{"version": "1"}', '{"version": 1, "id_block_size": 0, "meta": {}}', "1", "}"],
)
def test_damaged_facts_of_a_schema(facts: str, tmp_path: Path) -> None:
    table = to_arrow(Trace.from_prompts([[1] * 20])).replace_schema_metadata({"prefixsim": facts})
    path = tmp_path / "t.arrow"
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError) as caught:
        read_trace(path)
    assert "\n" not in str(caught.value)


def run_closed(arguments: list[str], closing: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command line with a standard stream closed by the shell."""
    code = "from prefixsim.cli import run; run()"
    words = " ".join(f"'{word}'" for word in (sys.executable, "-c", code, *arguments))
    return subprocess.run(["/bin/sh", "-c", f"{words} {closing}"], capture_output=True, check=False)


def test_closed_output_is_one_line(small: str) -> None:
    done = run_closed(["info", small], ">&-")
    assert done.returncode == 2
    assert done.stderr == b"prefixsim: standard output is closed, redirect it to a file\n"


def test_closed_input_is_one_line() -> None:
    done = run_closed(["info", "-"], "<&-")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"is empty" in done.stderr


def test_closed_errors_do_not_reach_files(small: str, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    done = run_closed(["curve", small, "--output", str(out), "--json"], "2>&-")
    assert done.returncode == 0
    assert json.loads(done.stdout)
