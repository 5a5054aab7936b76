from __future__ import annotations

import pytest

import prefixsim
from prefixsim.errors import InputError
from prefixsim.trace import Trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    prompts = [[100 * (i % 3) + t for t in range(20 + 7 * i)] for i in range(12)]
    return Trace.from_prompts(prompts, name="chats")


def test_every_combination_is_its_replay(trace: Trace) -> None:
    forest = prefixsim.compile(trace)
    table = prefixsim.sweep(
        forest,
        engine=["lru", "block-manager"],
        policy=["lru", "clairvoyant"],
        block_size=[4, 8],
        capacity=[30, None],
    )
    rows = table.to_pylist()
    keys = [(r["engine"], r["policy"], r["block_size"], r["capacity_blocks"]) for r in rows]
    assert len(set(keys)) == len(rows) == 2 * 2 * 2 + 2 * 2
    for row in rows:
        blocks, size = row["capacity_blocks"], row["block_size"]
        if row["policy"] == "clairvoyant":
            curve = prefixsim.curve(forest, block_size=size, policy="clairvoyant")
            assert row["blocks_reused"] == curve.blocks_reused(blocks or 10**9)
            continue
        usable = blocks if blocks is None or row["engine"] == "ideal" else blocks + 1
        result = prefixsim.replay(forest, engine=row["engine"], block_size=size, num_blocks=usable)
        for name in ("hit_tokens", "total_blocks", "unique_blocks", "token_hit_rate",
                     "block_reuse_rate", "requests_with_hit", "evictions"):  # fmt: skip
            assert row[name] == result.summary[name], name


def test_hash_ids_take_their_block_size_by_default() -> None:
    tokens = Trace.from_prompts([range(64), range(64)])
    row = prefixsim.sweep(tokens).to_pylist()[0]
    assert (row["block_size"], row["capacity_blocks"]) == (16, None)
    assert row["blocks_reused"] == 3
    row = prefixsim.sweep(tokens, last_token_rule=False).to_pylist()[0]
    assert row["blocks_reused"] == 4


def test_unusable_settings(trace: Trace) -> None:
    with pytest.raises(InputError, match="at least 1"):
        prefixsim.sweep(trace, capacity=0)
    with pytest.raises(InputError, match="choose from lru"):
        prefixsim.sweep(trace, policy="mru")
    with pytest.raises(InputError, match="unknown engine 'none'"):
        prefixsim.sweep(trace, engine="none")
    with pytest.raises(InputError, match="need the engine 'ideal'"):
        prefixsim.sweep(trace, engine="block-manager", policy="clairvoyant")
