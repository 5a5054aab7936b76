from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.hardware.gpus import Model
from prefixsim.hardware.latency import Fixed, Latency, Linear, Roofline
from prefixsim.hardware.links import LINKS, Link, read_link
from prefixsim.hardware.load_costs import (
    LoadCost,
    drive_life_years,
    prefill_seconds,
    time_to_first_token,
)
from prefixsim.trace import Trace

LATENCIES: list[Latency] = [
    Fixed(0.02),
    Linear({"base": 0.01, "prefill_tokens": 3e-5, "prefill_pairs": 1e-9, "prefill_context": 1e-7}),
    Roofline("h100", Model.read("qwen3-8b")),
]


@pytest.mark.parametrize("latency", LATENCIES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("tokens", [1, 500, 8192, 20_000])
def test_computing_takes_as_long_as_in_the_simulated_server(latency: Latency, tokens: int) -> None:
    """One prompt alone: its first token is there when its last chunk ends."""
    trace = Trace.from_prompts([range(tokens)], outputs=[[1]])
    result = prefixsim.replay(
        trace, engine="vllm", latency=latency, num_blocks=2000, max_num_batched_tokens=8192
    )
    (ttft,) = result.outcome.columns["ttft_s"].tolist()
    assert prefill_seconds(latency, 0, tokens) == pytest.approx(ttft, abs=2e-9)


def test_the_figures_of_the_published_cost_model() -> None:
    """SEMANTICS.md of the golden data, section 7: GB/s at which loading and computing are even."""
    for per_token, rate, even in (
        (131_072, 20_000, 2.6),
        (327_680, 2_500, 0.8),
        (70_272, 5_000, 0.35),
    ):
        cost = LoadCost(LINKS["nvme4"], per_token, rate)
        assert cost.break_even_bandwidth / 1e9 == pytest.approx(even, rel=0.03)


@example(999999.9999999999, 100.0, 1e8, 0.0, 201)
@given(
    st.floats(1e3, 1e6),
    st.floats(1e2, 1e5),
    st.floats(1e8, 1e12),
    st.floats(0, 1),
    st.integers(0, 10**6),
)
def test_loading_is_faster_from_the_break_even_length_on(
    per_token: float, rate: float, bandwidth: float, latency: float, tokens: int
) -> None:
    cost = LoadCost(Link("one", bandwidth, latency=latency), per_token, rate)
    even = cost.break_even_tokens
    if even is None:
        assert cost.times_faster <= 1 + 1e-9
        assert cost.seconds(tokens) >= tokens / rate * (1 - 1e-9)
    elif abs(tokens - even) > 1e-3 * max(tokens, even):
        assert (cost.seconds(tokens) < tokens / rate) == (tokens > even)


def test_overlap_counts_the_longer_of_loading_and_computing() -> None:
    latency = Linear({"prefill_tokens": 1e-3})
    assert time_to_first_token(latency, 100, 20, 30, 0.04, overlap=False) == pytest.approx(0.09)
    assert time_to_first_token(latency, 100, 20, 30, 0.04, overlap=True) == pytest.approx(0.05)
    assert time_to_first_token(latency, 100, 20, 30, 0.4, overlap=True) == pytest.approx(0.4)


def test_a_drive_that_is_never_written_lasts() -> None:
    assert drive_life_years(0, 1e12, 1) == float("inf")
    assert drive_life_years(1e12, 1e12, 1) == 5


def test_links_are_named_or_measured() -> None:
    assert LINKS["pcie5"].estimated and not read_link("48GB/s").estimated
    assert all(link.source and link.peak for link in LINKS.values())
    for link in LINKS.values():
        assert link.usual is not None and link.peak is not None
        assert link.usual[0] <= link.bandwidth <= link.usual[1] <= link.peak
    with pytest.raises(InputError, match=r"did you mean pcie5\?"):
        read_link("pcie5x")
    with pytest.raises(InputError, match="give a start and an end"):
        prefill_seconds(Fixed(1), 3, 2)
