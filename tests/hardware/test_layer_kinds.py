"""Which layer is what, in each of the ways that public configurations say it."""

from __future__ import annotations

from typing import Any

import pytest

from prefixsim.errors import InputError
from prefixsim.hardware.kv_bytes import kv_bytes_per_token
from prefixsim.hardware.layer_kinds import layer_kinds
from prefixsim.hardware.model_config import ModelConfig

LETTERS = {"full": "F", "sliding_window": "S", "chunked_local": "C", "mamba": "M"}


def drawn(config: dict[str, Any]) -> str:
    """A letter for each layer, ``-`` for one that keeps nothing, two letters in brackets."""
    found = layer_kinds(ModelConfig("config.json", config))
    parts = ["".join(LETTERS[kind] for kind in kept) or "-" for kept in found.kinds]
    return "".join(part if len(part) == 1 else f"({part})" for part in parts)


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        ({"num_hidden_layers": 3}, "FFF"),
        ({"num_hidden_layers": 3, "model_type": "llama"}, "FFF"),
        ({"layer_types": ["linear_attention", "full_attention", "conv", "moe"]}, "MFM-"),
        ({"layers_block_type": ["mamba", "moe", "attention"], "model_type": "nemotron_h"}, "M-F"),
        ({"hybrid_override_pattern": "M-M*E", "model_type": "nemotron_h"}, "M-MF-"),
        ({"num_hidden_layers": 3, "attn_type_list": [0, 1, 0], "model_type": "minimax"}, "MFM"),
        ({"num_hidden_layers": 4, "linear_attn_config": {"full_attn_layers": [2, 4]}}, "MFMF"),
        ({"num_hidden_layers": 4, "full_attn_idxs": [1], "model_type": "lfm2"}, "MFMM"),
        ({"num_hidden_layers": 4, "attn_layer_indices": [3], "model_type": "bamba"}, "MMMF"),
        ({"num_hidden_layers": 6, "attn_layer_period": 3, "attn_layer_offset": 1}, "MFMMFM"),
        ({"num_hidden_layers": 8, "full_attention_interval": 4}, "MMMFMMMF"),
        ({"num_hidden_layers": 4, "model_type": "qwen3_next"}, "MMMF"),
        ({"num_hidden_layers": 5, "attention_chunk_size": 8, "model_type": "llama4_text"}, "CCCFC"),
        ({"num_hidden_layers": 3, "attention_chunk_size": 8, "no_rope_layers": [1, 0, 1]}, "CFC"),
        ({"num_hidden_layers": 3, "attention_chunk_size": None, "model_type": "llama4"}, "FFF"),
        ({"num_hidden_layers": 7, "sliding_window": 8, "model_type": "gemma3_text"}, "SSSSSFS"),
        ({"num_hidden_layers": 4, "sliding_window": 8, "sliding_window_pattern": 2}, "SFSF"),
        ({"num_hidden_layers": 5, "sliding_window": 8, "sliding_window_pattern": "LLG"}, "SSFSS"),
        ({"num_hidden_layers": 4, "sliding_window": 8, "model_type": "gemma2"}, "SFSF"),
        ({"num_hidden_layers": 3, "sliding_window": 8, "model_type": "gpt_oss"}, "SFS"),
        ({"num_hidden_layers": 3, "sliding_window": 8, "model_type": "mistral"}, "SSS"),
        ({"num_hidden_layers": 3, "sliding_window": None, "model_type": "mistral"}, "FFF"),
        ({"num_hidden_layers": 3, "sliding_window": 8, "model_type": "qwen2"}, "FFF"),
        ({"num_hidden_layers": 4, "sliding_window": 8, "use_sliding_window": False}, "FFFF"),
        ({"num_hidden_layers": 4, "sliding_window": 8, "use_sliding_window": True,
          "max_window_layers": 3, "model_type": "qwen2"}, "FFFS"),
        ({"num_hidden_layers": 2, "model_type": "falcon_h1"}, "(MF)(MF)"),
        ({"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 8,
          "num_kv_shared_layers": 1, "model_type": "gemma3n_text"}, "SFS-"),
        ({"text_config": {"num_hidden_layers": 2}, "model_type": "some_wrapper"}, "FF"),
        ({"text_config": {"num_hidden_layers": 2, "sliding_window": 8}, "model_type": "gemma2"},
         "SF"),
    ],
)  # fmt: skip
def test_ways_to_say_it(config: dict[str, Any], layers: str) -> None:
    assert drawn(config) == layers


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_hidden_layers": 2, "model_type": "brand_new"}, "layers of a model of type 'brand_n"),
        ({"num_hidden_layers": 2, "model_type": "jamba"}, "'jamba' without a field that says"),
        ({"num_hidden_layers": 2, "model_type": "gemma2"}, "has no sliding_window"),
        ({"num_hidden_layers": 2, "model_type": "llama4_text"}, "has no attention_chunk_size"),
        ({"num_hidden_layers": 2, "index_topk": 2048}, "index_topk says something of the cache"),
        ({"layer_types": ["full_attention", "quantum"]}, "layer_types has 'quantum'"),
        ({"num_hidden_layers": 3, "layer_types": ["conv"]}, "is of 1 layers, the model has 3"),
        ({"hybrid_override_pattern": "M*X"}, "other letters than"),
        ({"layer_types": ["sliding_attention"]}, "has no sliding_window"),
    ],
)
def test_what_is_not_understood_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        layer_kinds(ModelConfig("config.json", config))
    assert str(caught.value).startswith("config.json: ")
    assert "\n" not in str(caught.value)


HEADS = {"hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 2}


def test_a_share_of_full_attention_is_what_a_token_takes() -> None:
    interval = {"num_hidden_layers": 48, "head_dim": 256, "full_attention_interval": 4}
    assert kv_bytes_per_token({**HEADS, **interval}).per_token == 24_576
    pattern = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
    nemotron = {"num_hidden_layers": 52, "head_dim": 128, "hybrid_override_pattern": pattern}
    assert kv_bytes_per_token({**HEADS, **nemotron}).per_token == 6_144


def test_windows_are_bytes_per_request() -> None:
    config = {**HEADS, "num_hidden_layers": 6, "model_type": "gemma3_text", "sliding_window": 100}
    found = kv_bytes_per_token({**config, "torch_dtype": "bfloat16"})
    layer = 2 * 2 * 128 * 2
    assert (found.per_token, found.layers, found.per_request) == (layer, 1, 5 * layer * 100)
    assert "besides up to 512,000 bytes per request in 5 layers of sliding window of 100" in str(
        found
    )
    assert found.assumed == ("layers: sliding_window_pattern 6",)


def test_a_window_in_every_layer_is_what_a_token_takes_while_it_is_in_it() -> None:
    config = {**HEADS, "num_hidden_layers": 4, "model_type": "mistral", "sliding_window": 100}
    found = kv_bytes_per_token(config)
    assert (found.per_token, found.grows.kind, found.per_request) == (4096, "sliding_window", 0)


def test_unknown_states_are_no_zero() -> None:
    config = {**HEADS, "num_hidden_layers": 4, "full_attention_interval": 4}
    found = kv_bytes_per_token(config)
    assert found.per_request is None
    assert "besides up to an unknown size per request in 3 layers of recurrent state" in str(found)


def test_a_model_of_states_alone_has_no_tokens() -> None:
    with pytest.raises(InputError, match="no layer keeps tokens"):
        kv_bytes_per_token({**HEADS, "layer_types": ["mamba"] * 3})
