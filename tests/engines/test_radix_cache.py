"""The radix cache and its readable counterpart, side by side; and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import prefixsim
from tests.engines.recorded_radix_operations import new_cache, state
from tests.golden import read_json
from tests.oracle.sglang import Request, Tree

POLICIES = ("lru", "lfu", "fifo", "mru", "filo", "priority")
CHOICES = [
    (engine, policy)
    for engine, more in (
        ("unified-0.5.23", ("slru", "tlru")),
        ("radix-0.5.23", ("slru",)),
        ("radix-0.5.16", ("slru",)),
        ("radix-0.5.9", ()),
    )
    for policy in (*POLICIES, *more)
]
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=8)
KEYS = st.sampled_from([None, None, "a", "b"])


def run_oracle(tree: Tree, requests: dict[Any, Request], op: list[Any]) -> int | None:
    match op:
        case ["add", rid, tokens, extra_key, salt, priority]:
            namespace = tree.namespace(extra_key, salt)
            requests[rid] = tree.admit(tokens, namespace, priority)
            return requests[rid].in_tree
        case ["ext", rid, upto, last]:
            tree.extend(requests[rid], upto, last=last)
        case ["dec", rid, token]:
            tree.append(requests[rid], token)
        case ["fin", rid]:
            tree.finish(requests.pop(rid))
        case ["drop", rid]:
            tree.drop(requests.pop(rid))
        case ["match", tokens, extra_key, salt]:
            return tree.match(tokens, tree.namespace(extra_key, salt), len(tokens))[0]
        case ["evict", tokens]:
            tree.evict(tokens)
        case ["reset"]:
            tree.root.children.clear()
            tree.free = tree.capacity
        case _:
            raise AssertionError(op)
    return None


def oracle_of(config: dict[str, Any]) -> Tree:
    return Tree(
        config["engine"],
        config["page_size"],
        config["capacity_tokens"],
        config["policy"],
        **config.get("policy_config", {}),
    )


def test_the_oracle_agrees_with_the_recordings(data: Path) -> None:
    for sequence in read_json(data / "sglang" / "fuzz_ops.json.gz")["seqs"]:
        tree = oracle_of(sequence["config"])
        requests: dict[Any, Request] = {}
        for op, (result, evicted, expected) in zip(
            sequence["ops"], sequence["states"], strict=True
        ):
            tree.evictions.clear()
            assert run_oracle(tree, requests, op) == result
            assert tree.evictions == evicted
            assert tree.state() == expected, op


def test_the_oracle_agrees_with_the_edge_trace(data: Path) -> None:
    trees: dict[str, tuple[Tree, dict[Any, Request]]] = {}
    for line in (data / "sglang" / "edge_trace.jsonl").read_text().splitlines():
        row = json.loads(line)
        tree, requests = trees.setdefault(row["engine"], (Tree(row["engine"], 4, 64), {}))
        tree.evictions.clear()
        assert run_oracle(tree, requests, row["op"]) == row["result"], row["note"]
        assert [tree.evictions, tree.state()] == [row["ev"], row["state"]], row["note"]


class AgainstOracle(RuleBasedStateMachine):
    """Random operations on the core and on the oracle, side by side."""

    @initialize(
        choice=st.sampled_from(CHOICES),
        page=st.sampled_from([1, 1, 2, 3]),
        capacity=st.integers(8, 40),
        threshold=st.integers(0, 6),
    )
    def start(self, choice: tuple[str, str], page: int, capacity: int, threshold: int) -> None:
        engine, policy = choice
        config: dict[str, Any] = {
            "engine": engine,
            "page_size": page,
            "capacity_tokens": capacity,
            "policy": policy,
        }
        if policy == "tlru":
            config["policy_config"] = {"threshold": threshold, "next_prompt_estimate": 1}
        self.core, self.oracle = new_cache(config), oracle_of(config)
        self.requests: dict[int, Request] = {}
        self.next_id = 0

    def a_request(self, data: st.DataObject) -> tuple[int, Request]:
        rid = data.draw(st.sampled_from(sorted(self.requests)))
        return rid, self.requests[rid]

    @rule(tokens=TOKENS, repeat=st.integers(1, 3), key=KEYS, salt=KEYS, priority=st.integers(0, 3))
    def admit(
        self, tokens: list[int], repeat: int, key: str | None, salt: str | None, priority: int
    ) -> None:
        op = ["add", self.next_id, tokens * repeat, key, salt, priority]
        expected = run_oracle(self.oracle, self.requests, op)
        got = self.core.admit(
            self.next_id, tokens * repeat, extra_key=key, cache_salt=salt, priority=priority
        )
        assert got == expected
        self.next_id += 1

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), share=st.integers(1, 8))
    def extend(self, data: st.DataObject, share: int) -> None:
        rid, request = self.a_request(data)
        known = len(request.tokens)
        if request.allocated == known:
            return
        upto = min(request.allocated + share, known)
        if not self.oracle.fits(request, upto):
            assert not self.core.extend(rid, upto)
            return
        self.oracle.extend(request, upto, last=upto == known)
        assert self.core.extend(rid, upto)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), token=st.integers(0, 1))
    def append(self, data: st.DataObject, token: int) -> None:
        rid, request = self.a_request(data)
        if request.allocated != len(request.tokens):
            return
        if not self.oracle.fits(request, request.allocated + 1):
            assert not self.core.append(rid, token)
            return
        self.oracle.append(request, token)
        assert self.core.append(rid, token)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), keep=st.booleans())
    def end(self, data: st.DataObject, keep: bool) -> None:
        rid, _ = self.a_request(data)
        run_oracle(self.oracle, self.requests, ["fin" if keep else "drop", rid])
        (self.core.finish if keep else self.core.retract)(rid)

    @rule(tokens=TOKENS, repeat=st.integers(1, 3), key=KEYS, salt=KEYS)
    def match(self, tokens: list[int], repeat: int, key: str | None, salt: str | None) -> None:
        expected = run_oracle(self.oracle, self.requests, ["match", tokens * repeat, key, salt])
        found = self.core.match(tokens * repeat, extra_key=key, cache_salt=salt)
        assert found.tokens == expected

    @rule(tokens=st.integers(0, 12))
    def evict(self, tokens: int) -> None:
        self.oracle.evict(tokens)
        self.core.evict(tokens)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "core"):
            return
        self.core.validate()
        assert state(self.core) == self.oracle.state()
        got = [[requested, lengths] for requested, lengths in self.core.take_evictions()]
        assert got == self.oracle.evictions
        self.oracle.evictions.clear()


TestAgainstOracle = AgainstOracle.TestCase
TestAgainstOracle.settings = settings(max_examples=150, stateful_step_count=40)


def test_locks_keep_nodes() -> None:
    cache = prefixsim.RadixCache(8)
    assert cache.insert([1, 2, 3, 4]) is not None
    found = cache.match([1, 2, 3, 4])
    assert found.tokens == 4
    cache.lock(found.node)
    assert (cache.evict(4), cache.protected_tokens) == (0, 4)
    assert cache.insert([5, 6, 7, 8, 9]) is None
    cache.unlock(found.node)
    assert cache.insert([5, 6, 7, 8, 9]) is not None
    assert cache.match([1, 2, 3, 4]).tokens == 0
    with pytest.raises(ValueError, match="the node is gone"):
        cache.lock(found.node)
    cache.validate()


def test_an_insertion_does_not_evict_what_it_continues() -> None:
    cache = prefixsim.RadixCache(6)
    assert cache.insert([1, 2, 3]) is not None
    assert cache.insert([7, 8, 9]) is not None
    inserted = cache.insert([1, 2, 3, 4, 5])
    assert inserted is not None
    assert inserted.tokens == 3
    assert cache.match([1, 2, 3, 4, 5]).tokens == 5
    cache.validate()


def test_nothing_is_shared_across_namespaces() -> None:
    cache = prefixsim.RadixCache(None)
    cache.insert([1, 2, 3], extra_key="bc", cache_salt="a")
    assert cache.match([1, 2, 3], extra_key="c", cache_salt="ab").tokens == 0
    joined = prefixsim.RadixCache(None, version="radix-0.5.9")
    joined.insert([1, 2, 3], extra_key="bc", cache_salt="a")
    assert joined.match([1, 2, 3], extra_key="c", cache_salt="ab").tokens == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capacity_tokens": 10, "version": "0.6"}, "choose one of unified-0.5.23"),
        ({"capacity_tokens": 10, "policy": "belady"}, "choose one of lru, lfu"),
        ({"capacity_tokens": 10, "policy": "slru", "version": "radix-0.5.9"}, "does not have it"),
        ({"capacity_tokens": 10, "policy": "tlru", "version": "radix-0.5.23"}, "does not have it"),
        ({"capacity_tokens": 10, "page_size": 16}, "at least a page"),
        ({"capacity_tokens": -1}, "must be positive"),
        ({"capacity_tokens": 10, "page_size": 0}, "must be positive"),
    ],
)
def test_unusable_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prefixsim.RadixCache(**arguments)


def test_calls_out_of_order_are_errors() -> None:
    cache = prefixsim.RadixCache(10)
    with pytest.raises(ValueError, match="not here"):
        cache.finish("a")
    with pytest.raises(ValueError, match="empty"):
        cache.admit("a", [])
    cache.admit("a", [1, 2, 3])
    with pytest.raises(ValueError, match="admitted already"):
        cache.admit("a", [1])
    with pytest.raises(ValueError, match="extend it before"):
        cache.append("a", 4)
    with pytest.raises(ValueError, match="cannot compute up to token 4"):
        cache.extend("a", 4)
    assert not cache.reset()
    with pytest.raises(ValueError, match="was not locked"):
        cache.unlock(cache.match([9]).node)
