from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.hardware.latency import Fixed, Linear
from prefixsim.hardware.links import LINKS, read_link
from prefixsim.hardware.load_costs import time_to_first_token
from prefixsim.study.tier_costs import Machine, cost_table, tier_costs, ttft_seconds, written_blocks
from prefixsim.study.tier_surface import RULES
from prefixsim.table import plain
from prefixsim.trace import Trace
from tests.oracle import forest as oracle
from tests.oracle import tiers as tiered
from tests.strategies import Small, small_traces

RATE = 1000.0
LATENCY = Linear({"prefill_tokens": 1 / RATE})


@given(small_traces(), st.lists(st.integers(0, 7), min_size=2, max_size=3), st.booleans())
def test_writes_are_those_of_a_block_by_block_replay(
    small: Small, sizes: list[int], outputs: bool
) -> None:
    sizes[0] = max(sizes[0], 1)
    requests = oracle.requests_of(
        small.prompts, 1, salts=small.salts, outputs=small.outputs if outputs else None
    )
    names = ("hbm", "dram", "disk")[: len(sizes)]
    forest = prefixsim.compile(small.trace(), outputs=outputs)
    disk = sizes[2] if len(sizes) > 2 else None
    surface = prefixsim.surface(forest, block_size=1, hbm=sizes[0], dram=sizes[1], disk=disk)
    (point,) = surface.points
    for rule in RULES:
        hierarchy = tiered.inclusive(sizes) if rule == "inclusive" else tiered.exclusive(sizes)
        served = tiered.replay(requests, hierarchy)
        wanted = {name: sum(s.written[k] for s in served) for k, name in enumerate(names)}
        assert written_blocks(surface, point, rule) == wanted


@pytest.fixture(scope="module")
def trace() -> Trace:
    prompts = [[100 * (i % 3) + t for t in range(20 + 7 * i)] for i in range(12)]
    return Trace.from_prompts(prompts, timestamp=[100.0 * i for i in range(12)], name="chats")


def test_what_a_tier_saves_is_what_its_hits_take_to_compute(trace: Trace) -> None:
    surface = prefixsim.surface(
        trace, block_size=4, hbm=9, dram=15, disk=30, bytes_per_token=2.0**28
    )
    links = {"dram": read_link("1000GB"), "disk": LINKS["nvme4"]}
    machine = Machine(LATENCY, links, drive_writes_per_day=1.0, gpus=2)
    (point,) = surface.points
    costs = tier_costs(surface, machine, point)
    assert [(c.tier, c.rule) for c in costs] == [
        (tier, rule) for rule in RULES for tier in ("hbm", "dram", "disk")
    ]
    for cost in costs:
        hits = point.tiers(cost.rule)[cost.tier]
        assert cost.saved_gpu_s == pytest.approx(2 * hits / RATE)
        more = surface.at(**{**point.blocks, cost.tier: point.blocks[cost.tier] + 1})
        gained = more.hit_tokens(cost.rule) - point.hit_tokens(cost.rule)
        assert cost.next_gib_gpu_s == pytest.approx(2 * gained / RATE)
        if cost.tier != "hbm":
            assert cost.break_even_bandwidth == pytest.approx(2.0**28 * RATE)
            assert cost.load_s == pytest.approx(hits * 2.0**28 / links[cost.tier].bandwidth)
        assert cost.written_bytes_per_day == pytest.approx(cost.written_bytes / 1100 * 86400)
    disk = costs[-1]
    assert disk.drive_life_years == pytest.approx(
        5 * 30 * 2**30 / (disk.written_bytes_per_day or math.nan)
    )
    text = plain([cost_table(surface, machine, point)])
    assert "loads 3.7x as fast as computing" in text
    assert "slower than computing; nvme4: estimate, usual 5-6.5, peak 7 GB/s" in text


def test_the_first_token_waits_for_loads_and_computing(trace: Trace) -> None:
    result = prefixsim.replay(
        trace, block_size=4, num_blocks=9, bytes_per_token=1e6,
        lower_tiers="dram:20:bandwidth=1GB:latency=5ms",
    )  # fmt: skip
    outcome = result.outcome
    on_gpu, loaded = outcome.tier_hit_tokens["hbm"], outcome.tier_hit_tokens["dram"]
    assert loaded.any()
    for overlap in (False, True):
        found = ttft_seconds(result, LATENCY, overlap=overlap)
        for i, prompt in enumerate(trace.prompt_len.tolist()):
            loading = 0.005 * bool(loaded[i]) + int(loaded[i]) * 1e-3
            wanted = time_to_first_token(
                LATENCY, prompt, int(on_gpu[i]), int(loaded[i]), loading, overlap=overlap
            )
            assert found[i] == pytest.approx(wanted)
    hbm = ttft_seconds(result, LATENCY, tiers=["hbm"])
    assert hbm == pytest.approx((trace.prompt_len - on_gpu) / RATE)
    assert ttft_seconds(result, LATENCY, tiers=[]) == pytest.approx(trace.prompt_len / RATE)
    with pytest.raises(InputError, match="give none, 'hbm' alone"):
        ttft_seconds(result, LATENCY, tiers=["disk"])


def test_what_is_not_known_is_asked_for(trace: Trace) -> None:
    surface = prefixsim.surface(trace, block_size=4, hbm=9, dram=20)
    with pytest.raises(InputError, match="need bytes_per_token or model_config"):
        tier_costs(surface, Machine(LATENCY), surface.points[0])
    known = prefixsim.surface(trace, block_size=4, hbm=9, dram=20, bytes_per_token=9)
    with pytest.raises(InputError, match="no lower tier 'hbm' here, there are dram"):
        tier_costs(known, Machine(LATENCY, {"hbm": LINKS["pcie5"]}), known.points[0])
    with pytest.raises(InputError, match="takes no time"):
        Machine(Fixed(0)).prefill_rate(100)
    assert np.isfinite(Machine(Fixed(0.02)).prefill_rate(100))
