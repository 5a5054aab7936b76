"""Blocks told apart with and without their prefix, beside two dictionaries and the forest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixsim import InputError, Trace, compile  # noqa: A004
from prefixsim.study.block_hashing import Hashing, count_blocks
from prefixsim.trace import Ragged

PROMPTS = st.lists(st.lists(st.integers(0, 2), max_size=9), min_size=1, max_size=8)


def by_dictionary(
    prompts: list[list[int]], b: int, hashing: str, partial: bool
) -> tuple[int, int, list[int]]:
    """Count blocks one after the other, as a simple simulator does."""
    seen: set[Any] = set()
    total = 0
    found = []
    for prompt in prompts:
        hits = 0
        for begin in range(0, len(prompt) if partial else len(prompt) // b * b, b):
            end = min(begin + b, len(prompt))
            key = tuple(prompt[0 if hashing == "chained" else begin : end])
            total += 1
            hits += key in seen
            seen.add(key)
        found.append(hits)
    return total, len(seen), found


@given(PROMPTS, st.integers(1, 4), st.sampled_from(["chained", "unchained"]), st.booleans())
def test_counts_are_those_of_a_dictionary(
    prompts: list[list[int]], b: int, hashing: Hashing, partial: bool
) -> None:
    trace = Trace.from_prompts(prompts)
    counted = count_blocks(trace, block_size=b, hashing=hashing, partial_blocks=partial)
    total, unique, found = by_dictionary(prompts, b, hashing, partial)
    assert (counted.total_blocks, counted.unique_blocks) == (total, unique)
    assert counted.found.tolist() == found
    assert counted.blocks_reused == sum(found) == total - unique
    assert counted.blocks.sum() == total


@given(PROMPTS, st.integers(1, 4))
def test_chained_full_blocks_are_the_forests(prompts: list[list[int]], b: int) -> None:
    trace = Trace.from_prompts(prompts)
    profile = compile(trace).profile(b)
    counted = count_blocks(trace, block_size=b)
    run = profile.replay("lru", last_token_rule=False)
    assert counted.unique_blocks == profile.unique_blocks
    assert counted.found.tolist() == np.asarray(run["hit_blocks"]).tolist()


def test_salts_keep_blocks_apart() -> None:
    trace = Trace.from_prompts([[1, 2], [1, 2]], salt=["a", "b"])
    assert count_blocks(trace, block_size=2, hashing="unchained").blocks_reused == 0


def test_rates_of_nothing_are_zero() -> None:
    assert count_blocks(Trace.from_prompts([[1]]), block_size=2).block_reuse_rate == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 0}, "block size 0 is not usable"),
        ({"hashing": "sha"}, "unknown hashing 'sha', choose one of chained, unchained"),
    ],
)
def test_options_that_are_not_usable(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        count_blocks(Trace.from_prompts([[1, 2]]), **options)


def test_hash_ids_cannot_be_hashed_anew() -> None:
    trace = Trace(
        timestamp=np.zeros(1),
        prompt_len=np.array([2], dtype=np.uint32),
        output_len=np.zeros(1, dtype=np.uint32),
        prompts=Ragged.from_lists([[7]], np.uint64),
        id_block_size=2,
    )
    with pytest.raises(InputError, match="holds no token ids"):
        count_blocks(trace)
