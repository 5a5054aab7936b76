"""Losses of a hierarchy by tier, and what sets it apart from the surface."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefixsim
from prefixsim.explanations.surface_gap import gap_tables, surface_gap
from prefixsim.explanations.waterfall import waterfall_tables
from prefixsim.table import plain
from prefixsim.trace import Trace
from tests.strategies import Small, small_traces

RULES = ["", ":exclusive", ":write-back", ":uses=2", ":sees=misses", ":fifo:head-first", ":mru"]


@settings(max_examples=40)
@given(
    small_traces(),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(RULES)), min_size=1, max_size=2),
    st.sampled_from(["lru", "fifo"]),
)
def test_gains_lead_from_the_replay_to_the_surface(
    small: Small, hbm: int, tiers: list[tuple[int, str]], policy: str
) -> None:
    forest = prefixsim.compile(small.trace())
    lower = "+".join(f"t{k}:{size}{rule}" for k, (size, rule) in enumerate(tiers))
    result = prefixsim.replay(
        forest, block_size=1, num_blocks=hbm, lower_tiers=lower, hbm_policy=policy
    )
    hits = result.summary["hit_tokens"]
    for step in surface_gap(result):
        hits += step.gained_tokens
        assert hits == step.hit_tokens
    sizes = [hbm, *(size for size, _ in tiers)]
    exclusive = all(rule == ":exclusive" for _, rule in tiers)
    whole = sum(sizes) if exclusive else max(sizes)
    assert hits == prefixsim.curve(forest, block_size=1).at(whole).hit_tokens


@settings(max_examples=40)
@given(small_traces(), st.integers(1, 4), st.sampled_from(RULES), st.sampled_from([None, 5.0]))
def test_hits_and_losses_by_tier_add_up(
    small: Small, hbm: int, rule: str, rate: float | None
) -> None:
    result = prefixsim.replay(
        small.trace(), block_size=1, num_blocks=hbm, prefill_rate=rate, bytes_per_token=1.0,
        lower_tiers=f"dram:6{rule}:bandwidth=1B:latency=1s",
    )  # fmt: skip
    fall = result.waterfall()
    assert sum(fall.hit_tiers.values()) == fall.totals["hit"]
    assert sum(fall.evicted_causes.values()) == fall.totals["evicted"]
    classes = fall.to_dict()["classes"]
    assert classes["hit"]["tier_tokens"] == fall.hit_tiers
    assert classes["evicted"]["cause_tokens"] == fall.evicted_causes


@pytest.fixture
def rare() -> Trace:
    """Two chats of three blocks; each comes back after the other."""
    return Trace.from_prompts([range(48), range(100, 148), range(48), range(100, 148)], name="two")


def test_what_a_threshold_kept_out_is_said(rare: Trace) -> None:
    result = prefixsim.replay(rare, num_blocks=3, lower_tiers="dram:9:uses=2")
    text = plain(waterfall_tables(result.waterfall()))
    assert "  too rare" in text and "used too seldom for a lower tier" in text
    assert "rarely used blocks are written too" in text
    assert result.waterfall().to_dict()["surface_gap"][0]["gained_tokens"] == 64


def test_the_surfaces_own_rules_leave_nothing_to_tell(rare: Trace) -> None:
    for rule in ("", ":exclusive"):
        result = prefixsim.replay(rare, num_blocks=3, lower_tiers=f"dram:9{rule}")
        assert gap_tables(result) == []
        assert "surface_gap" not in result.waterfall().to_dict()
    assert surface_gap(prefixsim.replay(rare, num_blocks=4)) == []


def test_the_best_policy_has_the_room_of_all_tiers(rare: Trace) -> None:
    """With three blocks no policy could keep both chats, with six every one does."""
    alone = prefixsim.replay(rare, engine="tiers", num_blocks=3).waterfall()
    below = prefixsim.replay(rare, num_blocks=3, lower_tiers="dram:6:uses=9").waterfall()
    assert alone.evicted_capacity > 0 == below.evicted_capacity
