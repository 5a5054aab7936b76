"""``prefixsim replay --engine vllm``: options, records, and what caching bought."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from prefixsim import Trace
from prefixsim.cli import main


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    head = list(range(40))
    prompts = [head + [100 + i] * 9 for i in range(6)]
    path = tmp_path / "t.jsonl"
    outputs = [[7, 8, 9]] * 6
    Trace.from_prompts(prompts, timestamp=[0.1 * i for i in range(6)], outputs=outputs).write(path)
    return path


def run(capsys: pytest.CaptureFixture[str], *args: str | Path) -> Any:
    assert main(["replay", *map(str, args), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_caching_bought(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, trace, "--engine", "vllm", "--num-blocks", "20")
    assert told["config"]["engine"] == "vllm"
    assert told["config"]["cache_outputs"] is True
    assert told["summary"]["hit_tokens"] == 5 * 32
    assert told["without_caching"]["hit_tokens"] == 0
    assert told["summary"]["ttft_s"]["mean"] == pytest.approx(0.02)
    assert main(["replay", str(trace), "--engine", "vllm", "--num-blocks", "20"]) == 0
    table = capsys.readouterr().out
    for figure in ("with caching", "TTFT (s) median", "peak cache usage", "preemptions"):
        assert figure in table


def test_an_option_of_the_engine_asks_for_it(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = run(capsys, trace, "--max-num-seqs", "1", "--latency", "50ms")
    assert told["config"]["engine"] == "vllm"
    assert told["config"]["max_num_seqs"] == 1
    assert told["summary"]["tpot_s"]["mean"] == pytest.approx(0.05)
    closed = run(capsys, trace, "--arrivals", "closed:2", "--no-chunked-prefill")
    assert closed["summary"]["steps"] < told["summary"]["steps"]


def test_records_are_written(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events, steps = tmp_path / "events.jsonl", tmp_path / "steps.parquet"
    told = run(capsys, trace, "--num-blocks", "20", "--kv-events", events, "--steps-out", steps)
    assert pq.read_table(steps).num_rows == told["summary"]["steps"]
    kinds = {
        e["type"] for line in events.read_text().splitlines() for e in json.loads(line)["events"]
    }
    assert "BlockStored" in kinds


def test_the_cache_is_sized_in_bytes(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    model = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    model |= {"num_hidden_layers": 2, "vocab_size": 99, "intermediate_size": 128}
    config.write_text(json.dumps(model | {"torch_dtype": "bfloat16"}))
    per_block = 16 * 2 * 2 * 2 * 16 * 2  # tokens, K and V, layers, KV heads, head size, bytes
    told = run(capsys, trace, "--kv-memory", f"{10 * per_block}", "--model-config", config)
    assert told["config"]["num_blocks"] == 10


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ("--engine", "lru", "--max-num-seqs", "3"),
            "'ideal' has no --max-num-seqs=3, 'vllm' has",
        ),
        (
            ("--engine", "lru", "--kv-events", "e.jsonl"),
            "e.jsonl: engine 'ideal' keeps no such record",
        ),
        (("--arrivals", "closed:0"), "--arrivals closed:0: give the requests in flight"),
        (("--latency", "soon"), "latency 'soon': give a time per step"),
        (("--latency", "nan"), "latency 'nan': give a time per step"),
        (("--kv-memory", "4GB"), "4GB: bytes need --bytes-per-token, or --model-config"),
        (("--max-num-batched-tokens", "0"), "--max-num-batched-tokens 0: must be at least 1"),
        (("--num-blocks", "3"), "request"),
        (("--vllm-version", "9"), "--vllm-version 9: not a simulated version of vLLM"),
    ],
)
def test_what_cannot_be_is_one_line(
    args: tuple[str, ...], line: str, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = args if args[0] != "--num-blocks" else ("--engine", "vllm", *args)
    assert main(["replay", str(trace), *given]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert line in told.err
    assert told.err.count("\n") == 1
