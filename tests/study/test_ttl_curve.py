"""The curve over the time to live, beside a dictionary of last uses and the policy ``ttl``."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.sizes import parse_seconds, seconds_text
from prefixsim.study.ttl_curve import round_times
from prefixsim.trace import Trace
from tests.oracle import forest as oracle
from tests.strategies import Small, small_traces

gaps = st.lists(st.floats(0, 3, allow_subnormal=False) | st.sampled_from([0.0, 0.1, 0.2, 1.0]))


def hits_of(
    requests: list[oracle.Request], times: list[float], ttl: float, *, renew: bool
) -> tuple[int, float]:
    """Prompt blocks that hit, and block-seconds until the last request: a dictionary of blocks."""
    dead: dict[oracle.Block, float] = {}
    used: dict[oracle.Block, float] = {}
    hits, held = 0, 0.0
    for request, now in zip(requests, times, strict=True):
        hit = 0
        while hit < len(request.blocks) and dead.get(request.blocks[hit], -math.inf) >= now:
            hit += 1
        hits += min(hit, request.limit)
        above = math.inf
        for depth, block in enumerate(request.blocks):
            if renew or depth >= hit:
                dead[block] = now + ttl if renew else min(now + ttl, above)
            above = dead[block]
            held += min(ttl, now - used.get(block, now))
            used[block] = now
    return hits, held + sum(min(ttl, times[-1] - last) for last in used.values())


@given(small_traces(), gaps, st.sampled_from([0.0, 1.7e9]), st.booleans(), st.booleans())
@example(Small([[1], [1]], [[], []], ["", ""], ["a", "b"], [0, 0]), [0.1, 0.2], 0.0, False, True)
def test_every_time_to_live_is_a_replay(
    small: Small, steps: list[float], start: float, rule: bool, outputs: bool
) -> None:
    assume(any(small.prompts))
    count = len(small.prompts)
    times = (start + np.cumsum((steps * count + [1.0] * count)[:count])).tolist()
    forest = prefixsim.compile(small.trace().replace(timestamp=np.array(times)), outputs=outputs)
    requests = oracle.requests_of(
        small.prompts, 1, salts=small.salts, outputs=small.outputs if outputs else None,
        last_token_rule=rule,
    )  # fmt: skip
    curve = prefixsim.ttl_curve(forest, block_size=1, last_token_rule=rule)
    curve.core.validate()
    ages = {b - a for a in times for b in times if b >= a}
    edges = {edge for step in curve.steps() for edge in (step, max(0.0, np.nextafter(step, 0)))}
    every = sorted(map(float, ages | edges | {0.0, 0.15, 1e9}))
    profile = forest.profile(1)
    for seconds in every:
        hits, held = hits_of(requests, times, seconds, renew=True)
        assert curve.blocks_reused(seconds) == hits
        policy = f"ttl:seconds={seconds!r}"
        assert hits == profile.replay(policy, None, last_token_rule=rule)["hit_blocks"].sum()
        assert curve.block_seconds(seconds) == pytest.approx(held, abs=1e-5)
    everything = sum(oracle.lru(requests, None).hits)
    assert curve.blocks_reused(math.inf) == everything
    tokens = max(1, forest.trace.prompt_tokens)
    for wanted in range(1, everything + 1):
        found = curve.ttl_for(wanted / tokens)
        assert found is not None
        assert found in curve.steps()
        assert hits_of(requests, times, found, renew=True)[0] >= wanted
        if found:
            before = float(np.nextafter(found, 0))
            assert hits_of(requests, times, before, renew=True)[0] < wanted
    assert curve.ttl_for(everything / tokens + 0.01) is None
    once = prefixsim.ttl_curve(forest, block_size=1, ttl=every, renew=False, last_token_rule=rule)
    assert [p.blocks_reused for p in once.points] == [
        hits_of(requests, times, seconds, renew=False)[0] for seconds in every
    ]


TRACE = Trace.from_prompts([range(64)] * 3, timestamp=[0, 30, 330], name="three")


def test_points_and_their_names() -> None:
    curve = prefixsim.ttl_curve(TRACE, ttl=[0, 30, 29.5])
    assert [p.hit_tokens for p in curve.points] == [0, 48, 0]
    assert curve.points[1].mean_blocks == 4 * (30 + 30) / 330
    assert curve.block_seconds(math.inf) == 4 * 330
    assert curve.at(math.inf).hit_tokens == 96
    [made] = json.loads(curve.to_json())["curves"]
    assert set(made) == {"policy", "block_size", "ceiling", "unique_blocks", "points"}
    assert set(made["points"][0]) == {
        "ttl_s", "hit_tokens", "blocks_reused", "token_hit_rate", "block_reuse_rate", "mean_blocks",
    }  # fmt: skip
    assert curve.to_arrow()["ttl_s"].to_pylist() == [0.0, 30.0, 29.5]
    assert prefixsim.ttl_curve(TRACE).times == round_times(300.0)
    assert round_times(300.0)[-3:] == [60.0, 120.0, 300.0]
    html = curve._repr_html_()
    assert "mean blocks held" in html and "ceiling 50.00 %" in html
    spec = curve.plot().to_dict()
    assert "time to live (s)" in json.dumps(spec)


def test_what_renewal_alone_can_tell() -> None:
    once = prefixsim.ttl_curve(TRACE, ttl=300, renew=False)
    [point] = once.points
    assert (point.hit_tokens, point.mean_blocks) == (48, None)
    for ask in (once.steps, lambda: once.ttl_for(0.1), lambda: once.block_seconds(1)):
        with pytest.raises(InputError, match="only with renewal on use"):
            ask()


@pytest.mark.parametrize("seconds", [-1, math.nan])
def test_what_is_no_time(seconds: float) -> None:
    with pytest.raises(InputError, match="give seconds of at least 0"):
        prefixsim.ttl_curve(TRACE, ttl=seconds)
    with pytest.raises(InputError, match="give seconds of at least 0"):
        prefixsim.ttl_curve(TRACE).at(seconds)


def test_timestamps_that_go_back_are_refused() -> None:
    back = Trace.from_prompts([[1], [1]], timestamp=[1, 0], name="back")
    with pytest.raises(InputError, match="back: request 1 is earlier"):
        prefixsim.ttl_curve(back)


def test_an_empty_trace_has_a_curve() -> None:
    curve = prefixsim.ttl_curve(Trace.from_prompts([]))
    assert (curve.ceiling, curve.ttl_for(0.0), curve.points[-1].hit_tokens) == (0.0, 0.0, 0)
    assert curve.sampled(10)[-1].hit_tokens == 0


def test_times_as_people_write_them() -> None:
    assert [parse_seconds(text) for text in ("90", " .5s", "2min", "1h", "1d", "inf")] == [
        90, 0.5, 120, 3600, 86400, math.inf,
    ]  # fmt: skip
    for text in ("", "m", "-1", "5 weeks", "1e5", "nan"):
        with pytest.raises(InputError, match="is no time"):
            parse_seconds(text)
    assert [seconds_text(s) for s in (math.inf, 0, 59.5, 90)] == [
        "for ever", "0 s", "59.5 s", "1.5 min",
    ]  # fmt: skip
