from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefixsim.errors import InputError
from prefixsim.hardware.kv_bytes import kv_bytes_per_token

LLAMA_3_8B = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "torch_dtype": "bfloat16",
}
LLAMA_3_70B = {
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "torch_dtype": "bfloat16",
}
QWEN3_4B = {
    "num_hidden_layers": 36,
    "hidden_size": 2560,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "torch_dtype": "bfloat16",
}
DEEPSEEK_V3 = {
    "num_hidden_layers": 61,
    "hidden_size": 7168,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "torch_dtype": "bfloat16",
}
GPT2 = {"n_layer": 12, "n_embd": 768, "n_head": 12}


@pytest.mark.parametrize(
    ("config", "options", "attention", "expected"),
    [
        (LLAMA_3_8B, {}, "gqa", 131_072),
        (LLAMA_3_8B, {"dtype": "fp8"}, "gqa", 65_536),
        (LLAMA_3_70B, {}, "gqa", 327_680),
        (LLAMA_3_70B, {"tensor_parallel": 8}, "gqa", 40_960),
        (LLAMA_3_70B, {"tensor_parallel": 16}, "gqa", 40_960),
        (QWEN3_4B, {}, "gqa", 147_456),
        (DEEPSEEK_V3, {}, "mla", 70_272),
        (DEEPSEEK_V3, {"tensor_parallel": 8}, "mla", 70_272),
        (GPT2, {}, "mha", 36_864),
        (GPT2, {"dtype": "float32"}, "mha", 73_728),
        ({**GPT2, "multi_query": True}, {}, "mqa", 3_072),
        ({"text_config": QWEN3_4B, "model_type": "vl"}, {}, "gqa", 147_456),
        ({"text_config": {**GPT2}, "torch_dtype": "float32"}, {}, "mha", 73_728),
        ({**QWEN3_4B, "layer_types": ["linear_attention"] * 27 + ["full_attention"] * 9}, {}, "gqa",
         36_864),
    ],
)  # fmt: skip
def test_bytes_per_token(
    config: dict[str, Any], options: dict[str, Any], attention: str, expected: int
) -> None:
    found = kv_bytes_per_token(config, **options)
    assert (found.per_token, found.attention) == (expected, attention)
    assert f"{expected:,} bytes per token" in str(found)


def test_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_3_8B))
    assert kv_bytes_per_token(tmp_path).per_token == 131_072
    assert kv_bytes_per_token(str(tmp_path / "config.json")).per_token == 131_072


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json: not JSON"),
        ("[]", "config.json: not a model's config.json"),
        ("{}", "config.json: has no num_hidden_layers"),
        ('{"num_hidden_layers": "many"}', "num_hidden_layers is 'many', a positive integer"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        kv_bytes_per_token(tmp_path)


def test_unusable_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        kv_bytes_per_token(tmp_path / "none.json")
    with pytest.raises(InputError, match="dtype 'int3' is unknown, choose from float32"):
        kv_bytes_per_token(LLAMA_3_8B, dtype="int3")
    with pytest.raises(InputError, match="give 1 or more GPUs"):
        kv_bytes_per_token(LLAMA_3_8B, tensor_parallel=0)
    with pytest.raises(InputError, match="8 KV heads cannot be shared evenly by 3 GPUs"):
        kv_bytes_per_token(LLAMA_3_8B, tensor_parallel=3)
