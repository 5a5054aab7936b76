"""Sizes of recurrent states: each formula on a real shape, and what GPUs share."""

from __future__ import annotations

from typing import Any

import pytest

from prefixsim.errors import InputError
from prefixsim.hardware.catalogue import find_model
from prefixsim.hardware.model_config import ModelConfig
from prefixsim.hardware.states import state_of

LFM2 = {"conv_L_cache": 3, "hidden_size": 2048}
MINIMAX = {"attn_type_list": [0, 1], "num_attention_heads": 64, "head_dim": 128}
KIMI = {"linear_attn_config": {"num_heads": 32, "head_dim": 128, "short_conv_kernel_size": 4}}
GRANITE = {"mamba_n_heads": 128, "mamba_d_head": "auto", "mamba_expand": 2, "hidden_size": 4096}
GRANITE |= {"mamba_n_groups": 1, "mamba_d_state": 128, "mamba_d_conv": 4}


def _catalogue(name: str) -> dict[str, Any]:
    return find_model(name) or {}


@pytest.mark.parametrize(
    ("config", "gpus", "drafts", "tensors"),
    [
        # The recorded plans have these three.
        (_catalogue("qwen3-next-80b-a3b"), 1, 0, [(24_576, 2), (524_288, 4)]),
        (_catalogue("qwen3-next-80b-a3b"), 2, 0, [(12_288, 2), (262_144, 4)]),
        (_catalogue("qwen3-next-80b-a3b"), 1, 2, [(40_960, 2), (524_288, 4)]),
        # 64 heads of 64, 8 groups, state 128, kernel 4.
        (_catalogue("nemotron-3-nano-30b-a3b"), 1, 0,
         [((4096 + 2 * 8 * 128) * 3, 2), (64 * 64 * 128, 4)]),
        # One group is copied to both GPUs.
        (GRANITE, 2, 0, [((8192 + 2 * 2 * 128) // 2 * 3, 2), (64 * 64 * 128, 4)]),
        (_catalogue("jamba-v0.1"), 1, 0, [(8192 * 3, 2), (8192 * 16, 4)]),
        (LFM2, 2, 0, [(1024 * 2, 2)]),
        (MINIMAX, 4, 0, [(16 * 128 * 128, 2)]),
        (KIMI, 1, 0, [(3 * 32 * 128 * 3, 2), (32 * 128 * 128, 4)]),
    ],
)  # fmt: skip
def test_states(
    config: dict[str, Any], gpus: int, drafts: int, tensors: list[tuple[int, int]]
) -> None:
    model = ModelConfig("config.json", config)
    found = state_of(model, model_bytes=2, state_bytes=4, gpus=gpus, drafts=drafts)
    assert found is not None
    assert list(found.tensors) == tensors


def test_no_sizes_and_uneven_shares() -> None:
    assert state_of(ModelConfig("config.json", {}), model_bytes=2, state_bytes=2) is None
    with pytest.raises(InputError, match="2048 heads or channels cannot be shared evenly by 3"):
        state_of(ModelConfig("config.json", LFM2), model_bytes=2, state_bytes=2, gpus=3)
