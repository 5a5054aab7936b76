"""What charts show: aggregated data against plain counting, and files that hold a picture."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim import charts
from prefixsim.charts import theme, times
from prefixsim.charts._data import MAX_POINTS, cumulative, histogram, survival, thin
from prefixsim.charts.replay import charts as draw
from prefixsim.engines.outcome import Weighted
from prefixsim.reports.page import report_html
from prefixsim.study.result import labels
from prefixsim.trace import Trace

weighted_values = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 1.0, 3.0, 40.0, 1e6]), st.integers(1, 9)), min_size=1
)


def weighted(items: list[tuple[float, int]]) -> Weighted:
    return Weighted(
        np.array([v for v, _ in items], dtype=np.float64),
        np.array([w for _, w in items], dtype=np.uint64),
    )


@given(items=weighted_values, floor=st.sampled_from([0.1, 1.0, 100.0]))
def test_cumulative_shares(items: list[tuple[float, int]], floor: float) -> None:
    every = [max(v, floor) for v, w in items for _ in range(w)]
    x, share = cumulative(weighted(items), floor)
    assert x[-1] == max(every)
    assert x.tolist() == sorted(set(every))
    for value, part in zip(x, share, strict=True):
        assert part == pytest.approx(sum(v <= value for v in every) / len(every))


@given(items=weighted_values)
def test_survival_counts(items: list[tuple[float, int]]) -> None:
    every = [v for v, w in items for _ in range(w)]
    x, left = survival(weighted(items))
    assert x.tolist() == sorted(set(every))
    assert left.tolist() == [sum(v >= value for v in every) for value in x]


@given(values=st.lists(st.floats(0, 1)), bins=st.integers(1, 7))
def test_histogram_shares(values: list[float], bins: int) -> None:
    rows = histogram(np.array(values), bins, 0.0, 1.0)
    assert [row["from"] for row in rows[1:]] == [row["to"] for row in rows[:-1]]
    assert sum(row["count"] for row in rows) == len(values)
    assert sum(row["share"] for row in rows) == pytest.approx(1.0 if values else 0.0)


def test_long_columns_are_thinned() -> None:
    x = np.arange(1.0, 1e6)
    at = thin(x)
    assert (at[0], at[-1]) == (0, len(x) - 1)
    assert len(at) <= MAX_POINTS
    steps = np.diff(np.log(x[at]))
    assert steps[len(at) // 2 :].max() < 3 * np.log(1e6) / MAX_POINTS
    column = Weighted(x, np.ones(len(x), dtype=np.uint64))
    assert len(cumulative(column, 1.0)[0]) <= 2 * MAX_POINTS


def conversation(name: str, seed: int, turns: int = 30) -> Trace:
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, 9, 8).tolist()
    prompts = []
    for _ in range(turns):
        prompt = [*prompt, *rng.integers(0, 9, int(rng.integers(1, 20))).tolist()]
        prompts.append(prompt)
    return Trace.from_prompts(prompts, timestamp=np.cumsum(rng.random(turns)).tolist(), name=name)


def values(spec: Any, key: str) -> list[dict[str, Any]]:
    """Rows of data that have a field, anywhere in a specification."""
    if isinstance(spec, list):
        rows = [part for part in spec if isinstance(part, dict) and key in part]
        return rows or [row for part in spec for row in values(part, key)]
    if isinstance(spec, dict):
        return [row for part in spec.values() for row in values(part, key)]
    return []


def test_charts_show_the_figures_of_the_summary() -> None:
    result = prefixsim.replay(conversation("chat", 1), block_size=4)
    drawn = result.charts()
    assert set(drawn) == {"hit_rate_over_time", "sharing_fraction", "block_hit_count", "reuse_gap"}
    specs = {name: chart.to_dict() for name, chart in drawn.items()}
    for spec in specs.values():
        assert spec["title"]["subtitle"] == ["chat", result.description]
        assert spec["config"]["range"]["category"] == theme.PALETTE
    counts = values(specs["block_hit_count"], "s")
    assert counts[0]["y"] == result.summary["unique_blocks"]
    assert counts[-1]["x"] == result.summary["block_hit_count"]["max"]
    shares = values(specs["sharing_fraction"], "s")
    assert [shares[-1]["x"], shares[-1]["y"]] == [1, shares[-2]["y"]]  # the end of the last step
    assert sum(row["y"] for row in shares[:-1]) == pytest.approx(1)
    load = values(specs["hit_rate_over_time"], "what")
    cached = sum(row["tokens"] for row in load if row["what"] == "from the cache")
    assert cached / sum(row["tokens"] for row in load) == pytest.approx(
        result.summary["token_hit_rate"]
    )
    texts = {row["text"] for name in specs for row in values(specs[name], "text")}
    assert f"overall {result.summary['token_hit_rate']:.1%}" in texts
    assert f"mean {result.summary['sharing_fraction']['mean']:.1%}" in texts


def test_a_chart_is_the_same_in_a_file_and_on_the_page() -> None:
    result = prefixsim.replay(conversation("chat", 1), block_size=4, engine="ideal")
    html = report_html([result])
    text = re.search(r'<script type="application/json" id="specs">(.*?)</script>', html, re.DOTALL)
    assert text is not None
    page = json.loads(text[1])
    files = {name: chart.to_dict() for name, chart in result.charts().items()}
    for name, key in (
        ("sharing_fraction", "sharing"),
        ("block_hit_count", "block-counts"),
        ("reuse_gap", "reuse-gap"),
        ("hit_rate_over_time", "over-time"),
    ):
        assert values(files[name], "s") == values(page[key], "s"), name
        drawn, shown = (encoding(spec) for spec in (files[name], page[key]))
        assert drawn["y"] == shown["y"], name
        tips = [
            layer["encoding"]["tooltip"]
            for layer in page[key]["layer"]
            if "tooltip" in layer["encoding"]
        ]
        assert drawn["tooltip"] == tips[0], name


def encoding(spec: Any) -> dict[str, Any]:
    """The encoding of the lines of a chart, or of the first of stacked ones."""
    chart = spec.get("vconcat", [spec])[0]
    marks = [layer for layer in chart["layer"] if layer["mark"]["type"] in ("line", "area")]
    return dict(marks[0]["encoding"])


def test_several_results_are_told_apart() -> None:
    results = [prefixsim.replay(conversation(n, i), block_size=4) for i, n in enumerate("ab")]
    drawn = draw(results)
    assert next(iter(drawn)) == "comparison"
    rows = values(drawn["comparison"].to_dict(), "metric")
    rates = {row["trace"]: row["value"] for row in rows if row["metric"] == "token hit rate"}
    assert rates == {r.trace.name: r.summary["token_hit_rate"] for r in results}
    same = [prefixsim.replay(results[0].trace, block_size=b) for b in (2, 4)]
    assert labels(same) == [r.description for r in same]
    assert labels([same[0], same[0]]) == ["a (1)", "a (2)"]


def test_no_chart_without_its_data() -> None:
    unrelated = Trace.from_prompts([[1, 2, 3], [4, 5, 6]])
    assert set(prefixsim.replay(unrelated, block_size=2).charts()) == {
        "hit_rate_over_time",
        "sharing_fraction",
        "block_hit_count",
    }
    short = prefixsim.replay(unrelated, block_size=4)
    assert set(short.charts()) == {"hit_rate_over_time", "sharing_fraction"}
    empty = prefixsim.replay(Trace.from_prompts([]))
    assert empty.charts() == {}
    assert empty.plot().to_dict()["config"]["font"] == theme.FONT


def test_save_writes_every_format(tmp_path: Path) -> None:
    chart = prefixsim.replay(conversation("chat", 2), block_size=4).plot()
    written = charts.save(chart, tmp_path / "all", ("png", "svg", "html", "json"))
    assert [p.name for p in written] == ["all.png", "all.svg", "all.html", "all.json"]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    svg = written[1].read_text()
    assert svg.startswith("<svg")
    assert "How often a block is used" in svg
    page = written[2].read_text()
    assert "<html" in page
    assert not re.findall(r"<(?:script|link)[^>]*(?:src|href)=", page)  # works offline
    assert json.loads(written[3].read_text())["config"]["background"] == "#FFFFFF"


def test_neighbouring_colours_differ_in_lightness() -> None:
    def lightness(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        y = float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
        return float(116 * np.cbrt(y) - 16)

    assert len(set(theme.PALETTE)) == len(theme.PALETTE)
    for a, b in pairwise(theme.PALETTE):
        assert abs(lightness(a) - lightness(b)) > 5, (a, b)


@given(low=st.sampled_from(list(times.TICKS)), decades=st.integers(1, 9))
def test_axes_of_time_have_labels_that_are_times(low: float, decades: int) -> None:
    axis = times.log_axis(low, low * 10**decades)
    shown = axis["values"]
    assert shown == sorted(shown) and len(shown) <= 16
    assert all(low <= t <= low * 10**decades for t in shown)
    assert axis["labelExpr"].count("datum.value") == len(shown)
