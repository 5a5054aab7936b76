"""Latency models, sizes of models, and the times they give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prefixsim
from prefixsim.engines.vllm import VllmSettings
from prefixsim.engines.vllm.simulate import simulate
from prefixsim.hardware.gpus import GPUS, Model, kv_blocks
from prefixsim.hardware.latency import COEFFICIENTS, Fixed, Linear, Roofline, parse_latency
from prefixsim.sizes import parse_bytes
from prefixsim.trace import Trace

LLAMA_3_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
    "max_position_embeddings": 8192,
}
MIXTRAL_8X7B = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_3_8B))
    return path


def test_sizes_of_known_models() -> None:
    llama = Model.from_config(LLAMA_3_8B)
    # 8.03 billion weights, of which the input embedding is not read as a whole.
    assert llama.parameters + llama.head_parameters == pytest.approx(8.03e9, rel=0.001)
    assert llama.kv_bytes_per_token == 131072
    mixtral = Model.from_config(MIXTRAL_8X7B)
    assert mixtral.parameters == pytest.approx(46.7e9, rel=0.005)
    assert mixtral.active_parameters + mixtral.head_parameters == pytest.approx(12.9e9, rel=0.02)
    gpt2 = Model.from_config(
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}
    )
    assert gpt2.parameters == pytest.approx(124e6, rel=0.01)


def test_blocks_of_a_memory_size(llama: Path) -> None:
    assert kv_blocks("40GiB", llama, 16) == 40 * 2**30 // (16 * 131072)
    assert kv_blocks("40GiB", llama, 16, tensor_parallel=2) == 2 * kv_blocks("40GiB", llama, 16)
    with pytest.raises(prefixsim.InputError, match="give more memory"):
        kv_blocks("1MB", llama, 16)


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "4XB", "1.2.3GB"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(prefixsim.InputError, match="bytes"):
        parse_bytes(text)


def test_a_decode_step_reads_weights_and_kv() -> None:
    model = Model.from_config(LLAMA_3_8B)
    roofline = Roofline("h100", model, memory_efficiency=1.0, compute_efficiency=1.0, overhead=0.0)
    _, compute, memory = roofline.settings()
    seconds = dict(zip(COEFFICIENTS, (ns / 1e9 for ns in memory), strict=True))
    gpu = GPUS["h100"]
    assert seconds["base"] == pytest.approx(2 * model.parameters / gpu.bandwidth)
    assert seconds["decode_context"] == pytest.approx(131072 / gpu.bandwidth)
    flops = dict(zip(COEFFICIENTS, (ns / 1e9 for ns in compute), strict=True))
    assert flops["prefill_tokens"] == pytest.approx(2 * model.active_parameters / gpu.flops)


def work_by_hand(prompt: int, output: int) -> list[dict[str, int]]:
    """Work of each step of a single request."""
    first = {
        "base": 1,
        "prefill_tokens": prompt,
        "prefill_pairs": prompt * (prompt + 1) // 2,
        "prefill_context": prompt,
        "decodes": 0,
        "decode_context": 0,
    }
    none = dict.fromkeys(first, 0)
    rest = [
        {**none, "base": 1, "decodes": 1, "decode_context": prompt + i + 1}
        for i in range(output - 1)
    ]
    return [first, *rest]


@pytest.mark.parametrize("record_steps", [False, True])
def test_times_are_the_work_of_the_steps(record_steps: bool) -> None:
    coefficients = dict(zip(COEFFICIENTS, (1e-3, 2e-5, 3e-7, 5e-6, 7e-4, 11e-6), strict=True))
    trace = Trace.from_prompts([range(37)], outputs=[range(23)], timestamp=[0.5])
    latency = Linear(coefficients)
    config = VllmSettings(num_blocks=50, block_size=4, latency=latency, async_scheduling=False)
    run = simulate(trace, config, record_steps=record_steps)
    steps = [
        round(sum(coefficients[name] * n for name, n in work.items()) * 1e9)
        for work in work_by_hand(37, 23)
    ]
    assert run.totals["busy_ns"] == sum(steps)
    assert run.times["ttft_s"].tolist() == [steps[0] / 1e9]
    assert run.times["e2e_s"].tolist() == [sum(steps) / 1e9]
    assert run.times["tpot_s"][0] == pytest.approx(sum(steps[1:]) / 22 / 1e9)
    assert run.times["queue_s"].tolist() == [0.0]


def test_a_roofline_is_faster_with_the_cache() -> None:
    model = Model.from_config(LLAMA_3_8B)
    prompts = [list(range(4000)) + [9000 + i] * 50 for i in range(20)]
    trace = Trace.from_prompts(
        prompts, output_len=[50] * 20, timestamp=[0.3 * i for i in range(20)]
    )
    medians = []
    for caching in (True, False):
        config = VllmSettings(
            num_blocks=20_000, enable_caching=caching, latency=Roofline("a100-80gb", model)
        )
        medians.append(simulate(trace, config).summary()["ttft_s"]["median"])
    assert medians[0] < medians[1] / 3


def test_fitting_finds_the_coefficients(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    work = rng.integers(0, 1000, (200, 3))
    seconds = 0.004 + work @ np.array([2e-5, 0.0, 3e-6])
    rows = "\n".join(
        f"{s:.9f},{a},{b},{c}" for s, (a, b, c) in zip(seconds, work.tolist(), strict=True)
    )
    path = tmp_path / "steps.csv"
    path.write_text(f"seconds,prefill_tokens,decodes,decode_context\n{rows}\n")
    found = parse_latency(str(path))
    assert isinstance(found, Linear)
    assert found.coefficients["base"] == pytest.approx(0.004, rel=1e-3)
    assert found.coefficients["prefill_tokens"] == pytest.approx(2e-5, rel=1e-3)
    assert found.coefficients["decodes"] == pytest.approx(0, abs=1e-8)
    assert min(found.coefficients.values()) >= 0
    assert found.describe()["r_squared"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the first line must name"),
        ("seconds,speed\n1,2\n", "the first line must name"),
        ("seconds,decodes\n1,x\n", "steps.csv:2: expected 2 numbers"),
        ("seconds,decodes\n1,nan\n", "steps.csv:2: expected 2 numbers"),
        ("seconds,decodes\n1,2\n", "too few"),
    ],
)
def test_bad_measurements(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(content)
    with pytest.raises(prefixsim.InputError, match=message):
        parse_latency(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "give an object"),
        ('{"speed": 1}', "give an object"),
        ('{"base": "1"}', "base is '1'"),
    ],
)
def test_bad_coefficients(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "latency.json"
    path.write_text(content)
    with pytest.raises(prefixsim.InputError, match=message):
        parse_latency(str(path))


@pytest.mark.parametrize(
    ("text", "seconds"), [("20ms", 0.02), ("1.5 s", 1.5), ("250us", 0.00025), ("7ns", 7e-9)]
)
def test_fixed_times(text: str, seconds: float) -> None:
    latency = parse_latency(text)
    assert isinstance(latency, Fixed)
    assert latency.seconds == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["soon", "20", "ms", "1.2.3ms", "-1ms", ""])
def test_no_latency(text: str) -> None:
    with pytest.raises(prefixsim.InputError, match="give a time per step"):
        parse_latency(text)


def test_a_gpu_needs_a_model() -> None:
    with pytest.raises(prefixsim.InputError, match="needs --model-config"):
        parse_latency("h100")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "no hidden_size"),
        ({"hidden_size": "big"}, "hidden_size is 'big'"),
        ({"torch_dtype": "float3"}, "float3"),
    ],
)
def test_bad_model_configs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(prefixsim.InputError, match=message):
        Model.from_config({**LLAMA_3_8B, **change})


@pytest.mark.parametrize(
    ("latency", "limits"),
    [
        ("20ms", (256, 8192)),
        ("h100", (1024, 8192)),
        ("H200", (1024, 8192)),
        ("mi300x", (1024, 8192)),
        ("a100-80gb", (256, 2048)),
        ("l4", (256, 2048)),
    ],
)
def test_defaults_are_those_of_a_server_on_the_gpu(latency: str, limits: tuple[int, int]) -> None:
    assert VllmSettings(latency=latency).batch_limits() == limits
    given = VllmSettings(latency=latency, max_num_seqs=7, max_num_batched_tokens=99)
    assert given.batch_limits() == (7, 99)


def test_the_limits_in_use_are_told() -> None:
    trace = Trace.from_prompts([range(40), range(48)], output_len=[5, 5])
    result = prefixsim.replay(trace, engine="vllm")
    assert (result.config["max_num_seqs"], result.config["max_num_batched_tokens"]) == (256, 8192)
    assert "256 at once, 8,192 tokens a step" in result.description
