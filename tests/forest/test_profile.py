from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from prefixsim import _core
from prefixsim.forest import compile  # noqa: A004
from prefixsim.trace import Trace
from tests.oracle import forest as oracle
from tests.strategies import Small, small_traces


def longest(small: Small) -> int:
    return max((len(p) for p in small.prompts), default=0)


def weighted(pair: tuple[np.ndarray, np.ndarray]) -> list[float]:
    values, weights = pair
    return sorted(np.repeat(values, weights.astype(np.intp)).tolist())


def requests_of(
    small: Small, block_size: int, *, rule: bool, outputs: bool
) -> list[oracle.Request]:
    """A small trace as the oracle reads it."""
    return oracle.requests_of(
        small.prompts,
        block_size,
        salts=small.salts,
        outputs=small.outputs if outputs else None,
        last_token_rule=rule,
    )


@given(small_traces(), st.booleans(), st.booleans())
def test_lru_equals_the_oracle_everywhere(small: Small, rule: bool, outputs: bool) -> None:
    forest = compile(small.trace(), outputs=outputs)
    for b in range(1, longest(small) + 2):
        requests = requests_of(small, b, rule=rule, outputs=outputs)
        profile = forest.profile(b)
        for capacity in [*range(1, profile.unique_blocks + 2), None]:
            expected = oracle.lru(requests, capacity, small.times)
            for residency in (False, True):
                got = profile.replay("lru", capacity, last_token_rule=rule, residency=residency)
                assert got["hit_blocks"].tolist() == [
                    min(hit, r.full) for hit, r in zip(expected.hits, requests, strict=True)
                ]
                assert got["evictions"] == expected.evictions
            assert weighted(got["lifetime_s"]) == sorted(expected.lifetimes)
            assert weighted(got["idle_s"]) == sorted(expected.idle)


@given(small_traces(), st.booleans(), st.booleans())
def test_curve_is_the_replay_at_every_capacity(small: Small, rule: bool, outputs: bool) -> None:
    forest = compile(small.trace(), outputs=outputs)
    for b in range(1, longest(small) + 2):
        profile = forest.profile(b)
        curve = profile.curve()
        capacities = np.arange(1, profile.unique_blocks + 3, dtype=np.uint64)
        replays = [profile.replay("lru", int(c), last_token_rule=rule) for c in capacities]
        hits = [int(r["hit_blocks"].sum()) for r in replays]
        assert curve.hit_blocks(capacities, last_token_rule=rule).tolist() == hits
        assert curve.evictions(capacities).tolist() == [r["evictions"] for r in replays]
        ceiling = int(profile.replay("lru", None, last_token_rule=rule)["hit_blocks"].sum())
        assert curve.ceiling(last_token_rule=rule) == ceiling
        for wanted in range(ceiling + 1):
            got = curve.capacity_for(wanted, last_token_rule=rule)
            assert got == (
                0 if wanted == 0 else 1 + next(i for i, h in enumerate(hits) if h >= wanted)
            )
        assert curve.capacity_for(ceiling + 1, last_token_rule=rule) is None


@given(small_traces(), st.booleans(), st.booleans())
def test_clairvoyant_equals_the_oracle(small: Small, rule: bool, outputs: bool) -> None:
    forest = compile(small.trace(), outputs=outputs)
    for b in range(1, longest(small) + 2):
        requests = requests_of(small, b, rule=rule, outputs=outputs)
        profile = forest.profile(b)
        for capacity in [*range(1, profile.unique_blocks + 2), None]:
            expected = oracle.clairvoyant(requests, capacity)
            got = profile.replay("clairvoyant", capacity, last_token_rule=rule)
            assert got["hit_blocks"].tolist() == [
                min(hit, r.full) for hit, r in zip(expected.hits, requests, strict=True)
            ]
            assert got["evictions"] == expected.evictions


@given(small_traces())
def test_clairvoyant_is_never_worse_than_lru(small: Small) -> None:
    forest = compile(small.trace())
    for b in range(1, longest(small) + 2):
        profile = forest.profile(b)
        for capacity in range(1, profile.unique_blocks + 2):
            best = profile.replay("clairvoyant", capacity, last_token_rule=False)
            lru = profile.replay("lru", capacity, last_token_rule=False)
            assert best["hit_blocks"].sum() >= lru["hit_blocks"].sum()


@given(small_traces(max_requests=7, max_salts=1), st.integers(1, 5))
def test_clairvoyant_is_the_best_there_is(small: Small, capacity: int) -> None:
    requests = oracle.requests_of(small.prompts, 1, salts=small.salts, last_token_rule=False)
    assume(len({b for r in requests for b in r.blocks}) <= 12)
    profile = compile(small.trace()).profile(1)
    hits = int(profile.replay("clairvoyant", capacity, last_token_rule=False)["hit_blocks"].sum())
    assert hits == oracle.best_hits(requests, capacity)


@given(small_traces(), st.data())
def test_gaps_and_hit_counts_of_any_hits(small: Small, data: st.DataObject) -> None:
    profile = compile(small.trace()).profile(data.draw(st.integers(1, 3)))
    requests = oracle.requests_of(
        small.prompts, profile.block_size, salts=small.salts, last_token_rule=False
    )
    hits = [data.draw(st.integers(0, most)) for most in profile.reusable_blocks.tolist()]
    column = np.asarray(hits, np.uint32)
    request, previous, blocks = profile.gaps(column)
    got = [
        pair
        for *pair, weight in zip(request.tolist(), previous.tolist(), blocks.tolist(), strict=True)
        for _ in range(weight)
    ]
    assert [tuple(pair) for pair in got] == oracle.gaps(requests, hits)
    counts = zip(*(a.tolist() for a in profile.hit_counts(column)), strict=True)
    assert dict(counts) == oracle.counts(requests, hits)


@given(small_traces(), st.booleans())
def test_sweep_equals_single_replays(small: Small, rule: bool) -> None:
    trace = small.trace()
    forest = compile(trace)
    profiles = [forest.profile(b) for b in (1, 2, 3)]
    jobs = [
        (p, policy, capacity)
        for p in range(3)
        for policy in ("lru", "clairvoyant")
        for capacity in (1, 4, None)
    ]
    totals = _core.sweep(profiles, jobs, trace.prompt_len, last_token_rule=rule)
    for (p, policy, capacity), got in zip(jobs, totals, strict=True):
        single = profiles[p].replay(policy, capacity, last_token_rule=rule)
        hits = single["hit_blocks"]
        expected = (hits.sum(), hits.sum() * (p + 1), (hits > 0).sum(), single["evictions"])
        assert got == expected


def test_the_worked_example_of_the_definitions() -> None:
    prompts = [list(map(ord, p)) for p in ("abcde", "abcd", "xyzw", "abcdefg")]
    profile = compile(Trace.from_prompts(prompts)).profile(2)
    run = profile.replay("lru", 3)
    assert run["hit_blocks"].tolist() == [0, 1, 0, 1]
    assert run["evictions"] == 3
    request, previous, _ = profile.gaps(run["hit_blocks"])
    assert (request - previous).tolist() == [1, 2]
    counts, weights = profile.hit_counts(run["hit_blocks"])
    assert (counts.tolist(), weights.tolist()) == ([0, 2], [4, 1])
    assert (int(profile.full_blocks.sum()), profile.unique_blocks) == (9, 5)


def test_impossible_arguments_are_named() -> None:
    profile = compile(Trace.from_prompts([[1, 2], [1, 2, 3]])).profile(1)
    with pytest.raises(ValueError, match="capacity of 0 blocks"):
        profile.replay("lru", 0)
    with pytest.raises(ValueError, match="capacity of 0 blocks"):
        profile.replay("clairvoyant", 0)
    with pytest.raises(ValueError, match="1 rows given, but the trace has 2 requests"):
        profile.gaps(np.zeros(1, np.uint32))
    with pytest.raises(ValueError, match="request 0 hits 1 blocks, but only 0"):
        profile.gaps(np.array([1, 0], np.uint32))
    with pytest.raises(ValueError, match="request 1 has 3 blocks, not 4"):
        profile.hit_counts(np.array([0, 4], np.uint32))
    with pytest.raises(ValueError, match="choose from lru, clairvoyant"):
        _core.sweep([profile], [(0, "mru", 1)], np.array([2, 3], np.uint32))
    with pytest.raises(ValueError, match="bounds have to ascend"):
        profile.working_set(np.array([2, 1], np.uint32))


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 6)), max_size=30))
def test_weighted_summary_is_that_of_the_repeated_values(pairs: list[tuple[float, int]]) -> None:
    values = np.array([v for v, _ in pairs], np.float64)
    weights = np.array([w for _, w in pairs], np.uint64)
    repeated = np.repeat(values, weights.astype(np.intp))
    got = _core.weighted_summary(values, weights)
    if len(repeated) == 0:
        assert set(got.values()) == {None}
        return
    expected = {
        "mean": repeated.mean(),
        "median": np.median(repeated),
        "min": repeated.min(),
        "max": repeated.max(),
        "p90": np.percentile(repeated, 90),
        "p99": np.percentile(repeated, 99),
    }
    assert got == pytest.approx(expected, rel=1e-9, abs=1e-6)
