from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.study.curves import Curves, round_capacities
from prefixsim.trace import Trace
from tests.oracle import forest as oracle
from tests.strategies import Small, small_traces


@pytest.fixture(scope="module")
def trace() -> Trace:
    text = list(range(200))
    prompts = [[100 * (i % 3) + t for t in text[: 20 + 7 * i]] for i in range(12)]
    return Trace.from_prompts(prompts, name="chats")


@given(small_traces(), st.booleans(), st.sampled_from(["lru", "clairvoyant"]))
def test_points_are_replays_and_can_be_inverted(small: Small, rule: bool, policy: str) -> None:
    assume(any(small.prompts))
    forest = prefixsim.compile(small.trace())
    tokens = forest.trace.prompt_tokens
    for b in (1, 2):
        requests = oracle.requests_of(small.prompts, b, salts=small.salts, last_token_rule=rule)
        model = {"lru": oracle.lru, "clairvoyant": oracle.clairvoyant}[policy]
        unique = forest.unique_blocks(b)
        hits = [sum(model(requests, c).hits) for c in range(1, unique + 3)]
        curve = prefixsim.curve(
            forest,
            block_size=b,
            policy=policy,
            capacity=list(range(1, unique + 3)),
            last_token_rule=rule,
        )
        assert [point.blocks_reused for point in curve.points] == hits
        assert [curve.hit_rate(c + 1) for c in range(len(hits))] == [b * h / tokens for h in hits]
        assert curve.ceiling == b * sum(oracle.lru(requests, None).hits) / tokens
        assert curve.blocks_reused(0) == 0
        if policy == "lru" or not rule:  # both grow with the capacity
            for share in (0.5, 0.95, 1.0):
                found = curve.capacity_for(share * curve.ceiling)
                enough = [c + 1 for c, h in enumerate(hits) if h >= share * max(hits) - 1e-9]
                assert found == (0 if max(hits) == 0 else enough[0])
        assert curve.capacity_for(curve.ceiling + 0.01) is None


def test_scalars_give_a_curve_and_sequences_curves(trace: Trace) -> None:
    one = prefixsim.curve(trace, block_size=4)
    several = prefixsim.curve(trace, block_size=[4, 8], policy=["lru", "clairvoyant"])
    assert isinstance(several, Curves)
    assert [(c.policy, c.block_size) for c in several] == [
        ("lru", 4), ("clairvoyant", 4), ("lru", 8), ("clairvoyant", 8),
    ]  # fmt: skip
    assert several.get("lru", 4).points == one.points
    assert len(several[1:]) == 3
    assert one.block_size == 4
    assert prefixsim.curve(trace).block_size == 16


def test_machine_readable_names(trace: Trace) -> None:
    curves = prefixsim.curve(trace, block_size=[4], capacity=[3, 30])
    made = json.loads(curves.to_json())
    assert set(made) == {"trace", "provenance", "curves"}
    (found,) = made["curves"]
    assert set(found) == {"policy", "block_size", "ceiling", "unique_blocks", "points"}
    assert set(found["ceiling"]) == {"hit_tokens", "blocks_reused", "token_hit_rate"}
    assert [set(point) for point in found["points"]] == [
        {"capacity_blocks", "hit_tokens", "blocks_reused", "token_hit_rate", "block_reuse_rate"}
    ] * 2
    point = found["points"][1]
    assert point["capacity_blocks"] == 30
    assert point["hit_tokens"] == 4 * point["blocks_reused"]
    assert point["token_hit_rate"] == point["hit_tokens"] / trace.prompt_tokens
    replayed = prefixsim.replay(trace, block_size=4, num_blocks=30, engine="lru").summary
    assert {name: point[name] for name in ("hit_tokens", "token_hit_rate", "block_reuse_rate")} == {
        name: replayed[name] for name in ("hit_tokens", "token_hit_rate", "block_reuse_rate")
    }
    table = curves.to_arrow(bytes_per_token=1000.0)
    assert table["capacity_tokens"].to_pylist() == [12, 120]
    assert table["capacity_bytes"].to_pylist() == [12_000.0, 120_000.0]


def test_outputs_stay_in_the_cache() -> None:
    prompts = [[1, 2], [1, 2, 3, 4, 5]]
    trace = Trace.from_prompts(prompts, outputs=[[3, 4, 9], [7]])
    forest = prefixsim.compile(trace, outputs=True)
    assert prefixsim.curve(forest, block_size=1).at(9).blocks_reused == 4
    assert prefixsim.curve(trace, block_size=1).at(9).blocks_reused == 2


def test_evictions_are_those_of_the_replay(trace: Trace) -> None:
    curve = prefixsim.curve(trace, block_size=4)
    replay = prefixsim.replay(trace, block_size=4, num_blocks=20, engine="lru")
    assert curve.evictions(20) == replay.summary["evictions"]
    with pytest.raises(InputError, match="'lru' only"):
        prefixsim.curve(trace, policy="clairvoyant").evictions(20)


def test_the_chart_has_every_curve_and_ceiling(trace: Trace) -> None:
    curves = prefixsim.curve(trace, block_size=[4, 8], policy=["lru", "clairvoyant"])
    spec = curves.plot(bytes_per_token=1e6).to_dict()
    [lines] = [layer for layer in spec["layer"] if layer["mark"]["type"] == "line"]
    data = list(spec["datasets"].values())
    tops = {rows[0]["y"] for rows in data if "s" not in rows[0]}
    assert tops == {c.ceiling for c in curves}
    [rows] = [rows for rows in data if "s" in rows[0]]
    names = [f"{p}, block size {size}" for p in ("LRU", "clairvoyant") for size in (4, 8)]
    assert {row["s"] for row in rows} == set(names)
    for curve in curves:
        points = [row for row in rows if row["s"] == curve.label]
        for row in points:
            blocks = round(row["x"] / (curve.block_size * 1e-3))
            assert row["x"] == pytest.approx(blocks * curve.block_size * 1e-3)
            assert row["y"] == curve.at(blocks).token_hit_rate
        assert points[-1]["x"] == pytest.approx(curve.unique_blocks * curve.block_size * 1e-3)
    assert "GB" in lines["encoding"]["x"]["title"]
    spec = curves[0].plot(axis="blocks").to_dict()
    [lines] = [layer for layer in spec["layer"] if layer["mark"]["type"] == "line"]
    assert "blocks" in lines["encoding"]["x"]["title"]
    with pytest.raises(InputError, match="needs the bytes of a token"):
        curves.plot(axis="GB")


def test_an_empty_trace_has_a_curve() -> None:
    curve = prefixsim.curve(Trace.from_prompts([]), block_size=4)
    assert (curve.ceiling, curve.unique_blocks) == (0.0, 0)
    assert curve.capacity_for(0.0) == 0
    assert curve.points[0].token_hit_rate == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 0}, "block_size is 0"),
        ({"capacity": 0}, "capacity is 0 blocks"),
        ({"policy": "mru"}, "choose from lru, clairvoyant"),
    ],
)
def test_unusable_settings(trace: Trace, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prefixsim.curve(trace, **options)  # type: ignore[call-overload]


def test_partial_blocks_have_no_curve(shared: Path) -> None:
    trace = Trace.read(shared / "data/mooncake/conversation_trace.jsonl.gz")
    with pytest.raises(InputError, match="compile without partial_blocks"):
        prefixsim.curve(prefixsim.compile(trace, partial_blocks=True))


def test_round_capacities() -> None:
    assert round_capacities(0) == [1]
    assert round_capacities(1) == [1]
    assert round_capacities(20) == [1, 2, 5, 10, 20]
    assert round_capacities(21) == [1, 2, 5, 10, 20, 21]
