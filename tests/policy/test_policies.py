from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixsim import _core
from prefixsim.forest import compile  # noqa: A004
from prefixsim.trace import Trace
from prefixsim.trace.columns import Codes
from tests.oracle import forest, policies
from tests.strategies import Small, small_traces


def sorted_values(pair: tuple[np.ndarray, np.ndarray]) -> list[float]:
    values, weights = pair
    return sorted(np.repeat(values, weights.astype(np.intp)).tolist())


@pytest.mark.parametrize("policy", sorted(policies.POLICIES))
@settings(max_examples=40)
@given(small=small_traces(max_requests=16), rule=st.booleans(), outputs=st.booleans())
def test_policy_equals_its_oracle(policy: str, small: Small, rule: bool, outputs: bool) -> None:
    categories = [len(prompt) % 3 for prompt in small.prompts]
    trace = replace(small.trace(), category=Codes(np.array(categories, np.uint32), ["a", "b", "c"]))
    compiled = compile(trace, outputs=outputs)
    for b in (1, 2, 3):
        requests = forest.requests_of(
            small.prompts,
            b,
            salts=small.salts,
            outputs=small.outputs if outputs else None,
            last_token_rule=rule,
        )
        profile = compiled.profile(b)
        most = profile.unique_blocks + 1
        for capacity in sorted({*range(1, min(most, 8)), 10, most // 2 + 1, most}):
            expected = policies.replay(
                policy, requests, capacity, times=small.times, categories=categories, block_size=b
            )
            for residency in (False, True) if capacity < 4 else (True,):
                got = profile.replay(policy, capacity, last_token_rule=rule, residency=residency)
                assert got["hit_blocks"].tolist() == [
                    min(hit, r.full) for hit, r in zip(expected.hits, requests, strict=True)
                ]
                assert got["evictions"] == expected.evictions
            assert sorted_values(got["lifetime_s"]) == sorted(expected.lifetimes)
            assert sorted_values(got["idle_s"]) == sorted(expected.idle)


@settings(max_examples=40)
@given(small=small_traces(max_requests=16))
def test_no_policy_hits_more_than_the_clairvoyant(small: Small) -> None:
    trace = replace(small.trace(), category=Codes(np.zeros(len(small.prompts), np.uint32), ["a"]))
    profile = compile(trace).profile(1)
    for capacity in range(1, profile.unique_blocks + 2):
        hits = {
            name: int(profile.replay(name, capacity, last_token_rule=False)["hit_blocks"].sum())
            for name in _core.policies()
        }
        assert max(hits.values()) == hits["clairvoyant"], hits


def test_policies_differ_where_they_should() -> None:
    """One prompt used again and again, between others that come once."""
    prompts = [[1, 1], [2, 2]]
    for i in range(20):
        prompts += [[1, 1], [100 + i, 1, 1]]
    profile = compile(Trace.from_prompts(prompts)).profile(1)
    hits = {
        name: int(profile.replay(name, 6, last_token_rule=False)["hit_blocks"].sum())
        for name in _core.policies()
    }
    assert hits["lru"] == hits["clairvoyant"] == 40
    # FIFO lets the prompt go whenever it is the oldest. S3-FIFO loses one block of it once, finds
    # that in the ghost, and keeps it in main from then on.
    assert hits["fifo"] < hits["s3fifo"] == 39


def test_sweep_takes_every_policy_and_names_the_choices() -> None:
    trace = Trace.from_prompts([[1, 2, 3], [1, 2, 3, 4], [9, 9], [1, 2, 3, 4]])
    profile = compile(trace).profile(1)
    jobs = [(0, name, capacity) for name in _core.policies() for capacity in (2, 5, None)]
    rows = _core.sweep([profile], jobs, trace.prompt_len.astype(np.uint32))
    for (_, name, capacity), row in zip(jobs, rows, strict=True):
        alone = profile.replay(name, capacity)
        assert row[0] == alone["hit_blocks"].sum()
        assert row[3] == alone["evictions"]
    with pytest.raises(ValueError, match="choose from lru, clairvoyant, fifo, s3fifo"):
        _core.sweep([profile], [(0, "mru", 3)], trace.prompt_len.astype(np.uint32))
    with pytest.raises(ValueError, match="prompt_len: 1 rows, but 4 requests"):
        _core.sweep([profile], [(0, "lru", 3)], trace.prompt_len[:1].astype(np.uint32))
    with pytest.raises(ValueError, match="leaves open which blocks it drops"):
        profile.replay("clairvoyant", 3, residency=True)
