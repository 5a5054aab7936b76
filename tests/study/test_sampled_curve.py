"""Curves of samples, beside the exact ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.study.capacities import spaced_capacities
from prefixsim.study.sampled_curve import SampledCurve, sample_curve, sampling_units
from prefixsim.trace import Trace
from tests.oracle import forest as oracle
from tests.strategies import Small, small_traces


@pytest.fixture(scope="module")
def chats() -> Trace:
    """Sessions of five turns, all behind one long prefix, 40 of them at a time."""
    rng = np.random.default_rng(5)
    rows = []
    for session in range(600):
        text = [*range(16), *(1000 + 50 * session + np.arange(50))]
        start = rng.uniform(0, 600)
        rows += [(start + turn * rng.uniform(2, 8), text[: 22 + 7 * turn]) for turn in range(5)]
    rows.sort(key=lambda row: row[0])
    return Trace.from_prompts([text for _, text in rows], timestamp=[time for time, _ in rows])


def estimate(trace: Trace, **options: object) -> SampledCurve:
    given = {"rate": 0.4, "engine": "ideal", "block_size": 1, **options}
    return sample_curve(trace, **given)  # type: ignore[arg-type]


def test_intervals_hold_the_exact_rates(chats: Trace) -> None:
    exact = prefixsim.curve(chats, block_size=1)
    capacity = [1500, 2500, 4000, exact.unique_blocks]
    held = []
    for seed in range(8):
        found = estimate(chats, capacity=capacity, seed=seed)
        for point in found.points:
            true = exact.hit_rate(point.capacity_blocks)
            assert abs(point.token_hit_rate - true) < 0.08
            held.append(point.low - 1e-9 <= true <= point.high + 1e-9)
        assert found.ceiling == exact.ceiling
        assert found.points[-1].token_hit_rate == pytest.approx(exact.ceiling)
    assert np.mean(held) > 0.7


def test_an_engine_of_slots(chats: Trace) -> None:
    found = estimate(chats, engine="block-manager", block_size=2, capacity=[2000, 3000])
    for point in found.points:
        whole = prefixsim.replay(
            chats, engine="block-manager", block_size=2, num_blocks=point.capacity_blocks
        )
        assert abs(point.token_hit_rate - whole.summary["token_hit_rate"]) < 0.08
    made = json.loads(found.to_json())
    assert set(made) == {"trace", "provenance", "block_size", "ceiling", "kept", "points"}
    assert set(made["points"][0]) == {
        "capacity_blocks", "token_hit_rate", "low", "high", "scaled_prompts",
    }  # fmt: skip
    assert made["provenance"]["config"]["rate"] == 0.4
    assert len(made["kept"]) == 4
    assert found.to_arrow()["capacity_blocks"].to_pylist() == [2000, 3000]
    assert "95 % interval" in found._repr_html_()
    again = estimate(chats, engine="block-manager", block_size=2, capacity=[2000, 3000])
    assert again.points == found.points


@settings(max_examples=40)
@given(small_traces(), st.integers(1, 2))
def test_units_share_nothing_but_what_all_share(small: Small, size: int) -> None:
    assume(any(small.prompts))
    units, shared = sampling_units(prefixsim.compile(small.trace()), size)
    requests = oracle.requests_of(small.prompts, size, salts=small.salts)
    # Fewer than a hundred requests: every token prefix of two or more is shared.
    tokens = oracle.requests_of(small.prompts, 1, salts=small.salts)
    users: dict[oracle.Block, int] = {}
    for request in tokens:
        for block in request.blocks:
            users[block] = users.get(block, 0) + 1
    blocks = {block for request in requests for block in request.blocks}
    assert shared == sum(users[block] > 1 for block in blocks)
    for i, one in enumerate(tokens):
        for j, other in enumerate(tokens[:i]):
            if units[i] == units[j]:
                continue
            common = set(one.blocks) & set(other.blocks)
            assert all(users[block] > 1 for block in common)


def test_few_prompts_are_refused_or_doubted(chats: Trace) -> None:
    with pytest.raises(InputError, match="fewer than 10 mean prompts"):
        estimate(chats, capacity=[300])
    with pytest.raises(InputError, match="give a larger sample"):
        estimate(chats[:20])
    assert "fewer than 100 mean prompts" in str(estimate(chats, capacity=[2000]).doubts)
    assert estimate(chats, capacity=[20_000], rate=0.9).doubts is None
    defaults = [point.capacity_blocks for point in estimate(chats).points]
    assert defaults == [2000, 5000, 10_000, 20_000, prefixsim.compile(chats).unique_blocks(1)]
    with pytest.raises(InputError, match="no prompt has a full block"):
        estimate(Trace.from_prompts([[1], [2]]), block_size=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "above 0 and below 1"),
        ({"rate": 1.0}, "above 0 and below 1"),
        ({"samples": 1}, "one tells nothing of its error"),
        ({"samples": 21}, "give 2 to 20"),
        ({"capacity": []}, "give one or more"),
        ({"capacity": [0]}, "at least 1"),
        ({"engine": "vllm"}, "has time"),
        ({"rate": 1e-9, "capacity": [10**13]}, "keeps no request"),
    ],
)
def test_what_is_refused(chats: Trace, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate(chats, **options)


def test_capacities_evenly_spaced() -> None:
    assert spaced_capacities(1000, 4) == [1, 10, 100, 1000]
    assert spaced_capacities(3, 10) == [1, 2, 3]
    assert spaced_capacities(0, 5) == [1]
