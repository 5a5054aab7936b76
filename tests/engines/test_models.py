"""What engines make of a model's configuration: windows, states, and sizes in bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import prefixsim
from prefixsim import InputError, Trace
from prefixsim.cli import main
from prefixsim.engines.vllm.simulate import simulate


@pytest.fixture
def trace() -> Trace:
    prompts = [[*range(64), 1000 + i, *range(40)] for i in range(8)]
    return Trace.from_prompts(prompts, output_len=[2] * 8)


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        ("gemma-3-27b", "10 layers of full attention and 52 layers of sliding window of 1,024"),
        ("qwen3-next-80b-a3b", "12 layers of full attention and 36 layers of recurrent state"),
        ("llama-4-scout", "36 layers of chunked local attention of 8,192"),
    ],
)
def test_a_model_of_several_kinds_of_layers_is_simulated_or_refused(
    trace: Trace, model: str, layers: str
) -> None:
    with pytest.raises(InputError, match=layers) as caught:
        prefixsim.replay(trace, engine="sglang", num_blocks=100, model_config=Path(model))
    assert "\n" not in str(caught.value)
    found = prefixsim.replay(trace, engine="vllm", num_blocks=200, model_config=Path(model))
    assert "full@" in found.config["kv_groups"]


def test_what_a_refusal_advises_follows_full_attention(trace: Trace) -> None:
    model = Path("gemma-3-27b")
    with pytest.raises(InputError, match="give bytes_per_token=81920 in its place"):
        prefixsim.replay(trace, engine="sglang", num_blocks="1GB", model_config=model)
    found = prefixsim.replay(trace, engine="vllm", num_blocks="1GB", bytes_per_token=81920)
    assert found.config["num_blocks"] == 10**9 // (16 * 81920)
    grouped = prefixsim.replay(trace, engine="vllm", num_blocks="1GB", model_config=model)
    assert grouped.config["num_blocks"] == 10**9 // 1_310_720


@pytest.mark.parametrize(("given", "window"), [({}, 4096), ({"sliding_window": 32}, 32)])
def test_a_window_in_every_layer_is_the_sliding_window(
    trace: Trace, given: dict[str, Any], window: int
) -> None:
    model = Path("mistral-7b-v0.1")
    found = prefixsim.replay(trace, engine="vllm", num_blocks=50, model_config=model, **given)
    assert found.config["sliding_window"] == window
    run = simulate(trace, num_blocks=50, model_config=model, **given)
    assert run.settings.sliding_window == window
    assert run.outcome().hit_tokens.tolist() == found.outcome.hit_tokens.tolist()


def test_an_engine_without_windows_refuses_one(trace: Trace) -> None:
    with pytest.raises(InputError, match="sliding window of 4,096 tokens, this engine keeps all"):
        prefixsim.replay(
            trace, engine="sglang", num_blocks=500, model_config=Path("mistral-7b-v0.1")
        )


def test_sizes_in_bytes_are_of_full_attention(trace: Trace) -> None:
    model = Path("qwen3-next-80b-a3b")
    found = prefixsim.replay(trace, engine="block-manager", num_blocks="1GB", model_config=model)
    assert found.config["num_blocks"] == 10**9 // (16 * 24_576)


@pytest.mark.parametrize("name", ["num_blocks", "kv_memory"])
def test_no_more_memory_than_the_gpu_has(trace: Trace, name: str) -> None:
    given: dict[str, Any] = {"engine": "vllm", "latency": "h100"}
    given["model_config"] = Path("llama-3.1-8b")
    with pytest.raises(InputError, match=r"5TB: one h100 has 80 GB, .* turn 'force' on"):
        prefixsim.replay(trace, **{**given, name: "5TB"})
    forced = prefixsim.replay(trace, **{**given, name: "5TB", "force": True})
    assert forced.config["num_blocks"] == 5 * 10**12 // (16 * 131_072)
    assert "force" not in forced.config
    less = prefixsim.replay(trace, **{**given, name: "60GB"})
    assert less.config["num_blocks"] == 60 * 10**9 // (16 * 131_072)


def test_the_command_line_says_what_it_read(
    trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.jsonl"
    trace.write(path)
    assert main(["curve", str(path), "--model-config", "qwen3-next-80b-a3b"]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "24,576 bytes per token" in err
    assert "besides up to 39,518,208 bytes per request in 36 layers of recurrent state" in err
    assert "layers: full_attention_interval 4" in err
    assert "sizes in bytes are of the tokens alone" in err
    assert main(["curve", str(path), "--model-config", "llama-3.1-8b"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["curve", str(path), "--model-config", "llama-3.1-8x"]) == 2
    assert "did you mean llama-3.1-8b?" in capsys.readouterr().err
