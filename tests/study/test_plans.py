"""Plans: their claims are those of the fleets that they name, and overload is said."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import prefixsim
from prefixsim import InputError, Trace
from prefixsim.cli import main
from prefixsim.hardware.gpus import GPUS, Model
from prefixsim.study.overload import overload_of, people_seconds
from prefixsim.study.plan_inputs import GIB, MachinePrices, levels_of, memory_of
from prefixsim.study.plan_result import Plans
from prefixsim.study.plan_tables import plan_tables, verdict
from prefixsim.table import plain

PRICES = "date = 2026-11-01\n[gpu]\nh100 = 2.50\n[memory]\ndram = 0.005\n"


def _trace(rate: float = 4.0, requests: int = 240) -> Trace:
    """Prompts of 8,000 tokens, of which eight families share 6,000 each."""
    rng = np.random.default_rng(7)
    families = [rng.integers(0, 50_000, 6000, dtype=np.uint32) for _ in range(8)]
    prompts = [
        np.concatenate([families[k % 8], rng.integers(0, 50_000, 2000, dtype=np.uint32)])
        for k in range(requests)
    ]
    return Trace.from_prompts(
        prompts, timestamp=[k / rate for k in range(requests)], output_len=[40] * requests
    )


@pytest.fixture(scope="module")
def plans() -> Plans:
    return prefixsim.plan(_trace(), "llama-3.1-70b", slo="ttft_p99=3s,tpot_p50=80ms")


def test_the_best_plan_keeps_up_and_fewer_gpus_do_not(
    plans: Plans,
) -> None:
    best = plans.best
    assert best is not None
    assert best.meets
    down = plans.step(best, up=False)
    assert down is None or not down.meets
    up = plans.step(best, up=True)
    assert up is not None
    assert up.gpus > best.gpus


def test_no_plan_worth_having_is_beaten(plans: Plans) -> None:
    shown = plans.worth_having
    for one in shown:
        assert one.run.overload is None
        for other in shown:
            better = (
                other.gpus <= one.gpus
                and other.seconds("ttft_s", "p99") <= one.seconds("ttft_s", "p99")
                and other.hit_rate >= one.hit_rate
            )
            assert not better or (other.gpus, other.hit_rate) == (one.gpus, one.hit_rate)


def test_what_a_plan_claims_its_command_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _trace().write("day.parquet")
    line = "plan day.parquet --model-config llama-3.1-70b --dram 64GiB --json"
    assert main(line.split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["estimate"] is True
    assert told["plans"]
    for claim in told["plans"]:
        command = shlex.split(claim["command"])
        assert command[:2] == ["prefixsim", "fleet"]
        assert main([*command[1:], "--json"]) == 0
        (run,) = json.loads(capsys.readouterr().out)["runs"]
        assert run["summary"]["token_hit_rate"] == claim["token_hit_rate"]
        for column in ("ttft_s", "tpot_s"):
            for statistic in ("median", "p99"):
                assert run["summary"][column][statistic] == claim[column][statistic]
    for claim in told["dram"]:
        assert main([*shlex.split(claim["command"])[1:], "--json"]) == 0
        (run,) = json.loads(capsys.readouterr().out)["runs"]
        assert run["summary"]["token_hit_rate"] == claim["hit_rate"]


def test_figures_follow_from_the_runs(plans: Plans, tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(PRICES)
    found = prefixsim.plan(_trace(), "llama-3.1-70b", prices=path, slo="ttft_p99=3s", dram="64GiB")
    best = found.best
    assert best is not None
    span = 239 / 4
    assert str(best.cost_per_hour) == str(best.gpus * MachinePrices.read(path).gpu["h100"])
    assert best.cost_per_million == pytest.approx(
        best.gpus * 2.5 * span / 3600 / (240 * 8000 / 1e6)
    )
    ttft = best.run.fleet.times["ttft_s"]
    assert best.goodput == pytest.approx((ttft <= 3).sum() / span)
    assert best.hit_rate == best.run.fleet.hit_tokens.sum() / (240 * 8000)
    assert [d.gib for d in found.dram] == [0, 64]
    assert found.dram[1].hit_rate >= found.dram[0].hit_rate
    assert (
        found.dram[1].cost_per_hour == MachinePrices.read(path).memory["dram"] * 64 * best.replicas
    )
    text = plain(plan_tables(found))
    assert "estimate: a roofline that reaches 60 % of the peak FLOP/s" in text
    assert "It is within ttft_p99 3.0 s." in verdict(found)


def test_measured_steps_take_the_place_of_the_estimate(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    rows = [f"{0.01 + n * 2e-6 + d * 1e-4},{n},{d}" for n in (0, 100, 5000) for d in (0, 8, 64)]
    path.write_text("\n".join(["seconds,prefill_tokens,decodes", *rows]))
    found = prefixsim.plan(_trace(), "llama-3.1-8b", calibrate=path, dram=())
    assert not found.estimate
    assert found.latency["steps"] == 9
    text = plain(plan_tables(found))
    assert "fitted to 9 measured steps" in text
    assert "~" not in text
    best = found.best
    assert best is not None
    assert f"--latency {path}" in best.command


def test_a_level_that_nothing_meets_is_said() -> None:
    trace = _trace(requests=40)
    found = prefixsim.plan(trace, "llama-3.1-8b", slo="ttft_p50=1ms", router="round-robin", dram=())
    assert found.best is not None
    assert not found.best.meets
    assert found.runs[-1].replicas <= 64
    assert verdict(found).startswith("No fleet that was run is within ttft_p50 1 ms.")


def test_memory_is_the_gpus_less_weights_and_overhead() -> None:
    model = Model.read("llama-3.1-8b")
    found = memory_of(model, "llama-3.1-8b", "h100", 16, 10_000)
    assert found.tensor_parallel == 1
    assert found.weights + found.overhead + found.kv == int(GPUS["h100"].memory * 0.9)
    assert found.weights == pytest.approx(8.03e9 * 2, rel=0.01)
    assert found.num_blocks == found.kv // (16 * model.kv_bytes_per_token)
    assert memory_of(model, "llama-3.1-8b", "t4", 16, 10_000).tensor_parallel == 2
    with pytest.raises(InputError, match="the longest request"):
        memory_of(model, "llama-3.1-8b", "t4", 16, 10_000, tensor_parallel=1)
    with pytest.raises(InputError, match="did you mean h100"):
        memory_of(model, "llama-3.1-8b", "h10", 16, 10_000)
    assert found.kv / GIB == pytest.approx(48.1, abs=0.1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "no --model-config given"),
        ("--model-config llama-3.1-8b --gpu h1000", "no GPU 'h1000', did you mean h100?"),
        ("--model-config llama-3.1-8b --slo ttft=2s", "slo 'ttft=2s': give ttft, tpot"),
        ("--model-config llama-3.1-8b --slo ttft_p99=2", "give a time like 20ms"),
        ("--model-config llama-3.1-8b --prices p.toml", "p.toml: no such file"),
        ("--model-config llama-3.1-8b --dram 64", "dram 64: give bytes"),
        ("--model-config llama-3.1-405b --gpu l4 --tensor-parallel 1", "take more or larger GPUs"),
    ],
)
def test_bad_options_are_one_line(
    options: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _trace(requests=8).write("day.jsonl")
    assert main(["plan", "day.jsonl", *options.split()]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "no prices"), ("[gpu]\nh100 = -1", "give \\$ an hour"), ("[gpu", "no TOML")],
)
def test_bad_prices_are_one_line(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=told):
        MachinePrices.read(path)


def test_levels_are_read() -> None:
    assert [(lv.name, lv.seconds) for lv in levels_of("ttft_p99=2s, e2e_p99.9=1min")] == [
        ("ttft_p99", 2.0), ("e2e_p99.9", 60.0),
    ]  # fmt: skip


@pytest.mark.parametrize("load", [0.5, 0.95, 1.5, 3.0])
def test_overload_is_told_from_a_busy_server(load: float) -> None:
    rng = np.random.default_rng(3)
    arrival = np.cumsum(rng.exponential(1.0, 4000))
    service = rng.exponential(load, 4000)
    start = np.zeros(4000)
    free = 0.0
    for k in range(4000):
        start[k] = max(arrival[k], free)
        free = start[k] + service[k]
    queue = start - arrival
    found = overload_of(arrival, {"queue_s": queue, "ttft_s": queue + service})
    if load < 1:
        assert found is None
        return
    assert found is not None
    assert found.service_rate == pytest.approx(1 / load, rel=0.1)
    assert found.stable_from in (round(load + 0.5), round(load + 1.5))
    assert "stable from about" in str(found)


def test_times_as_people_write_them() -> None:
    assert people_seconds(2830) == "47 min"


def test_a_replay_says_that_its_server_is_overloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _trace(rate=20.0).write("day.parquet")
    line = "--engine vllm --model-config llama-3.1-70b --latency h100 --tensor-parallel 4 --force"
    given = [*line.split(), "--num-blocks", "20000"]
    assert main(["replay", "day.parquet", *given]) == 0
    shown = capsys.readouterr().out
    assert "without caching: overload: 20.1 requests/s come, the server serves" in shown
    assert "times are an estimate: a roofline of h100 that reaches 60 % of the peak" in shown
    assert main(["replay", "day.parquet", *given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["estimate"] is True
    assert told["overload"]["stable_from"] > 1
    assert main(["compare", "day.parquet", *given]) == 0
    shown = capsys.readouterr().out
    assert shown.count("overload: 20.1 requests/s come") == 2
    assert "times are an estimate" in shown
    slow = prefixsim.replay("day.parquet", engine="vllm", num_blocks=20_000, latency="1ms")
    assert slow.overload is None
    assert "estimate" not in slow.to_dict()
    closed = prefixsim.replay(
        "day.parquet", engine="vllm", num_blocks=20_000, arrivals="start", latency="1s"
    )
    assert closed.overload is None


def test_layers_of_several_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="servers of a plan follow one kind of layers"):
        prefixsim.plan(_trace(requests=8), "gpt-oss-20b")
