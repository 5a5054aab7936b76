"""Routers of the core against a fleet that is simulated block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixsim.routing import load_router
from tests.oracle import fleet as plain
from tests.oracle import routing as oracle
from tests.routing.recorded import Recorded

BLOCK = 4


@st.composite
def workloads(draw: st.DrawFn) -> list[plain.Request]:
    """Prompts that begin alike, with text of the same shape, sessions and stays."""
    heads = draw(st.lists(st.lists(st.integers(0, 2), max_size=9), min_size=1, max_size=4))
    requests = []
    for _ in range(draw(st.integers(1, 25))):
        head = heads[draw(st.integers(0, len(heads) - 1))]
        tail = draw(st.lists(st.integers(0, 2), max_size=9))
        tokens = (*head[: draw(st.integers(0, len(head)))], *tail)
        text = "".join("aé日"[t] * 40 for t in tokens)
        hold, key = draw(st.integers(0, 9)), draw(st.sampled_from("xyz"))
        requests.append(plain.Request(tokens, text, hold, key))
    return requests


Made = Callable[[list[plain.Request], int], plain.Router]
RULES: dict[str, tuple[dict[str, Any], Made]] = {
    "round-robin": ({}, oracle.RoundRobin),
    "least-loaded": ({}, oracle.LeastLoaded),
    "sticky": ({}, lambda r, n: oracle.Sticky(r, n, mode="min_load")),
    "sglang-manual": ({}, oracle.Sticky),
    "sticky groups": (
        {"assignment_mode": "min_group"},
        lambda r, n: oracle.Sticky(r, n, mode="min_group"),
    ),
    "sglang-cache-aware": ({}, oracle.CacheAware),
    "sglang-cache-aware tight": (
        {"cache_threshold": 0.5, "balance_abs_threshold": 1, "balance_rel_threshold": 1.1},
        lambda r, n: oracle.CacheAware(r, n, threshold=0.5, difference=1, ratio=1.1),
    ),
    "dynamo": ({}, lambda r, n: oracle.Dynamo(r, n, block=BLOCK)),
    "dynamo generous": (
        {"overlap_score_credit": 3.0},
        lambda r, n: oracle.Dynamo(r, n, block=BLOCK, credit=3),
    ),
    "dynamo-approx": ({}, lambda r, n: oracle.Dynamo(r, n, block=BLOCK, events=False)),
    "llm-d": ({}, oracle.Llmd),
    "production-stack": ({}, oracle.PrefixAware),
    "aibrix": ({}, oracle.Aibrix),
    "aibrix small": (
        {"table_blocks": 50, "imbalance_abs": 2},
        lambda r, n: oracle.Aibrix(r, n, difference=2, most_blocks=50),
    ),
    "greedy": ({}, lambda r, n: oracle.Greedy(r, n, block=BLOCK)),
    "work-oracle": ({}, lambda r, n: oracle.WorkOracle(r, n, block=BLOCK)),
}


def routed(
    requests: list[plain.Request],
    name: str,
    given: dict[str, Any],
    replicas: int,
    **more: Any,
) -> dict[str, Any]:
    router = load_router(name.split(maxsplit=1)[0])
    spec = router.spec(router.settings(**given), replicas)
    trace = Recorded(
        [r.hold for r in requests],
        [r.text for r in requests],
        [np.array(r.tokens, np.uint32) for r in requests],
        [r.key for r in requests],
    )
    fleet = {
        "replicas": replicas, "capacity": None, "block_size": BLOCK, "seed": 0, "ties": "lowest",
        "event_delay": 0, "scaling": [], "seen": True, "index_after": [], "validate": True,
        "choices": None, **more,
    }  # fmt: skip
    (done,) = trace.traffic(0, None).route([spec], fleet)  # type: ignore[list-item]
    return done  # type: ignore[return-value]


def check(done: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        found = done[name]
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == value, name
    regret = sum(wanted["best_hit_tokens"]) - sum(wanted["hit_tokens"])
    assert sum(done["regret_tokens_by_cause"].values()) == regret


@pytest.mark.parametrize("name", RULES)
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_routers_do_as_their_rules_read(name: str, data: st.DataObject) -> None:
    requests = data.draw(workloads())
    replicas = data.draw(st.integers(1, 5))
    capacity = data.draw(st.none() | st.integers(1, 12))
    delay = data.draw(st.sampled_from([0, 0, 1, 3])) if name == "dynamo" else 0
    given, make = RULES[name]
    done = routed(requests, name, given, replicas, capacity=capacity, event_delay=delay)
    check(
        done,
        plain.simulate(requests, make(requests, replicas), capacity, BLOCK, delay=delay),
    )


@pytest.mark.parametrize("capacity", [1, 2, 3, 7])
@given(requests=workloads(), length=st.integers(60, 200))
@settings(deadline=None, max_examples=25)
def test_llmd_with_an_index_that_is_too_small(
    capacity: int, requests: list[plain.Request], length: int
) -> None:
    """Gaps and stale entries: prompts of several router blocks, an index of few."""
    longer = [
        plain.Request(tuple(t for t in r.tokens for _ in range(length)), "", r.hold, r.key)
        for r in requests
    ]
    done = routed(longer, "llm-d", {"index_capacity": capacity}, 3)
    router = oracle.Llmd(longer, 3, capacity=capacity)
    check(done, plain.simulate(longer, router, None, BLOCK))
    blocks = done["notes"].reshape(len(longer), -1)[:, 0]
    assert blocks.tolist() == [len(router.blocks(i)) for i in range(len(longer))]
