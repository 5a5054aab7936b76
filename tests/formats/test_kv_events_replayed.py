"""KV events of the vLLM engine, read back and replayed from."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefixsim import BlockManager, InputError, Trace, published_hash, replay
from prefixsim.cli import main
from prefixsim.engines.vllm import VllmSettings
from prefixsim.engines.vllm.simulate import simulate
from prefixsim.formats import read_trace
from prefixsim.formats.kv_events import read_recording
from prefixsim.study.warm_start import warm_start
from prefixsim.trace import Codes
from tests.formats.test_kv_events import SHAPES, UNKNOWN, write_jsonl, write_msgpack


def traffic(size: int) -> Trace:
    """Conversations with outputs, block by block."""
    dice = np.random.default_rng(3)
    prompts: list[list[int]] = []
    outputs: list[list[int]] = []
    for chat in range(12):
        text = [1] * size + [chat] * 3
        for _ in range(4):
            prompts.append(list(text))
            outputs.append(dice.integers(0, 50, 3 * size).tolist())
            text += outputs[-1] + dice.integers(0, 50, size + 1).tolist()
    times = [float(5 * k) for k in range(len(prompts))]
    return Trace.from_prompts(prompts, outputs=outputs, timestamp=times)


def test_events_of_the_vllm_engine(tmp_path: Path) -> None:
    """Written by the engine, read here: chains, and the cache at the end."""
    size, trace = 4, traffic(4)
    config = VllmSettings(block_size=size, num_blocks=60)
    run = simulate(trace, config, record_events=True, record_steps=True)
    path = tmp_path / "events.jsonl"
    count = run.write_kv_events(path)
    recording = read_recording(path)
    assert recording.counts["events"] == count > 100
    assert recording.counts["blocks_removed"] > 0
    assert not recording.left_out
    assert trace.prompts is not None and trace.outputs is not None
    known = set()
    for i in range(len(trace)):
        tokens = [*trace.prompts[i].tolist(), *trace.outputs[i].tolist()]
        known |= {tuple(tokens[:k]) for k in range(len(tokens) + 1)}
    rebuilt = recording.trace()
    assert rebuilt.prompts is not None and rebuilt.outputs is not None
    for i in range(len(rebuilt)):
        assert (*rebuilt.prompts[i].tolist(), *rebuilt.outputs[i].tolist()) in known
    copies: Counter[int] = Counter()
    for line in path.read_text().splitlines():
        for event in json.loads(line)["events"]:
            for name in event["block_hashes"]:
                copies[name] += 1 if event["type"] == "BlockStored" else -1
    alive = {name for name, count in copies.items() if count}
    manager = BlockManager(60, block_size=size, hash_algorithm="sha256_cbor")
    report = warm_start(manager, recording)
    cached = {published_hash(name) for name in manager.cached()}
    assert cached <= alive
    assert len(alive) - len(cached) == report.unreachable


def test_replay_from_a_recorded_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = write_msgpack(tmp_path / "r.msgpack", SHAPES["arrays"])
    trace = Trace.from_prompts([[*range(9)], [*range(12), 5]], session=["a", "a"])
    cold = replay(trace, block_size=4, num_blocks=20)
    warm = replay(trace, block_size=4, num_blocks=20, warm_start=recording)
    assert cold.summary["hit_tokens"] == 8
    assert warm.summary["hit_tokens"] == 8 + 12
    assert warm.summary["requests"] == 2
    ideal = replay(trace, block_size=4, engine="lru", warm_start=recording)
    assert ideal.summary["hit_tokens"] == 20
    half = replay(trace, block_size=4, num_blocks=20, warm_start=recording, warmup=0.5)
    assert half.summary["hit_tokens"] == 12
    trace.write(tmp_path / "t.jsonl")
    options = ["--block-size", "4", "--num-blocks", "20", "--json"]
    assert (
        main(["replay", str(tmp_path / "t.jsonl"), *options, "--warm-start", str(recording)]) == 0
    )
    assert json.loads(capsys.readouterr().out)["summary"]["hit_tokens"] == 20
    salted = trace.replace(salt=Codes.from_strings(["tenant", "tenant"]))
    apart = replay(salted, block_size=4, num_blocks=20, warm_start=recording)
    assert apart.summary["hit_tokens"] == 8
    with pytest.raises(InputError, match="an engine without time"):
        replay(trace, block_size=4, num_blocks=20, engine="vllm", warm_start=recording)
    with pytest.raises(InputError, match="warms up token ids only"):
        hashed = trace.replace(prompts=trace.prompts and _as_hashes(trace))
        replay(hashed, num_blocks=20, warm_start=recording)


def _as_hashes(trace: Trace) -> Any:
    assert trace.prompts is not None
    return type(trace.prompts)(trace.prompts.offsets, trace.prompts.values.astype(np.uint64))


def test_info_says_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_jsonl(tmp_path / "r.jsonl", SHAPES["maps"])
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows_skipped"] == {UNKNOWN: 1}
    assert main(["convert", str(path), str(tmp_path / "t.parquet")]) == 0
    assert f"1 rows left out ({UNKNOWN}: 1)" in capsys.readouterr().err


def test_slow_decoding_makes_no_requests(tmp_path: Path) -> None:
    """A step may take seconds: what is decoded meanwhile is no request."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 1000, size=rng.integers(40, 200)) for _ in range(60)]
    outputs = [rng.integers(0, 1000, size=rng.integers(30, 120)) for _ in range(60)]
    trace = Trace.from_prompts(prompts, outputs=outputs)
    config = VllmSettings(num_blocks=4000, latency="2s", arrivals="closed:8")
    run = simulate(trace, config, record_events=True, record_steps=True)
    run.write_kv_events(tmp_path / "r")
    back = read_trace(tmp_path / "r")
    assert back.prompts is not None
    whole = {tuple(p[: len(p) // 16 * 16].tolist()) for p in prompts}
    assert [tuple(back.prompts[i].tolist()) in whole for i in range(len(back))] == [True] * 60
