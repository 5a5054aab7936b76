"""The order of a batch, beside every other order."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.study.reorder import depth_first, in_order
from prefixsim.trace import Trace
from tests.oracle import forest as oracle
from tests.strategies import Small, small_traces


@settings(max_examples=40)
@given(small_traces(max_requests=5), st.booleans(), st.integers(1, 2))
def test_no_order_hits_more_at_any_capacity(small: Small, rule: bool, size: int) -> None:
    assume(any(small.prompts))
    order = depth_first(prefixsim.compile(small.trace())).tolist()
    assert sorted(order) == list(range(len(order)))
    requests = oracle.requests_of(small.prompts, size, salts=small.salts, last_token_rule=rule)
    longest = max(len(request.blocks) for request in requests)
    everything = sum(oracle.lru([requests[i] for i in order], None).hits)
    for capacity in range(1, longest + 3):
        own = sum(oracle.lru([requests[i] for i in order], capacity).hits)
        best = max(
            sum(oracle.lru([requests[i] for i in other], capacity).hits)
            for other in permutations(range(len(requests)))
        )
        assert own == best
        if capacity >= longest:
            assert own == everything
    assert everything == max(
        sum(oracle.lru([requests[i] for i in other], None).hits)
        for other in permutations(range(len(requests)))
    )


@settings(max_examples=25)
@given(small_traces(max_requests=8), st.integers(1, 9), st.booleans())
def test_the_gain_is_that_of_replays(small: Small, capacity: int, rule: bool) -> None:
    assume(any(small.prompts))
    trace = small.trace()
    found = prefixsim.reorder(
        trace, engine="ideal", block_size=1, num_blocks=capacity, last_token_rule=rule, shuffles=1
    )
    requests = oracle.requests_of(small.prompts, 1, salts=small.salts, last_token_rule=rule)
    shuffled = np.random.default_rng(0).permutation(len(trace))
    orders = [range(len(trace)), found.order.tolist(), shuffled.tolist()]
    hits = [sum(oracle.lru([requests[i] for i in order], capacity).hits) for order in orders]
    assert [run.hit_tokens for run in found.runs] == hits
    unlimited = oracle.lru([requests[i] for i in found.order], None)
    assert found.best_hit_tokens == sum(unlimited.hits)
    assert found.longest_blocks == max(len(request.blocks) for request in requests)
    assert found.is_best == (hits[1] == sum(unlimited.hits))


TRACE = Trace.from_prompts(
    [range(64), range(900, 964), range(80), range(900, 980), range(64)], name="batch"
)


def test_what_is_told() -> None:
    found = prefixsim.reorder(TRACE, engine="ideal", num_blocks=5, shuffles=2)
    assert found.order.tolist() == [0, 4, 2, 1, 3]
    assert found.reordered.timestamp.tolist() == TRACE.timestamp.tolist()
    assert found.reordered.prompt_len.tolist() == [64, 64, 80, 64, 80]
    made = json.loads(found.to_json())
    assert set(made) == {
        "trace", "provenance", "best_hit_tokens", "best_token_hit_rate", "is_best",
        "longest_blocks", "runs",
    }  # fmt: skip
    assert [run["order"] for run in made["runs"]] == [
        "arrival", "depth first", "shuffle 1", "shuffle 2",
    ]  # fmt: skip
    assert made["runs"][1]["hit_tokens"] == made["best_hit_tokens"] == 48 + 64 + 64
    assert made["provenance"]["config"]["shuffles"] == 2
    assert found.to_arrow()["computed_tokens"].to_pylist()[1] == TRACE.prompt_tokens - 176
    assert "shuffled, mean of 2" in found._repr_html_()
    assert "in any cache (reached)" in found._repr_html_()


@pytest.mark.parametrize("engine", ["ideal", "block-manager", "vllm"])
def test_every_engine_takes_the_order(engine: str) -> None:
    found = prefixsim.reorder(TRACE, engine=engine, num_blocks=7, shuffles=0)
    assert found.config["engine"] == engine
    assert found.runs[1].hit_tokens >= found.runs[0].hit_tokens


def test_texts_are_tokenized() -> None:
    texts = Trace.from_texts(["one two three " * 20, "four " * 40, "one two three " * 20])
    found = prefixsim.reorder(texts, model="demo", shuffles=0)
    assert found.order.tolist() in ([0, 2, 1], [1, 0, 2])
    assert in_order(texts, found.order).kind == "text"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shuffles": -1}, "give numbers of at least 0"),
        ({"num_blocks": 0}, "num_blocks"),
        ({"nothing": 1}, "nothing"),
    ],
)
def test_what_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prefixsim.reorder(TRACE, **options)  # type: ignore[arg-type]


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(InputError, match="has no requests"):
        prefixsim.reorder(Trace.from_prompts([]))
