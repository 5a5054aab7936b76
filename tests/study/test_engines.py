"""Engines under one replay: where they must agree, and one that a user registers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim import engines
from prefixsim.engines import Engine, EngineSettings
from prefixsim.engines.outcome import Outcome
from prefixsim.errors import InputError
from prefixsim.settings import setting
from prefixsim.trace import Trace
from tests.strategies import Small, small_traces
from tests.study.test_replay import ENGINE_FIGURES, chats, hashed_traces


@pytest.fixture
def half_engine() -> Iterator[Engine]:
    yield engines.register(Engine("half", "half of the hits", HalfSettings, half))
    engines.unregister("half")


def test_a_registered_engine_is_used(half_engine: Engine) -> None:
    result = prefixsim.replay(chats(), engine="half", share=0.5)
    whole = prefixsim.replay(chats())
    assert result.outcome.hit_blocks.tolist() == (whole.outcome.hit_blocks // 2).tolist()
    assert result.summary["steps"] == 7
    assert result.requests.column("admit_step").to_pylist() == list(range(len(result.trace)))
    with pytest.raises(InputError, match=r"no option 'shares' .did you mean share"):
        prefixsim.replay(chats(), engine="half", shares=0.5)


@dataclass(frozen=True)
class HalfSettings(EngineSettings):
    share: float = setting(1.0, help="Share of the hits that count.", least=0, most=1)


def half(forest: prefixsim.Forest, settings: HalfSettings) -> Outcome:
    """An engine with an option, a column and a figure of its own: only a share of the hits."""
    most = forest.profile(settings.tokens_per_block).replay("lru")["hit_blocks"]
    hit = (most * settings.share).astype(np.uint32)
    tokens = hit * np.uint32(settings.tokens_per_block)
    return Outcome(
        "half",
        settings.to_config("half"),
        tokens,
        hit,
        forest.trace.prompt_len - tokens,
        columns={"admit_step": np.arange(len(hit))},
        summary={"steps": 7},
    )


@given(
    small=small_traces(),
    block_size=st.integers(1, 5),
    cache_outputs=st.booleans(),
    concurrency=st.integers(1, 4),
)
def test_engines_agree_in_an_unbounded_cache(
    small: Small, block_size: int, cache_outputs: bool, concurrency: int
) -> None:
    trace = small.trace()
    settings: dict[str, Any] = {"block_size": block_size, "cache_outputs": cache_outputs}
    ideal = prefixsim.replay(trace, **settings)
    assert ideal.config["engine"] == "ideal"
    # Outputs are cached when they are generated, so only one at a time makes the same cache.
    concurrency = 1 if cache_outputs else concurrency
    online = prefixsim.replay(trace, engine="block-manager", concurrency=concurrency, **settings)
    assert online.outcome.hit_tokens.tolist() == ideal.outcome.hit_tokens.tolist()
    ours = {k: v for k, v in ideal.summary.items() if k not in ENGINE_FIGURES}
    assert {k: v for k, v in online.summary.items() if k not in ENGINE_FIGURES} == ours


@given(trace=hashed_traces(), blocks=st.integers(1, 2))
def test_engines_agree_on_hash_ids(trace: Trace, blocks: int) -> None:
    ideal = prefixsim.replay(trace, block_size=4 * blocks)
    online = prefixsim.replay(trace, block_size=4 * blocks, engine="block-manager")
    assert online.outcome.hit_tokens.tolist() == ideal.outcome.hit_tokens.tolist()


def test_a_bounded_cache_takes_the_block_manager() -> None:
    trace = chats()
    needed = int(np.ceil(trace.prompt_len.max() / 16)) + 1  # with the null block
    result = prefixsim.replay(trace, num_blocks=needed)
    assert result.config["engine"] == "block-manager"
    assert result.summary["evictions"] > 0
    whole = prefixsim.replay(trace)
    assert result.summary["hit_tokens"] < whole.summary["hit_tokens"]
    late = prefixsim.replay(trace, num_blocks=needed, warmup=0.5)
    assert 0 < late.summary["evictions"] < result.summary["evictions"]
    for run in (result, late):
        for ages in run.outcome.residency.values():
            assert int(ages.weights.sum()) == run.summary["evictions"]
        lifetime, idle = (
            run.summary[f"{x}_s"] for x in ("cached_block_lifetime", "block_idle_before_evict")
        )
        assert 0 <= idle["mean"] <= lifetime["mean"]
    longest = int(trace.prompt_len.argmax())
    with pytest.raises(InputError, match=rf"chats: request {longest}\b.*\b{needed}\b"):
        prefixsim.replay(trace, num_blocks=needed - 1)


def test_concurrent_requests_hold_their_blocks() -> None:
    trace = chats()
    peaks = [
        prefixsim.replay(trace, num_blocks=100, concurrency=k).outcome.counters["peak_blocks"]
        for k in (1, 2, 4)
    ]
    assert peaks[0] < peaks[1] < peaks[2]


def test_the_block_manager_always_computes_the_last_token() -> None:
    with pytest.raises(InputError, match=r"has no last_token_rule=False.*'ideal'"):
        prefixsim.replay(chats(), engine="block-manager", num_blocks=100, last_token_rule=False)
    # Where none is named, the engine that has the setting is meant.
    assert prefixsim.replay(chats(), num_blocks=100, last_token_rule=False).engine.name == "ideal"
