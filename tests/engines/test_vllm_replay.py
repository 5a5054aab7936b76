"""The vLLM engine behind `prefixsim.replay`, `prefixsim replay` and `prefixsim compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prefixsim
from prefixsim.cli import main
from prefixsim.engines.vllm import VllmSettings
from prefixsim.engines.vllm.simulate import simulate
from prefixsim.trace import Trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    """Conversations whose turns repeat prompts and answers."""
    rng = np.random.default_rng(5)
    rows: list[tuple[float, list[int], list[int]]] = []
    for _ in range(30):
        history = [*range(64), *rng.integers(0, 99, 50).tolist()]
        time = float(rng.uniform(0, 60))
        for _ in range(4):
            answer = rng.integers(0, 99, int(rng.integers(1, 60))).tolist()
            rows.append((time, list(history), answer))
            time += float(rng.exponential(8)) + 2
            history += answer + rng.integers(0, 99, 30).tolist()
    rows.sort(key=lambda row: row[0])
    times, prompts, outputs = (list(column) for column in zip(*rows, strict=True))
    return Trace.from_prompts(prompts, outputs=outputs, timestamp=times, name="chats")


@pytest.fixture
def file(trace: Trace, tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    trace.write(path)
    return path


def test_replay_reports_times_and_counters(trace: Trace) -> None:
    result = prefixsim.replay(trace, engine="vllm", num_blocks=300, latency="20ms")
    table = result.requests
    for name in (
        "admit_step",
        "finish_step",
        "preemptions",
        "queue_s",
        "ttft_s",
        "tpot_s",
        "e2e_s",
    ):
        assert len(table[name]) == len(trace)
    assert result.config["latency"] == {"model": "fixed", "seconds": 0.02}
    summary = result.summary
    assert summary["prefix_cache_stats"]["hits"] == summary["hit_tokens"]
    assert summary["prefix_cache_stats"]["queries"] == summary["prompt_tokens"]
    assert 0 < summary["mean_cache_usage"] <= summary["peak_cache_usage"] <= 1
    assert summary["ttft_s"]["min"] >= 0.02 - 1e-12


def test_answers_are_reused_by_the_next_turn(trace: Trace) -> None:
    options: dict[str, Any] = {"engine": "vllm", "num_blocks": 5000}
    with_answers = prefixsim.replay(trace, **options).summary["hit_tokens"]
    without = prefixsim.replay(trace, cache_outputs=False, **options).summary["hit_tokens"]
    assert with_answers > without


def test_one_at_a_time_without_outputs_all_engines_agree() -> None:
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, 2, rng.integers(1, 9)).repeat(3) for _ in range(300)]
    trace = Trace.from_prompts(prompts)
    ideal: tuple[str, dict[str, Any]] = ("lru", {})
    online: list[tuple[str, dict[str, Any]]] = [
        ("block-manager", {}),
        ("vllm", {"arrivals": "sequential"}),
        ("vllm", {"arrivals": "closed:1"}),
    ]
    unbounded = [
        prefixsim.replay(trace, block_size=2, engine=engine, **options).outcome.hit_tokens
        for engine, options in (ideal, *online)
    ]
    for hits in unbounded[1:]:
        assert hits.tolist() == unbounded[0].tolist()
    bounded = [
        prefixsim.replay(trace, block_size=2, num_blocks=40, engine=engine, **options).outcome
        for engine, options in online
    ]
    for outcome in bounded[1:]:
        assert outcome.hit_tokens.tolist() == bounded[0].hit_tokens.tolist()
        assert outcome.counters["evictions"] == bounded[0].counters["evictions"] > 0


def test_how_far_the_ideal_cache_is_from_the_engine(shared: Path) -> None:
    """The difference that `docs/vllm.md` states, on the Mooncake conversation trace."""
    trace = Trace.read(shared / "data" / "mooncake" / "conversation_trace.jsonl.gz")
    rates = {}
    for engine, blocks in (("lru", 10_000), ("block-manager", 10_001), ("vllm", 10_001)):
        options: dict[str, Any] = {"arrivals": "sequential"} if engine == "vllm" else {}
        outcome = prefixsim.replay(trace, num_blocks=blocks, engine=engine, **options).outcome
        rates[engine] = int(outcome.hit_tokens.sum(dtype=np.uint64)) / trace.prompt_tokens
    assert abs(rates["lru"] - rates["block-manager"]) < 0.01
    # The engine also decodes: answers take room in the cache.
    assert rates["vllm"] < rates["block-manager"]
    assert rates["block-manager"] - rates["vllm"] < 0.02


def test_events_replayed_give_the_cache_back(trace: Trace) -> None:
    run = simulate(trace, VllmSettings(num_blocks=120), record_events=True, record_steps=True)
    held: dict[int, int] = {}
    times = []
    for batch in run.kv_events():
        times.append(batch["ts"])
        for event in batch["events"]:
            if event["type"] == "BlockStored":
                size = event["block_size"]
                assert len(event["token_ids"]) == size * len(event["block_hashes"])
                parent = event["parent_block_hash"]
                assert parent is None or held.get(parent, 0) > 0
            for block_hash in event["block_hashes"]:
                change = 1 if event["type"] == "BlockStored" else -1
                held[block_hash] = held.get(block_hash, 0) + change
                assert held[block_hash] >= 0
    assert times == sorted(times)
    assert sum(count > 0 for count in held.values()) == run.totals["cached_end"]
    assert run.totals["evictions"] > 0


def test_events_carry_the_hashes_of_vllm() -> None:
    trace = Trace.from_prompts([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]], outputs=[[7]])
    run = simulate(trace, VllmSettings(num_blocks=11, block_size=4), record_events=True)
    (batch,) = run.kv_events()
    # The hashes of the first line of the recorded edge trace.
    assert [f"{h:016x}" for h in batch["events"][0]["block_hashes"]] == [
        "0f1a5c4c20741898",
        "14cb3083c18d40f9",
    ]


def run(*args: str | Path) -> int:
    return main([str(arg) for arg in args])


def test_the_command_shows_what_caching_bought(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events, steps = tmp_path / "events.jsonl", tmp_path / "steps.csv"
    options = ["--engine", "vllm", "--num-blocks", "300", "--max-num-seqs", "8"]
    assert run("replay", file, *options, "--kv-events", events, "--steps-out", steps) == 0
    shown = capsys.readouterr().out
    assert "without caching" in shown
    assert "TTFT (s) median" in shown
    assert json.loads(events.read_text().splitlines()[0])["events"][0]["type"] == "BlockStored"
    assert steps.read_text().startswith('"step","clock_s"') or "step,clock_s" in steps.read_text()


def test_memory_in_bytes_sizes_the_cache(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "vocab_size": 100,
        "torch_dtype": "float16",
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    sized: list[str | Path] = ["--kv-memory", "5MB", "--model-config", path]
    options = [*sized, "--latency", "h100", "--json"]
    assert run("replay", file, "--engine", "vllm", *options) == 0
    (shown,) = [json.loads(capsys.readouterr().out)]
    result = shown[0] if isinstance(shown, list) else shown
    assert result["config"]["num_blocks"] == 5_000_000 // (16 * 2 * 2 * 64 * 2)
    assert result["config"]["latency"]["estimate"] is True


def test_compare_sorts_a_grid(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ["--num-blocks", "60,400", "--prefix-caching", "on,off", "--arrivals", "closed:4"]
    assert run("compare", file, *grid, "--rank-by", "token_hit_rate") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "4 runs" in lines[0]
    assert lines[2].split()[:2] == ["400", "True"]
    assert run("compare", file, *grid, "--json") == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert len(runs) == 4
    rates = {
        (r["settings"]["num_blocks"], r["settings"]["prefix_caching"]): r["summary"] for r in runs
    }
    assert rates[400, True]["token_hit_rate"] > rates[60, True]["token_hit_rate"] > 0
    assert rates[400, False]["token_hit_rate"] == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["replay", "--engine", "vllm", "--num-blocks", "9"], "can never fit 8"),
        (["replay", "--engine", "vllm", "--latency", "soon"], "give a time per step"),
        (["replay", "--engine", "vllm", "--arrivals", "closed:0"], "like closed:16"),
        (["replay", "--engine", "vllm", "--arrivals", "never"], "choose trace"),
        (
            ["replay", "--engine", "vllm", "--vllm-version", "0.1"],
            "--vllm-version 0.1: not a simulated version of vLLM, give one from 0.11.0 to 0.33",
        ),
        (
            ["replay", "--engine", "vllm", "--max-num-seqs", "0"],
            "--max-num-seqs 0: must be at least 1",
        ),
        (["replay", "--engine", "vllm", "--watermark", "2"], "--watermark 2: must be below 1"),
        (["replay", "--engine", "vllm", "--kv-memory", "1GB"], "bytes need --bytes-per-token"),
        (["replay", "--engine", "vllm", "--model-config", "no.json"], "no.json: no such file"),
        (["replay", "--engine", "vllm", "--concurrency", "2"], "--concurrency=2"),
        (["replay", "--engine", "lru", "--max-num-seqs", "2"], "has no --max-num-seqs=2"),
        (["replay", "--engine", "lru", "--kv-events", "x"], "'vllm' does"),
        (["compare", "--num-blocks", "1,x"], "--num-blocks x: give blocks"),
        (["compare", "--prefix-caching", "maybe"], "--prefix-caching maybe: give on or off"),
        (["compare", "--rank-by", "speed"], "no figure 'speed'"),
        (["compare", "--rank-by", "ttft_s"], "is not a number"),
        (["compare", "--max-num-seqs", ",".join(map(str, range(1, 800)))], "too many"),
    ],
)
def test_bad_options_are_one_line(
    file: Path, args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(args[0], file, *args[1:]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_texts_and_lengths_are_refused() -> None:
    lengths = Trace(
        timestamp=np.zeros(1), prompt_len=np.ones(1, np.uint32), output_len=np.ones(1, np.uint32)
    )
    with pytest.raises(prefixsim.InputError, match="has only lengths"):
        simulate(lengths, VllmSettings(num_blocks=9))


def test_earlier_versions_count_lookups_and_append() -> None:
    prompts = [list(range(40)), list(range(40)), list(range(100, 140))]
    trace = Trace.from_prompts(prompts, output_len=[20, 20, 20], timestamp=[0, 0, 0])
    counts = {}
    for version in ("0.33", "0.11"):
        config = VllmSettings(num_blocks=9, block_size=8, version=version)
        run = simulate(trace, config)
        counts[version] = run.totals["stats"][0]
        assert config.to_config("vllm")["uncached_first"] is (version == "0.33")
    assert counts["0.33"] == 3
    assert counts["0.11"] > 3


def test_compare_leaves_bad_rows_out(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(file.read_text() + "no request\n")
    assert run("compare", bad) == 2
    assert "--skip-bad-rows" in capsys.readouterr().err
    assert run("compare", bad, "--skip-bad-rows", "--json") == 0
    shown = capsys.readouterr()
    rows = file.read_text().count("\n")
    assert json.loads(shown.out)["runs"][0]["summary"]["requests"] == rows
    assert "1 rows left out" in shown.err
