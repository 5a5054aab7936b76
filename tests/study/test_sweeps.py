from __future__ import annotations

from typing import Any

import pytest

import prefixsim
from prefixsim.errors import InputError
from prefixsim.study.compare import differences
from prefixsim.trace import Trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    prompts = [[100 * (i % 3) + t for t in range(20 + 7 * i)] for i in range(12)]
    return Trace.from_prompts(prompts, name="chats")


def test_every_combination_is_its_replay(trace: Trace) -> None:
    forest = prefixsim.compile(trace)
    table = prefixsim.sweep(
        forest,
        engine=["lru", "block-manager"],
        policy=["lru", "clairvoyant"],
        block_size=[4, 8],
        capacity=[30, None],
    )
    rows = table.to_pylist()
    keys = [(r["engine"], r["policy"], r["block_size"], r["capacity_blocks"]) for r in rows]
    assert len(set(keys)) == len(rows) == 2 * 2 * 2 + 2 * 2
    for row in rows:
        blocks, size = row["capacity_blocks"], row["block_size"]
        if row["policy"] == "clairvoyant":
            curve = prefixsim.curve(forest, block_size=size, policy="clairvoyant")
            assert row["blocks_reused"] == curve.blocks_reused(blocks or 10**9)
            continue
        usable = blocks if blocks is None or row["engine"] == "ideal" else blocks + 1
        result = prefixsim.replay(forest, engine=row["engine"], block_size=size, num_blocks=usable)
        for name in ("hit_tokens", "total_blocks", "unique_blocks", "token_hit_rate",
                     "block_reuse_rate", "requests_with_hit", "evictions"):  # fmt: skip
            assert row[name] == result.summary[name], name


def test_hash_ids_take_their_block_size_by_default() -> None:
    tokens = Trace.from_prompts([range(64), range(64)])
    row = prefixsim.sweep(tokens).to_pylist()[0]
    assert (row["block_size"], row["capacity_blocks"]) == (16, None)
    assert row["blocks_reused"] == 3
    row = prefixsim.sweep(tokens, last_token_rule=False).to_pylist()[0]
    assert row["blocks_reused"] == 4


def test_unusable_settings(trace: Trace) -> None:
    with pytest.raises(InputError, match="at least 1"):
        prefixsim.sweep(trace, capacity=0)
    with pytest.raises(InputError, match="choose from lru"):
        prefixsim.sweep(trace, policy="mru")
    with pytest.raises(InputError, match="unknown engine 'none'"):
        prefixsim.sweep(trace, engine="none")
    with pytest.raises(InputError, match="need the engine 'ideal'"):
        prefixsim.sweep(trace, engine="block-manager", policy="clairvoyant")


def test_any_option_is_an_axis_and_a_failing_cell_is_a_row(trace: Trace) -> None:
    # A request of 97 tokens never fits 20 blocks of 4 in a real server; the ideal cache cuts it.
    table = prefixsim.sweep(
        trace, engine=["block-manager", "vllm"], block_size=4, capacity=[20, 60], concurrency=[1, 2]
    )
    rows = table.to_pylist()
    assert [(r["engine"], r.get("concurrency"), r["capacity_blocks"]) for r in rows] == [
        ("block-manager", 1, 20), ("block-manager", 1, 60),
        ("block-manager", 2, 20), ("block-manager", 2, 60),
        ("vllm", None, 20), ("vllm", None, 60),
    ]  # fmt: skip
    failed = [row for row in rows if row["error"]]
    assert [row["capacity_blocks"] for row in failed] == [20, 20, 20]
    assert all("fit" in row["error"] for row in failed)
    assert all(
        row["ttft_s_median"] > 0 for row in rows if row["engine"] == "vllm" and not row["error"]
    )
    assert table.to_arrow()["error"].null_count == 3
    assert "fit" in table._repr_html_()
    assert len(table.to_pandas()) == len(table) == 6
    assert table[1] == rows[1]


def test_charts_of_sweeps(trace: Trace) -> None:
    lines = prefixsim.sweep(
        trace, block_size=[4, 8], policy=["lru", "clairvoyant"], capacity=[9, 30]
    )
    spec = lines.plot().to_dict()
    assert spec["mark"]["type"] == "line"
    names = {row["series"] for row in next(iter(spec["datasets"].values()))}
    assert len(names) == 4
    heat = prefixsim.sweep(trace, block_size=[4, 8], capacity=[9, 30]).plot(y="block_reuse_rate")
    assert [layer["mark"]["type"] for layer in heat.to_dict()["layer"]] == ["rect", "text"]
    with pytest.raises(InputError, match="needs an axis of numbers"):
        prefixsim.sweep(trace, policy=["lru", "clairvoyant"], capacity=30).plot()
    with pytest.raises(InputError, match="no figure 'speed'"):
        lines.plot(y="speed")


def test_threads_do_not_change_a_sweep(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    axes: dict[str, Any] = {
        "engine": ["block-manager", "vllm"],
        "block_size": [4, 8],
        "capacity": [60, None],
    }
    several = prefixsim.sweep(trace, **axes).to_pylist()
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert prefixsim.sweep(trace, **axes).to_pylist() == several


def test_the_size_of_a_grid_is_bounded(trace: Trace) -> None:
    with pytest.raises(InputError, match=r"runs are too many for one grid"):
        prefixsim.sweep(trace, block_size=list(range(1, 400)), capacity=list(range(1, 400)))


def test_compare_sets_engines_side_by_side(trace: Trace) -> None:
    found = prefixsim.compare(trace, engine=["vllm", "ideal"], num_blocks=[200, None])
    assert found.axes == ("engine", "num_blocks")
    kinds = [(s["engine"], s["num_blocks"]) for s, _ in found.runs]
    assert kinds == [("vllm", 200), ("vllm", None), ("ideal", 200), ("ideal", None)]
    assert all(summary["requests"] == len(trace) for _, summary in found.runs)
    assert "ttft_s" in found.runs[0][1]
    assert "ttft_s" not in found.runs[2][1]
    told = differences(found.engines)
    assert told is not None
    assert {(row[0], row[1]) for row in told.rows} >= {("scheduling", "vllm"), ("outputs", "ideal")}
    assert differences(found.engines[:1]) is None
    assert set(found.to_dict()) == {"trace", "digest", "runs"}
