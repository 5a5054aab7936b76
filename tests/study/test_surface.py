from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.study.surface import default_sizes
from prefixsim.study.surface_tables import surface_tables
from prefixsim.study.tier_surface import RULES, Rule
from prefixsim.table import plain
from prefixsim.trace import Trace
from tests.golden import golden_root
from tests.oracle import forest as oracle
from tests.oracle import tiers as tiered
from tests.strategies import Small, small_traces


@pytest.fixture(scope="module")
def trace() -> Trace:
    """Three chats that take turns, each a little longer every time."""
    prompts = [[100 * (i % 3) + t for t in range(20 + 7 * i)] for i in range(12)]
    return Trace.from_prompts(prompts, name="chats")


@given(
    small_traces(),
    st.lists(st.integers(0, 9), min_size=2, max_size=3),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
)
def test_the_surface_is_a_block_by_block_replay(
    small: Small, sizes: list[int], block_size: int, rule: bool, outputs: bool
) -> None:
    """At every sampled pair and triple, under both rules, tier by tier."""
    sizes[0] = max(sizes[0], 1)
    requests = oracle.requests_of(
        small.prompts,
        block_size,
        salts=small.salts,
        outputs=small.outputs if outputs else None,
        last_token_rule=rule,
    )
    for request in requests:
        request.limit = min(request.limit, request.full)
    forest = prefixsim.compile(small.trace(), outputs=outputs)
    names = ("hbm", "dram", "disk")[: len(sizes)]
    asked: dict[str, Any] = dict(zip(names, sizes, strict=True))
    surface = prefixsim.surface(forest, **asked, block_size=block_size, last_token_rule=rule)
    (point,) = surface.points
    for kind, hierarchy in (("inclusive", tiered.inclusive), ("exclusive", tiered.exclusive)):
        served = tiered.replay(requests, hierarchy(sizes))
        hits = [sum(s.hits[k] for s in served) * block_size for k in range(len(sizes))]
        found = point.inclusive if kind == "inclusive" else point.exclusive
        assert list(found.values()) == hits


@pytest.mark.parametrize("rule", RULES)
def test_all_sizes_at_once_are_the_points(trace: Trace, rule: Rule) -> None:
    surface = prefixsim.surface(
        trace, block_size=4, hbm=[1, 5, 9], dram=[0, 3, 9, 40], disk=[0, 50]
    )
    hits = surface.hit_blocks(rule)
    assert hits.shape == (3, 4, 2)
    assert hits.ravel().tolist() == [p.hit_tokens(rule) // 4 for p in surface.points]
    size = np.maximum if rule == "inclusive" else np.add
    wanted = prefixsim.curve(trace, block_size=4)
    for point in surface.points:
        whole = int(size.reduce(list(point.blocks.values())))
        assert point.hit_rate(rule) == wanted.hit_rate(whole)


def test_a_tier_no_larger_than_what_is_above_is_said_to_add_nothing(trace: Trace) -> None:
    surface = prefixsim.surface(trace, block_size=4, hbm=9, dram=9)
    (point,) = surface.points
    assert point.idle == ("dram",)
    assert point.inclusive["dram"] == 0 < point.exclusive["dram"]
    assert "DRAM is not larger than HBM: it adds nothing" in plain(surface_tables(surface))
    wide = prefixsim.surface(trace, block_size=4, hbm=9, dram=10)
    assert wide.points[0].idle == ()
    assert "adds nothing" not in plain(surface_tables(wide))


def test_what_a_share_of_the_ceiling_needs_reaches_it_and_no_less_does(trace: Trace) -> None:
    surface = prefixsim.surface(trace, block_size=4, hbm=[2, 9, 60], dram=[0, 9])
    for need in surface.needs():
        target = need.share * surface.curve.ceiling * (1 - 1e-12)
        for rule in RULES:
            blocks = need.blocks[rule]
            assert surface.at(hbm=need.hbm.blocks, dram=blocks).hit_rate(rule) >= target
            if blocks:
                less = surface.at(hbm=need.hbm.blocks, dram=blocks - 1)
                assert less.hit_rate(rule) < target


def test_sizes_in_bytes_and_prices(trace: Trace) -> None:
    surface = prefixsim.surface(
        trace, block_size=4, hbm="1GiB", dram=["0", "2GiB"], bytes_per_token=2.0**26,
        prices={"dram": 4},
    )  # fmt: skip
    assert [list(p.blocks.values()) for p in surface.points] == [[4, 0], [4, 8]]
    assert [p.price for p in surface.points] == [0, 8]
    assert surface.gib(8) == 2
    assert "price" in plain(surface_tables(surface))
    assert surface.to_arrow()["dram_gib"].to_pylist() == [0, 2]


def test_machine_readable_names(trace: Trace) -> None:
    made = json.loads(prefixsim.surface(trace, hbm=3, dram=[1, 8], block_size=4).to_json())
    assert set(made) == {"trace", "provenance", "surface"}
    found = made["surface"]
    assert set(found) == {"tiers", "block_size", "unique_blocks", "ceiling", "points", "needs"}
    first = found["points"][0]
    assert set(first) == {
        "hbm_blocks", "dram_blocks", "inclusive", "exclusive", "exclusive_gain_tokens",
        "exclusive_gain_rate", "idle_tiers",
    }  # fmt: skip
    assert first["idle_tiers"] == ["dram"]
    assert set(first["inclusive"]) == {"hit_tokens", "token_hit_rate", "tier_hit_tokens"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dram": "x"}, "dram 'x' is no size"),
        ({"dram": "40GB"}, "dram 40GB: bytes need bytes_per_token"),
        ({"hbm": "inf"}, "hbm inf: give a size"),
        ({"prices": {"dram": 1.0}}, "prices are per GiB"),
        ({"prices": {"disk": 1.0}, "bytes_per_token": 1.0}, "no tier 'disk' here"),
        ({"prices": {"dram": -1.0}, "bytes_per_token": 1.0}, "dram is -1.0"),
    ],
)
def test_what_is_wrong_is_one_line(trace: Trace, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        prefixsim.surface(trace, **wrong)
    assert "\n" not in str(caught.value)


def test_default_sizes_span_the_trace() -> None:
    sizes = default_sizes(1000, block_bytes=2.0**21)
    assert sizes[-1].blocks >= 1000 > sizes[-2].blocks
    assert [s.text for s in sizes[-2:]] == ["1 GiB", "2 GiB"]


def test_the_chart_has_a_map_for_each_rule_and_lines_for_one_hbm(trace: Trace) -> None:
    maps = prefixsim.surface(trace, block_size=4, hbm=[2, 9], dram=[0, 9, 20]).plot().to_dict()
    assert [one["title"]["text"] for one in maps["vconcat"]] == [
        "inclusive: token hit rate", "exclusive: token hit rate", "what exclusive adds, in points",
    ]  # fmt: skip
    line = prefixsim.surface(trace, block_size=4, hbm=9, dram=[0, 9, 20]).plot().to_dict()
    rows = next(iter(line["datasets"].values()))
    assert {(row["dram"], row["rule"]) for row in rows} == {
        (size, rule) for size in ("0", "9", "20") for rule in RULES
    }


# SEMANTICS.md of the golden data, section 9: token hit rates in %, inclusive and exclusive.
_MOONCAKE = [
    (1365, 5461, 13.560, 16.554), (1365, 21845, 30.763, 31.431), (5461, 2730, 13.560, 19.229),
    (5461, 5461, 13.560, 22.961), (5461, 10922, 22.961, 27.625), (5461, 21845, 30.763, 32.958),
    (5461, 43690, 36.028, 36.205), (10922, 10922, 22.961, 30.762), (10922, 21845, 30.763, 34.640),
    (10922, 43690, 36.028, 36.560),
]  # fmt: skip


def test_golden_tiers_surface_of_mooncake() -> None:
    path = golden_root().parent / "data/mooncake/conversation_trace.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no trace {path}")
    forest = prefixsim.compile(Trace.read(path))
    for hbm, dram, inclusive, exclusive in _MOONCAKE:
        (point,) = prefixsim.surface(forest, hbm=hbm, dram=dram).points
        assert round(100 * point.hit_rate("inclusive"), 3) == inclusive
        assert round(100 * point.hit_rate("exclusive"), 3) == exclusive
