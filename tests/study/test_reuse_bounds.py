"""Bounds of reuse at any place, beside sets of everything seen."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.study import stretches
from prefixsim.study.block_hashing import count_blocks
from prefixsim.trace import Codes, Trace
from tests.strategies import Small, small_traces

MASK = 2**64 - 1
Place = tuple[str, tuple[int, ...]]


def mixed(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def is_cut(window: Sequence[int], salt: int, chunk_size: int) -> bool:
    total = 0
    for place, token in enumerate(window):
        mark = mixed(mixed(token) ^ mixed(salt << 32))
        total += mark * pow(0x9E3779B97F4A7C15, place, 2**64)
    return mixed(mixed(total & MASK)) < 2**64 // chunk_size


def seen_before(kept: set[Place], salt: str, text: Sequence[int]) -> bool:
    place = (salt, tuple(text))
    known = place in kept
    kept.add(place)
    return known


def by_sets(small: Small, size: int, chunk_size: int) -> dict[str, list[int]]:
    blocks: set[Place] = set()
    windows: set[Place] = set()
    chunks: set[Place] = set()
    codes = {salt: code for code, salt in enumerate(small.trace().salt.names)}  # type: ignore[union-attr]
    found: dict[str, list[int]] = {"aligned blocks": [], "anywhere": [], "chunks": []}
    for prompt, salt in zip(small.prompts, small.salts, strict=True):
        n, most = len(prompt), max(len(prompt) - 1, 0)
        count = 0
        for at in range(0, n - size + 1, size):
            count += size * seen_before(blocks, salt, prompt[at : at + size])
        found["aligned blocks"].append(min(count, most))
        covered: set[int] = set()
        cuts = [0]
        for at in range(n - size + 1):
            window = prompt[at : at + size]
            if seen_before(windows, salt, window):
                covered |= set(range(at, at + size))
            if is_cut(window, codes[salt], chunk_size):
                cuts.append(at + size)
        found["anywhere"].append(min(len(covered), most))
        count = 0
        for start, end in zip(cuts, [*cuts[1:], n], strict=True):
            if end - start >= size and seen_before(chunks, salt, prompt[start:end]):
                count += end - start
        found["chunks"].append(min(count, most))
    return found


@settings(max_examples=60)
@given(small_traces(), st.integers(1, 3), st.sampled_from([2, 4]), st.sampled_from([1, 7, 1 << 21]))
@example(Small([[], [1, 1, 1], []], [[]] * 3, [""] * 3, ["a"] * 3, [0] * 3), 1, 2, 7)
def test_bounds_are_what_sets_find(small: Small, size: int, chunk_size: int, batch: int) -> None:
    trace = small.trace()
    patch = pytest.MonkeyPatch()
    patch.setattr(stretches, "_BATCH", batch)
    with patch.context():
        found = prefixsim.bounds(trace, block_size=size, chunk_size=chunk_size)
    patch.undo()
    wanted = by_sets(small, size, chunk_size) if small.prompts else {}
    for name, counts in wanted.items():
        assert found.reusable[name].tolist() == counts, name
    prefix = prefixsim.info(trace, block_size=size)["ceiling_hit_tokens"] if small.prompts else 0
    assert found.get("prefix").reusable_tokens == prefix
    anywhere = found.reusable["anywhere"]
    for name in ("prefix", "aligned blocks", "chunks"):
        assert (found.reusable[name] <= anywhere).all()


TRACE = Trace.from_prompts(
    [range(100), [7, *range(100)], range(500, 600), range(100)], name="moved"
).replace(category=Codes.from_strings(["a", "a", "b", ""]))


def test_text_that_moved() -> None:
    found = prefixsim.bounds(TRACE, recompute=0.2)
    every = {row.reuse: row for row in found.rows if row.category is None}
    assert every["prefix"].reusable_tokens == every["aligned blocks"].reusable_tokens == 96
    assert every["anywhere"].reusable_tokens == 100 + 99
    assert every["anywhere"].saved_share == pytest.approx((199 - 0.2 * (199 - 96)) / 401)
    assert every["prefix"].saved_share == every["prefix"].share == 96 / 401
    assert found.get("anywhere", "a").reusable_tokens == 100
    assert found.get("anywhere", "b").share == 0
    assert found.get("prefix", "").reusable_tokens == 96
    count = count_blocks(TRACE, hashing="unchained")
    assert 16 * count.blocks_reused == found.get("aligned blocks").reusable_tokens
    made = json.loads(found.to_json())
    assert set(made) == {"trace", "provenance", "bounds"}
    assert set(made["bounds"][0]) == {
        "reuse", "category", "prompt_tokens", "reusable_tokens", "share", "saved_share",
    }  # fmt: skip
    assert made["provenance"]["config"]["recompute"] == 0.2
    assert found.to_arrow().num_rows == len(found.rows) == 16
    assert "20 % of what is no prefix" in found._repr_html_()
    with pytest.raises(InputError, match="no bound of reuse"):
        found.get("anywhere", "c")


def test_stretches_of_one_hash_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the hash, what differs is not taken for the same."""
    before = prefixsim.bounds(TRACE).get("aligned blocks")

    def few(self: stretches.Sums, start: stretches.Ints, length: object) -> stretches.Hashes:
        return np.zeros(len(start), dtype=np.uint64)

    monkeypatch.setattr(stretches.Sums, "of", few)
    after = prefixsim.bounds(TRACE).get("aligned blocks")
    assert after.reusable_tokens <= before.reusable_tokens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 0}, "block size 0"),
        ({"chunk_size": 48}, "give a power of two"),
        ({"chunk_size": 1}, "give a power of two"),
        ({"recompute": 1.5}, "give a share from 0 to 1"),
    ],
)
def test_what_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prefixsim.bounds(TRACE, **options)  # type: ignore[arg-type]
