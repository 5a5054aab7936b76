"""vLLM's host tier and its readable counterpart, side by side; and bad input."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import prefixsim
from tests.engines.recorded_offload_operations import Core
from tests.oracle.offload import HostTier

KEYS = [[10 * family + i for i in range(6)] for family in range(4)]


class AgainstOracle(RuleBasedStateMachine):
    """Random operations on the core and on the oracle; the whole state after each."""

    @initialize(
        policy=st.sampled_from(["lru", "arc"]),
        chunks=st.integers(1, 12),
        threshold=st.sampled_from([0, 0, 1, 2, 3]),
        tracker=st.sampled_from([1, 4, 64]),
    )
    def start(self, policy: str, chunks: int, threshold: int, tracker: int) -> None:
        config = (policy, chunks, threshold, tracker)
        self.core, self.oracle = Core(*config), HostTier(*config)
        self.requests: list[list[int]] = []
        self.loads: list[list[int]] = []
        self.stores: list[list[int]] = []

    def both(self, name: str, *args: Any, **kwargs: Any) -> Any:
        results = [getattr(tier, name)(*args, **kwargs) for tier in (self.core, self.oracle)]
        assert results[0] == results[1], (name, args)
        assert self.core.state() == self.oracle.state(), (name, args)
        return results[0]

    @rule(family=st.integers(0, 3), count=st.integers(1, 6), positioned=st.booleans())
    def new(self, family: int, count: int, positioned: bool) -> None:
        keys = KEYS[family][:count]
        places = {key: 16 * (i + 1) for i, key in enumerate(keys)} if positioned else {}
        self.both("new", len(self.requests), places)
        self.requests.append(keys)

    def part(self, data: st.DataObject) -> tuple[int, list[int]]:
        request = data.draw(st.integers(0, len(self.requests) - 1))
        keys = self.requests[request]
        start = data.draw(st.integers(0, len(keys) - 1))
        return request, keys[start : data.draw(st.integers(start + 1, len(keys)))]

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def store(self, data: st.DataObject) -> None:
        request, keys = self.part(data)
        found = self.both("prepare_store", request, keys)
        if found is not None and found[0]:
            self.stores.append(found[0])

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        request, keys = self.part(data)
        ready = [key for key in keys if self.both("lookup", key) == "hit"]
        if ready:
            self.both("prepare_load", request, ready)
            self.loads.append(ready)

    @precondition(lambda self: self.stores)
    @rule(data=st.data(), ok=st.sampled_from([True, True, False]))
    def stored(self, data: st.DataObject, ok: bool) -> None:
        at = data.draw(st.integers(0, len(self.stores) - 1))
        self.both("complete_store", self.stores.pop(at), ok=ok)

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def loaded(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.loads) - 1))
        self.both("complete_load", self.loads.pop(at))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        self.both("touch", self.part(data)[1])

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.both("finish", self.part(data)[0])

    @rule()
    def reset(self) -> None:
        self.both("reset")
        self.loads.clear()
        self.stores.clear()


AgainstOracle.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstOracle = AgainstOracle.TestCase


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"num_chunks": 0}, "num_chunks is 0, it must be positive"),
        ({"num_chunks": 1, "eviction_policy": "fifo"}, "choose lru or arc"),
        ({"num_chunks": 1, "max_tracker_size": 0}, "max_tracker_size is 0"),
    ],
)
def test_an_impossible_tier_is_refused(arguments: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        prefixsim.OffloadManager(**arguments)


def test_wrong_calls_are_refused_and_change_nothing() -> None:
    tier = prefixsim.OffloadManager(4)
    tier.add_request("a", [1, 2], [16, 32])
    tier.prepare_store("a", [1])
    before = tier.state()
    wrong: list[tuple[str, Any]] = [
        ("there already", lambda: tier.add_request("a", [1])),
        ("3 is there twice", lambda: tier.add_request("b", [3, 3])),
        ("one for each key, ascending", lambda: tier.add_request("b", [3, 4], [16])),
        ("one for each key, ascending", lambda: tier.add_request("b", [3, 4], [16, 16])),
        ('"b": it is not known', lambda: tier.prepare_store("b", [1])),
        ("7: it is not known", lambda: tier.finish(7)),
        ("2 is there twice", lambda: tier.prepare_store("a", [2, 2])),
        ("a chunk is not there", lambda: tier.prepare_load("a", [1])),
        ("nobody reads", lambda: tier.complete_load([1])),
    ]
    for problem, call in wrong:
        with pytest.raises(ValueError, match=problem):
            call()
        assert tier.state() == before
    assert len(tier) == 1
    assert repr(tier) == "<OffloadManager: 1 of 4 chunks>"
