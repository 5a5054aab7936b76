"""Whole traces through the manager in one call."""

from __future__ import annotations

import gzip
import json
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim import _core
from prefixsim.trace import Ragged
from tests.golden import cases, read_json
from tests.oracle.block_manager import BlockManager as Oracle
from tests.oracle.block_manager import Request
from tests.strategies import Small, small_traces


def replay(
    prompts: list[Any],
    *,
    block_size: int,
    num_blocks: int | None,
    outputs: list[Any] | None = None,
    salt: list[int] | None = None,
    concurrency: int = 1,
    caching: bool = True,
    timestamp: Any = None,
) -> Any:
    ids = Ragged.from_lists(prompts)
    out = None if outputs is None else Ragged.from_lists(outputs)
    return _core.replay_block_manager(
        ids.offsets,
        ids.values,
        1,
        ids.lengths.astype(np.uint32),
        None if salt is None else np.array(salt, dtype=np.uint32),
        block_size,
        num_blocks,
        caching,
        concurrency,
        None if out is None else out.offsets,
        None if out is None else out.values.astype(np.uint32),
        timestamp,
    )


@pytest.mark.parametrize("path", cases("vllm", "cases/seq_*.json.gz"))
def test_golden_vllm_sequential(path: Path) -> None:
    case = read_json(path)
    lines = gzip.decompress((path.parents[1] / "traces" / case["trace"]).read_bytes()).splitlines()
    trace = [json.loads(line) for line in lines]
    outcome = replay(
        [r["token_ids"] for r in trace],
        outputs=[r["output_token_ids"] for r in trace],
        block_size=case["config"]["block_size"],
        num_blocks=case["config"]["num_gpu_blocks"],
    )
    assert outcome["hit_tokens"].tolist() == [r["hit_tokens"] for r in case["requests"]]
    assert outcome["request_evictions"].tolist() == [r["evictions"] for r in case["requests"]]
    assert outcome["evictions"] == case["totals"]["evictions"]
    assert outcome["cached_end"] == case["totals"]["cached_hashes_end"]


def oracle_replay(
    prompts: list[list[int]],
    outputs: list[list[int]],
    salts: list[int],
    manager: Oracle,
    concurrency: int,
) -> list[int] | None:
    """Hit tokens per request, one a second; ``None`` if a request can never fit."""
    held: deque[Request] = deque()
    hit_tokens = []
    for now, (prompt, output, salt) in enumerate(zip(prompts, outputs, salts, strict=True)):
        manager.pool.now = float(now)
        if len(held) == concurrency:
            manager.free(held.popleft())
        request = Request(list(prompt), salt)
        hits = manager.lookup(request)
        n = len(prompt) - len(hits) * manager.bs
        while manager.allocate(request, n, hits, must_fit=True) is None:
            if not held:
                return None
            manager.free(held.popleft())
        request.computed = len(prompt)
        for token in output[:-1]:
            request.tokens.append(token)
            while manager.allocate(request, 1, [], must_fit=False, waiting=False) is None:
                if not held:
                    return None
                manager.free(held.popleft())
            request.computed += 1
        hit_tokens.append(len(hits) * manager.bs)
        held.append(request)
    return hit_tokens


@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.integers(0, 1), min_size=1, max_size=14),
            st.lists(st.integers(0, 1), max_size=6),
            st.integers(0, 1),
        ),
        min_size=1,
        max_size=25,
    ),
    block_size=st.integers(1, 4),
    num_blocks=st.integers(4, 30),
    concurrency=st.integers(1, 4),
    caching=st.booleans(),
)
def test_against_oracle(
    rows: list[Any], block_size: int, num_blocks: int, concurrency: int, caching: bool
) -> None:
    prompts, outputs, salts = (list(column) for column in zip(*rows, strict=True))
    oracle = Oracle(num_blocks, block_size, caching=caching)
    expected = oracle_replay(prompts, outputs, salts, oracle, concurrency)
    options: dict[str, Any] = {
        "outputs": outputs,
        "salt": salts,
        "block_size": block_size,
        "num_blocks": num_blocks,
        "concurrency": concurrency,
        "caching": caching,
        "timestamp": np.arange(len(rows), dtype=np.float64),
    }
    if expected is None:
        with pytest.raises(ValueError, match="never fit"):
            replay(prompts, **options)
        return
    outcome = replay(prompts, **options)
    assert outcome["hit_tokens"].tolist() == expected
    assert outcome["evictions"] == len(oracle.pool.evicted)
    for i, name in enumerate(("lifetime_s", "idle_s")):
        values, weights = outcome[name]
        ages = np.repeat(values, weights.astype(np.intp))
        assert ages.tolist() == [age[i] for age in oracle.pool.ages]
    assert outcome["cached_end"] == len(oracle.pool.map)


@pytest.mark.parametrize("block_size", [2, 4, 8, 16])
def test_hash_ids_are_the_tokens_they_stand_for(block_size: int) -> None:
    rng = np.random.default_rng(3)
    unit, num_blocks = 4, 2 + 130 // block_size
    lengths = rng.integers(1, 60, 300).astype(np.uint32)
    starts = [list(range(100 * i, 100 * i + 15)) for i in range(4)]
    ids = [starts[rng.integers(4)][: -(-int(n) // unit)] for n in lengths]
    tokens = [
        [int(h) * unit + j for h in row for j in range(unit)][:n]
        for row, n in zip(ids, lengths, strict=True)
    ]
    hashed = Ragged.from_lists(ids, np.uint64)
    got = _core.replay_block_manager(
        hashed.offsets, hashed.values, unit, lengths, None, block_size, num_blocks, True, 2
    )
    expected = replay(tokens, block_size=block_size, num_blocks=num_blocks, concurrency=2)
    assert got["hit_tokens"].tolist() == expected["hit_tokens"].tolist()
    assert got["evictions"] == expected["evictions"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": [[1] * 99]}, "request 0: 99 tokens never fit a cache of 7 blocks"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"block_size": 0}, "block_size is 0"),
        ({"num_blocks": 1}, "num_blocks is 1"),
        ({"salt": [1, 2, 3]}, "salt"),
        ({"outputs": [[1], [2]]}, "outputs"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"prompts": [[1, 2, 3]], "block_size": 4, "num_blocks": 8}
    options |= changes
    with pytest.raises(ValueError, match=message):
        replay(**options)


def test_hash_ids_need_a_fitting_block_size() -> None:
    hashed = Ragged.from_lists([[1, 2]], np.uint64)
    lengths = np.array([8], dtype=np.uint32)
    args = (hashed.offsets, hashed.values, 4, lengths, None)
    with pytest.raises(ValueError, match="ids of 4 tokens"):
        _core.replay_block_manager(*args, 6, None, True, 1)
    with pytest.raises(ValueError, match="do not make a prompt of 9 tokens"):
        too_long = np.array([9], dtype=np.uint32)
        _core.replay_block_manager(*args[:3], too_long, None, 4, None, True, 1)


@given(
    small_traces(),
    st.integers(1, 4),
    st.integers(2, 14) | st.none(),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_the_forest_names_blocks_as_hashes_do(  # noqa: PLR0917 - drawn, not called
    small: Small, block_size: int, num_blocks: int | None, concurrency: int, outputs: bool, on: bool
) -> None:
    trace = small.trace()
    forest = prefixsim.compile(trace, outputs=outputs)
    assert trace.prompts is not None
    assert trace.outputs is not None
    times = None if num_blocks is None else trace.timestamp
    try:
        hashed = _core.replay_block_manager(
            trace.prompts.offsets, trace.prompts.values, 1, trace.prompt_len,
            None if trace.salt is None else trace.salt.codes,
            block_size, num_blocks, on, concurrency,
            trace.outputs.offsets if outputs else None,
            trace.outputs.values.astype(np.uint32) if outputs else None,
            times, len(trace) // 3,
        )  # fmt: skip
    except ValueError as error:
        with pytest.raises(ValueError, match="never fit"):
            _core.replay_forest_blocks(
                forest.core, trace.prompt_len, block_size, num_blocks, on, concurrency,
                output_offsets=trace.outputs.offsets if outputs else None,
            )  # fmt: skip
        assert "never fit" in str(error)
        return
    walked = _core.replay_forest_blocks(
        forest.core, trace.prompt_len, block_size, num_blocks, on, concurrency,
        output_offsets=trace.outputs.offsets if outputs else None,
        timestamp=times, measured_from=len(trace) // 3,
    )  # fmt: skip
    assert hashed.keys() == walked.keys()
    for name, expected in hashed.items():
        np.testing.assert_equal(walked[name], expected, err_msg=name)  # type: ignore[literal-required]


def test_a_forest_of_other_columns_is_refused() -> None:
    trace = prefixsim.Trace.from_prompts([range(20), range(30)], outputs=[[1, 2], [3]])
    forest = prefixsim.compile(trace)
    assert trace.outputs is not None
    with pytest.raises(ValueError, match="1 prompt lengths for 2 requests"):
        _core.replay_forest_blocks(forest.core, trace.prompt_len[:1], 4, 9, True, 1)
    with pytest.raises(ValueError, match="forest of 2 requests with outputs"):
        _core.replay_forest_blocks(
            forest.core, trace.prompt_len, 4, 9, True, 1, output_offsets=trace.outputs.offsets
        )
