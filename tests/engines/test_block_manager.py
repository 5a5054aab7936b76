"""The BlockManager: recorded operations of vLLM, a differential test, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import prefixsim
from tests.engines.recorded_operations import replay_edges, replay_fuzz
from tests.golden import cases, read_json
from tests.oracle.block_manager import BlockManager as Oracle
from tests.oracle.block_manager import Request


def test_operations_recorded_from_vllm(data: Path) -> None:
    recorded = read_json(data / "vllm" / "fuzz_ops.json.gz")
    assert len(recorded["seqs"]) == 12
    for sequence in recorded["seqs"]:
        replay_fuzz(sequence, recorded["hash_algo"])


@pytest.mark.parametrize("path", cases("vllm", "fuzz_ops*.json.gz"))
def test_golden_vllm_operations(path: Path) -> None:
    recorded = read_json(path)
    assert recorded["seqs"]
    operations = sum(replay_fuzz(s, recorded["hash_algo"]) for s in recorded["seqs"])
    assert operations > 20 * len(recorded["seqs"])


@pytest.mark.parametrize("path", cases("vllm", "edge_trace*.jsonl"))
def test_golden_vllm_edge_trace(path: Path) -> None:
    replay_edges([json.loads(line) for line in path.read_text().splitlines()])


def test_a_tampered_operation_fails(data: Path) -> None:
    recorded = read_json(data / "vllm" / "fuzz_ops.json.gz")
    _, state = recorded["seqs"][0]["ops"][-1]
    state["free"].reverse()
    with pytest.raises(AssertionError):
        replay_fuzz(recorded["seqs"][0], recorded["hash_algo"])


def test_edge_trace_recorded_from_vllm(data: Path) -> None:
    lines = (data / "vllm" / "edge_trace.jsonl").read_text().splitlines()
    assert len(lines) == 42
    replay_edges([json.loads(line) for line in lines])


class AgainstOracle(RuleBasedStateMachine):
    """Random operations on the Rust manager and on the oracle, side by side."""

    @initialize(
        num_blocks=st.integers(2, 24),
        block_size=st.integers(1, 5),
        caching=st.sampled_from([True, True, True, False]),
        window=st.none() | st.integers(2, 12),
        retention=st.none() | st.integers(0, 3),
        batch_tokens=st.none() | st.integers(1, 12),
        max_model_len=st.sampled_from([2**32 - 1, 9]),
    )
    def start(  # noqa: PLR0917
        self,
        num_blocks: int,
        block_size: int,
        caching: bool,
        window: int | None,
        retention: int | None,
        batch_tokens: int | None,
        max_model_len: int,
    ) -> None:
        retention = None if retention is None else retention * block_size
        self.core = prefixsim.BlockManager(
            num_blocks,
            block_size,
            caching,
            sliding_window=window,
            retention_interval=retention,
            max_num_batched_tokens=batch_tokens,
            max_model_len=max_model_len,
        )
        self.oracle = Oracle(
            num_blocks,
            block_size,
            caching=caching,
            window=window or 0,
            retention=retention,
            batch_tokens=batch_tokens,
            max_model_len=max_model_len,
        )
        self.requests: dict[int, Request] = {}
        self.next_id = 0
        self.max_model_len = max_model_len

    @rule(
        tokens=st.lists(st.integers(0, 1), min_size=1, max_size=9),
        repeat=st.integers(1, 3),
        salt=st.sampled_from([None, None, "t"]),
        chunk=st.none() | st.integers(1, 8),
        must_fit=st.booleans(),
    )
    def allocate(
        self, tokens: list[int], repeat: int, salt: str | None, chunk: int | None, must_fit: bool
    ) -> None:
        tokens = (tokens * repeat)[: self.max_model_len]
        request = Request(list(tokens), salt)
        hits = self.oracle.lookup(request)
        hit_tokens = len(hits) * self.oracle.bs
        assert self.core.lookup(tokens, salt=salt) == hit_tokens
        n = min(chunk or len(tokens), len(tokens) - hit_tokens)
        expected = self.oracle.allocate(request, n, hits, must_fit=must_fit)
        got = self.core.allocate(self.next_id, tokens, n, must_fit=must_fit, salt=salt)
        assert (None if got is None else got.slots.tolist()) == expected
        if got is not None:
            assert got.hit_tokens == hit_tokens
            request.computed = hit_tokens + n
            self.requests[self.next_id] = request
        self.next_id += 1

    def pick(self, index: int) -> int:
        return sorted(self.requests)[index % len(self.requests)]

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 99), chunk=st.none() | st.integers(1, 8))
    def extend(self, index: int, chunk: int | None) -> None:
        rid = self.pick(index)
        request = self.requests[rid]
        left = len(request.tokens) - request.computed
        if left == 0:
            with pytest.raises(ValueError, match="0 are left to compute"):
                self.core.extend(rid)
            return
        n = min(chunk or left, left)
        expected = self.oracle.allocate(request, n, [], must_fit=False, waiting=False)
        got = self.core.extend(rid, n)
        assert (None if got is None else got.tolist()) == expected
        request.computed += n if expected is not None else 0

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 99), tokens=st.lists(st.integers(0, 1), min_size=1, max_size=6))
    def append(self, index: int, tokens: list[int]) -> None:
        rid = self.pick(index)
        request = self.requests[rid]
        if request.computed < request.prompt:
            with pytest.raises(ValueError, match="prompt tokens are computed"):
                self.core.append(rid, tokens)
            return
        if len(request.tokens) + len(tokens) > self.max_model_len:
            return
        request.tokens += tokens
        expected = self.oracle.allocate(request, len(tokens), [], must_fit=False, waiting=False)
        got = self.core.append(rid, tokens)
        assert (None if got is None else got.tolist()) == expected
        request.computed += len(tokens) if expected is not None else 0

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 99))
    def free(self, index: int) -> None:
        rid = self.pick(index)
        self.core.free(rid)
        self.oracle.free(self.requests.pop(rid))

    @rule()
    def reset(self) -> None:
        assert self.core.reset() == self.oracle.reset()

    @rule(slots=st.lists(st.integers(0, 30), max_size=3))
    def evict(self, slots: list[int]) -> None:
        slots = [slot for slot in slots if slot < self.oracle.pool.num_blocks]
        self.core.evict(slots)
        self.oracle.evict(slots)

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "core"):
            return
        self.core.validate()
        pool = self.oracle.pool
        assert self.core.free_queue().tolist() == pool.free
        assert self.core.ref_counts() == {b: n for b, n in pool.refs.items() if n}
        assert sorted(self.core.cached().values()) == sorted(pool.map.values())
        assert self.core.evictions == len(pool.evicted)
        for rid, request in self.requests.items():
            assert self.core.table(rid).tolist() == request.table


AgainstOracle.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
test_against_oracle = AgainstOracle.TestCase


def test_unbounded_cache_never_evicts() -> None:
    manager = prefixsim.BlockManager(None, 4)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 9, n).astype(np.uint32) for n in rng.integers(1, 90, 200)]
    full = 0
    for rid, prompt in enumerate(prompts):
        allocation = manager.allocate(rid, prompt)
        assert allocation is not None
        manager.free(rid)
        full += len(prompt) // 4
    again = [manager.lookup(p) for p in prompts]
    assert again == [(len(p) - 1) // 4 * 4 for p in prompts]
    assert manager.evictions == 0
    assert (manager.num_blocks, manager.num_free, manager.num_used) == (None, None, 0)
    manager.validate()


def test_a_salt_isolates() -> None:
    manager = prefixsim.BlockManager(50, 2)
    tokens = [1, 2, 3, 4, 5]
    for salt in (None, "a", "b"):
        allocation = manager.allocate(str(salt), tokens, salt=salt)
        assert allocation is not None
        assert allocation.hit_tokens == 0
        assert manager.lookup(tokens, salt=salt) == 4
    assert manager.lookup(tokens, lora=("n", "p")) == 0
    assert manager.stats == {"requests": 3, "queries": 15, "hits": 0}


def test_figures() -> None:
    manager = prefixsim.BlockManager(9, 2)
    manager.allocate("a", range(5))
    assert (manager.num_free, manager.num_used, manager.num_cached) == (5, 3, 2)
    assert manager.usage == 3 / 8
    assert manager.requests == ["a"]
    assert repr(manager) == "<BlockManager: 3 of 8 blocks of 2 in use>"


def test_a_failed_allocation_forgets_the_request() -> None:
    manager = prefixsim.BlockManager(4, 2)
    assert manager.allocate("a", range(7)) is None
    assert manager.requests == []
    assert manager.allocate("a", range(7), 4, must_fit=False) is not None
    assert manager.extend("a") is None
    assert manager.table("a").tolist() == [1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.allocate("a", [1]), 'request "a" holds blocks already'),
        (lambda m: m.allocate(3, []), "no tokens"),
        (lambda m: m.allocate(3, [1, -1]), "item 1 is -1"),
        (lambda m: m.allocate(3, [1], 2), "a chunk of 2 tokens, but 1 are left"),
        (lambda m: m.allocate(3, [1], 0), "num_tokens is 0"),
        (lambda m: m.allocate(1.5, [1]), "request_id"),
        (lambda m: m.allocate(2**70, [1]), "request_id"),
        (lambda m: m.lookup([]), "no tokens"),
        (lambda m: m.extend("a"), "0 are left to compute"),
        (lambda m: m.extend("x"), 'request "x" holds no blocks'),
        (lambda m: m.append("x", 1), 'request "x" holds no blocks'),
        (lambda m: m.append("a", []), "no tokens"),
        (lambda m: m.append("a", -1), "token -1"),
        (lambda m: m.append("a", 2**32), "token 4294967296"),
        (lambda m: m.free("x"), 'request "x" holds no blocks'),
        (lambda m: m.table("x"), 'request "x" holds no blocks'),
        (lambda m: m.evict([1, 8]), "slot 8 does not exist"),
    ],
)
def test_bad_calls_are_value_errors_and_change_nothing(call: Any, message: str) -> None:
    manager = prefixsim.BlockManager(8, 4)
    manager.allocate("a", [1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match=message):
        call(manager)
    manager.validate()
    assert manager.table("a").tolist() == [1, 2]
    assert manager.num_cached == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_blocks": 1}, "num_blocks is 1"),
        ({"num_blocks": -4}, "num_blocks is -4"),
        ({"num_blocks": 2**32}, "num_blocks is 4294967296"),
        ({"block_size": 0}, "block_size is 0"),
        ({"hash_algorithm": "md5"}, "choose xxh3"),
        ({"sliding_window": 1}, "at least 2"),
        ({"sliding_window": 8, "retention_interval": 6}, "multiple of the block size 4"),
        ({"max_model_len": 0}, "max_model_len is 0"),
    ],
)
def test_bad_configurations_are_value_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prefixsim.BlockManager(**{"num_blocks": 8, "block_size": 4} | options)


def test_more_tokens_than_the_model_takes_change_nothing() -> None:
    cache = prefixsim.BlockManager(10, 1, max_model_len=1)
    with pytest.raises(ValueError, match="4 tokens are more than max_model_len 1"):
        cache.allocate("a", [1, 2, 3, 4])
    assert cache.requests == []
    assert cache.num_used == 0
    cache.validate()
    cache.allocate("a", [1])
    with pytest.raises(ValueError, match="2 tokens are more than max_model_len 1"):
        cache.append("a", 2)
    cache.validate()
