"""Pools of models by their configuration, as vLLM's planner recorded them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefixsim.errors import InputError
from prefixsim.hardware.catalogue import catalogue, find_model
from prefixsim.hardware.kv_bytes import kv_bytes_per_token
from prefixsim.hardware.layers import Layer
from prefixsim.hardware.pool import Planning, groups_of, model_pool, pool_of


@pytest.mark.parametrize(
    ("name", "gpus", "length", "memory", "block_size", "blocks"),
    [
        ("gemma-3-27b", 1, 131_072, "20GiB", 16, 16_384),
        ("gemma-3-27b", 2, 131_072, "45GiB", 16, 73_728),
        ("gpt-oss-20b", 1, 131_072, "8GiB", 16, 21_845),
        ("gpt-oss-120b", 1, 131_072, "10GiB", 16, 18_204),
        ("llama-4-scout", 8, 262_144, "40GiB", 16, 436_906),
        ("qwen3-next-80b-a3b", 1, 262_144, "30GiB", 544, 2_409),
        ("qwen3-next-80b-a3b", 2, 262_144, "50GiB", 544, 8_031),
    ],
)
def test_models_by_name_give_the_recorded_pools(
    *, name: str, gpus: int, length: int, memory: str, block_size: int, blocks: int
) -> None:
    pool = model_pool(name, memory, Planning(max_model_len=length), tensor_parallel=gpus)
    assert (pool.groups.block_size, pool.num_blocks) == (block_size, blocks)


@pytest.mark.parametrize(
    ("change", "block_size"),
    [
        ({"mamba_ssm_dtype": "float32"}, 1_056),
        ({"torch_dtype": "float32"}, 544),  # tokens and states grow alike
    ],
)
def test_the_state_decides_the_block_size(change: dict[str, Any], block_size: int) -> None:
    config = {**(find_model("qwen3-next-80b-a3b") or {}), **change}
    assert groups_of(kv_bytes_per_token(config).specs, Planning(262_144)).block_size == block_size


def test_draft_tokens_widen_the_state() -> None:
    planning = Planning(262_144, num_speculative_tokens=2)
    pool = model_pool("qwen3-next-80b-a3b", "30GiB", planning)
    assert pool.groups.block_size == 560


def test_what_cannot_be_planned() -> None:
    full = Layer("full", heads=1, width=2, element_bytes=1)
    with pytest.raises(InputError, match="no layer keeps tokens"):
        groups_of([Layer("mamba", states=((1, 1),))], Planning(100))
    with pytest.raises(InputError, match="sizes of the recurrent state are not known"):
        groups_of([full, Layer("mamba")], Planning(100))
    # 7 blocks of 16 tokens, and the null block.
    assert pool_of([full], Planning(100), 8 * 32).num_blocks == 8
    with pytest.raises(InputError, match="hold 7 blocks, a request of 100 tokens needs 8"):
        pool_of([full], Planning(100), 8 * 32 - 1)


def test_the_table_of_the_page_is_what_the_planner_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "hardware.md"
    rows = [line.split("|")[1:-1] for line in page.read_text(encoding="utf-8").splitlines()
            if line.startswith("| `") and line.count("|") == 9]  # fmt: skip
    assert len(rows) == 8
    for cells in rows:
        name = cells[0].strip(" `")
        gpus, *told = [int(cell.replace(",", "")) for cell in cells[1:]]
        sizes = kv_bytes_per_token(name, tensor_parallel=gpus)
        pool = model_pool(name, "40GiB", Planning(131_072), tensor_parallel=gpus)
        plan = pool.groups
        found = [sizes.per_token, sizes.per_request, len(plan.groups), plan.block_size]
        assert told == [*found, pool.num_blocks, pool.capacity_tokens], name


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_model_of_the_catalogue_has_a_size_and_a_source(name: str) -> None:
    sizes = kv_bytes_per_token(name)
    assert sizes.per_token > 0
    assert sizes.per_request is not None
    entry = catalogue()[name]
    assert entry["source"].startswith("huggingface.co/")
    assert "20" in entry["source"].split("(")[-1]
    assert name == name.lower()


@pytest.mark.parametrize(
    ("name", "per_token"),
    [
        ("llama-3.1-8b", 131_072),
        ("meta-llama/Llama-3.1-70B", 327_680),
        ("Qwen/Qwen3-Next-80B-A3B", 24_576),
        ("deepseek-v3", 70_272),
        ("gemma-3-27b", 81_920),
        ("nemotron-3-nano-30b-a3b", 6_144),
    ],
)
def test_models_by_name(name: str, per_token: int) -> None:
    assert kv_bytes_per_token(name).per_token == per_token


def test_a_mistyped_name() -> None:
    with pytest.raises(InputError, match=r"no such file and no model .* mean qwen3-next-80b-a3b\?"):
        kv_bytes_per_token("qwen3-nxt-80b-a3b")
    with pytest.raises(InputError, match=r"^nothing/like/it.json: no such file$"):
        kv_bytes_per_token("nothing/like/it.json")
