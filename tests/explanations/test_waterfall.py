"""The loss waterfall: classes are disjoint, add up, and are what an oracle says token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.explanations.waterfall import ALONG, CLASSES, Waterfall, usable_blocks, waterfall
from prefixsim.trace import Ragged, Trace
from tests.oracle.forest import clairvoyant, lru, requests_of
from tests.oracle.waterfall import classes_of
from tests.strategies import Small, small_traces


def explained(trace: Trace, **settings: Any) -> Waterfall:
    return prefixsim.replay(trace, **settings).waterfall()


def along(fall: Waterfall, request: int) -> list[str]:
    edges = fall.edges[request].tolist()
    return [ALONG[k] for k in range(len(ALONG)) for _ in range(edges[k], edges[k + 1])]


@given(
    small_traces(),
    st.integers(1, 5),
    st.none() | st.integers(1, 12),
    st.booleans(),
    st.booleans(),
)
def test_each_token_is_in_the_class_the_oracle_names(
    small: Small, block_size: int, capacity: int | None, outputs: bool, rule: bool
) -> None:
    settings = {"block_size": block_size, "num_blocks": capacity, "last_token_rule": rule}
    fall = explained(small.trace(), engine="lru", cache_outputs=outputs, **settings)
    expected = classes_of(
        small.prompts,
        small.salts,
        block_size,
        capacity,
        outputs=small.outputs if outputs else None,
        last_token_rule=rule,
    )
    assert [along(fall, i) for i in range(len(small.prompts))] == expected
    assert sum(fall.totals.values()) == fall.prompt_tokens == sum(map(len, small.prompts))
    assert list(fall.totals) == list(CLASSES)


@given(small_traces(), st.integers(1, 4), st.integers(1, 8))
def test_evicted_splits_into_policy_and_capacity(
    small: Small, block_size: int, capacity: int
) -> None:
    fall = explained(small.trace(), engine="lru", block_size=block_size, num_blocks=capacity)
    requests = requests_of(small.prompts, block_size, salts=small.salts)
    least, best, most = (
        sum(run.hits) * block_size
        for run in (lru(requests, capacity), clairvoyant(requests, capacity), lru(requests, None))
    )
    assert fall.totals["evicted"] == most - least
    assert (fall.evicted_policy, fall.evicted_capacity) == (best - least, most - best)


@given(
    small_traces(), st.integers(1, 4), st.none() | st.integers(6, 14), st.sampled_from([1, 2, 3])
)
def test_classes_add_up_for_an_engine_with_overlapping_requests(
    small: Small, block_size: int, blocks: int | None, concurrency: int
) -> None:
    trace = small.trace()
    needed = max((len(p) for p in small.prompts), default=0) // block_size + 2
    num_blocks = None if blocks is None else blocks + needed
    fall = explained(
        trace,
        engine="block-manager",
        block_size=block_size,
        num_blocks=num_blocks,
        concurrency=concurrency,
    )
    assert np.array_equal(fall.tokens("hit"), fall.result.outcome.hit_tokens)
    assert sum(fall.totals.values()) == fall.prompt_tokens
    assert 0 <= fall.evicted_policy <= fall.totals["evicted"]
    if num_blocks is None:
        assert fall.totals["evicted"] == 0


@given(small_traces(), st.integers(1, 5), st.integers(1, 8))
def test_a_cause_that_is_switched_off_has_no_class(small: Small, size: int, capacity: int) -> None:
    trace = small.trace()
    infinite = explained(trace, engine="lru", block_size=size)
    assert infinite.totals["evicted"] == infinite.evicted_policy == infinite.evicted_capacity == 0
    tokens = explained(trace, engine="lru", block_size=1, num_blocks=capacity)
    assert tokens.totals["rounding"] == 0
    shared = explained(trace.replace(salt=None), engine="lru", block_size=size, num_blocks=capacity)
    assert shared.totals["isolated"] == 0
    whole = explained(trace, engine="lru", block_size=size, last_token_rule=False)
    assert whole.totals["last_token"] == 0
    for fall in (infinite, tokens, shared, whole):
        assert fall.totals["in_flight"] == fall.totals["preempted"] == 0


@given(small_traces(), st.integers(1, 4), st.integers(1, 8), st.floats(0, 0.9))
def test_warm_up_is_not_counted(small: Small, size: int, capacity: int, warmup: float) -> None:
    settings = {"engine": "lru", "block_size": size, "num_blocks": capacity}
    whole, rest = (explained(small.trace(), warmup=w, **settings) for w in (0.0, warmup))
    assert np.array_equal(whole.edges, rest.edges)
    start = rest.start
    assert rest.totals == {k: int(whole.tokens(k)[start:].sum()) for k in CLASSES}


@given(small_traces(), st.integers(1, 3), st.sampled_from(ALONG[2:]))
def test_losses_by_prefix_request_and_label(small: Small, size: int, name: str) -> None:
    fall = explained(small.trace(), engine="lru", block_size=size, num_blocks=2)
    start, end = fall.stretch(name)
    lost = fall.tokens(name)
    top = fall.top(name, 1000)
    assert sum(loser.tokens for loser in top.requests) == fall.totals[name]
    assert sum(loser.tokens for loser in top.prefixes) == fall.totals[name]
    for losers in (top.requests, top.prefixes, *top.labels.values()):
        assert [x.tokens for x in losers] == sorted((x.tokens for x in losers), reverse=True)
    for loser in top.labels["session"]:
        rows = [i for i, s in enumerate(small.sessions) if s == loser.name]
        assert loser.tokens == lost[rows].sum()
        assert loser.requests == np.count_nonzero(lost[rows])
        assert lost[loser.request] == lost[rows].max()
    # A prefix: every request that goes through it, compared token by token.
    for loser in top.prefixes:
        a, b = (int(x) for x in loser.name.split()[1].split("-"))
        path = small.prompts[loser.request][:b]
        if len(path) < b:  # the example goes on in its output
            continue
        inside = [
            max(0, min(b, int(end[i])) - max(a, int(start[i])))
            for i, prompt in enumerate(small.prompts)
            if prompt[: a + 1] == path[: a + 1]
        ]
        assert loser.tokens == sum(inside)
        assert loser.requests == np.count_nonzero(inside)


def test_remedies_are_replays() -> None:
    rng = np.random.default_rng(5)
    bodies = [rng.integers(0, 50_000, 90).tolist() for _ in range(12)]
    prompts = [bodies[i] for i in rng.integers(0, 12, 200)]
    salts = ["a" if i % 3 else "b" for i in range(200)]
    trace = Trace.from_prompts(prompts, salt=salts)
    fall = explained(trace, engine="lru", block_size=16, num_blocks=40)
    before = fall.totals["hit"]
    for remedy in fall.remedies:
        settings = dict(remedy.settings)
        if settings.pop("policy", None):
            assert remedy.gained_tokens == fall.evicted_policy
            continue
        source = trace
        if "salt" in settings:
            source = trace.replace(salt=settings.pop("salt"))
        again = prefixsim.replay(
            source, **{"engine": "lru", "block_size": 16, "num_blocks": 40, **settings}
        )
        assert remedy.hit_tokens == again.summary["hit_tokens"]
        assert remedy.gained_tokens == remedy.hit_tokens - before
    most = [
        r for r in fall.remedies if "num_blocks" in r.settings and "block_size" not in r.settings
    ]
    assert most[-1].gained_tokens == fall.totals["evicted"]
    assert most[0].gained_tokens * 2 >= fall.totals["evicted"]
    assert {c for r in fall.remedies for c in r.classes} == {
        "isolated", "rounding", "last_token", "evicted",
    }  # fmt: skip


def test_outputs_recover_what_was_cold() -> None:
    first, answer = list(range(32)), list(range(100, 132))
    trace = Trace.from_prompts([first, [*first, *answer, 7]], outputs=[answer, [1]])
    fall = explained(trace, block_size=16)
    assert fall.totals["cold"] == 32 + 33
    remedy = next(r for r in fall.remedies if r.classes == ("cold",))
    assert remedy.gained_tokens == 16  # the answer's last token is never cached


def test_a_partial_block_of_hash_ids_is_rounding() -> None:
    # Two ids of 512 tokens and a last one of 100, in both requests.
    trace = Trace(
        timestamp=np.array([0.0, 1.0]),
        prompt_len=np.array([1124, 1124], dtype=np.uint32),
        output_len=np.zeros(2, dtype=np.uint32),
        prompts=Ragged.from_lists([[1, 2, 3], [1, 2, 3]], np.uint64),
        id_block_size=512,
    )
    fall = explained(trace)
    assert fall.totals["hit"] == 1024
    assert fall.totals["rounding"] == 100
    assert explained(trace, block_size=1024).totals == fall.totals
    kept = explained(trace, partial_blocks=True, last_token_rule=False)
    assert kept.totals["hit"] == 1124


def test_engines_with_time_have_more_classes() -> None:
    trace = Trace.from_prompts([range(64), range(64), range(64)])
    result = prefixsim.replay(trace, block_size=16)
    result.outcome.columns["preempted_tokens"] = np.array([0, 0, 32], dtype=np.uint32)
    result.outcome.hit_tokens[1] = 0
    fall = waterfall(result)
    assert fall.edges[1].tolist() == [0, 0, 0, *[48] * 6, 64, 64, 64, 64]
    assert fall.edges[2].tolist() == [0, 16, 48, *[48] * 6, 64, 64, 64, 64]
    assert fall.totals == {
        "hit": 16, "cold": 64, "isolated": 0, "rounding": 0, "last_token": 32, "alignment": 0,
        "in_flight": 0, "window": 0, "state": 0, "speculative_drop": 0, "evicted": 48,
        "preempted": 32,
    }  # fmt: skip
    assert {"engine": "ideal"} in [r.settings for r in fall.remedies]


def test_a_later_request_may_have_run_first() -> None:
    """The more urgent of two equal prompts came later, and serves the one that came first."""
    shared = [1, 2, 3] * 16
    trace = Trace.from_prompts(
        [[9] * 40, [*shared, 4], [*shared, 5]], output_len=[40, 5, 5], timestamp=[0.0, 0.0, 0.0]
    )
    result = prefixsim.replay(
        trace,
        engine="vllm",
        num_blocks=200,
        max_num_seqs=1,
        scheduling_policy="priority",
        priorities=(0, 5, 1),
        async_scheduling=False,
    )
    assert result.outcome.hit_tokens.tolist() == [0, 48, 0]
    totals = result.waterfall().totals
    assert totals["hit"] == 48
    assert sum(totals.values()) == trace.prompt_tokens


def test_what_cannot_be_explained_is_refused() -> None:
    trace = Trace.from_prompts([range(64), range(64)])
    with pytest.raises(InputError, match="prefix caching is off"):
        explained(trace, enable_caching=False)
    result = prefixsim.replay(trace, block_size=16)
    result.outcome.hit_tokens[0] = 16
    with pytest.raises(InputError, match="request 0 hits 16 tokens"):
        result.waterfall()


def test_usable_blocks_leave_the_null_block_out() -> None:
    trace = Trace.from_prompts([range(9)])
    for engine, blocks, usable in (("ideal", 7, 7), ("block-manager", 7, 6), ("vllm", None, None)):
        result = prefixsim.replay(trace, engine=engine, num_blocks=blocks)
        assert usable_blocks(result) == usable


def test_an_empty_trace() -> None:
    fall = explained(Trace.from_prompts([]))
    assert fall.totals == dict.fromkeys(CLASSES, 0)
    assert fall.to_dict()["top"] == {}
