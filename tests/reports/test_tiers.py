"""The figures of tiers in a report."""

from __future__ import annotations

import pytest

import prefixsim
from prefixsim.charts.runs import Run
from prefixsim.charts.tiers import split_rows, traffic_rows
from prefixsim.reports.figures import Figure
from prefixsim.reports.page import report_html
from prefixsim.reports.tiers import tier_figures
from prefixsim.study.result import Result
from tests.reports.test_report import specs_of, traffic

KEYS = {"tier-surface", "tier-split", "tier-traffic"}


@pytest.fixture(scope="module")
def result() -> Result:
    return prefixsim.replay(
        traffic(), block_size=8, num_blocks=150, lower_tiers="dram:400:uses=2+disk:600:write-back"
    )


def figures_of(result: Result, bytes_per_token: float | None = None) -> dict[str, Figure]:
    found = tier_figures([Run("one", result, bytes_per_token)])
    return {figure.key: figure for figure in found if figure is not None}


def test_a_report_of_tiers_has_their_figures(result: Result) -> None:
    assert specs_of(report_html([result])).keys() >= KEYS
    alone = prefixsim.replay(traffic(), block_size=8, num_blocks=150)
    assert not specs_of(report_html([alone])).keys() & KEYS
    assert list(tier_figures([Run("a", result), Run("b", result)])) == []


def test_the_surface_passes_through_its_points_and_marks_the_replay(result: Result) -> None:
    figure = figures_of(result)["tier-surface"]
    rows = figure.spec["data"]["values"]
    found = prefixsim.surface(result.metrics.forest, hbm=150, dram=400, disk=600, block_size=8)
    (point,) = found.points
    for rule in ("inclusive", "exclusive"):
        at = [row["y"] for row in rows if row["s"] == rule and row["x"] == 400]
        assert at == [point.hit_rate(rule)]
    mark = figure.spec["layer"][-1]["data"]["values"][0]
    assert (mark["x"], mark["y"]) == (400, result.summary["token_hit_rate"])
    assert f"{point.hit_rate('exclusive'):.1%}" in figure.says
    small = prefixsim.replay(traffic(), block_size=8, num_blocks=150, lower_tiers="dram:150")
    assert "an inclusive one adds nothing" in figures_of(small)["tier-surface"].says


def test_shares_over_time_are_the_hits_of_each_tier(result: Result) -> None:
    rows = split_rows(result)
    trace, outcome = result.trace, result.outcome
    assert {row["tier"] for row in rows} == {"hbm", "dram", "disk"}
    for tier, column in outcome.tier_hit_tokens.items():
        total = 0.0
        for row in (row for row in rows if row["tier"] == tier):
            last = row["to"] == rows[-1]["to"]
            within = (trace.timestamp >= row["from"]) & (
                (trace.timestamp < row["to"]) | (last & (trace.timestamp == row["to"]))
            )
            total += row["share"] * float(trace.prompt_len[within].sum())
        assert total == pytest.approx(float(column.sum()))


def test_traffic_is_in_tokens_or_gigabytes(result: Result) -> None:
    tokens = {(row["tier"], row["way"]): row["amount"] for row in traffic_rows(result, None)}
    outcome = result.outcome
    assert tokens == {
        (tier, way): float(column.sum())
        for tier in ("dram", "disk")
        for way, column in (
            ("loaded", outcome.tier_hit_tokens[tier]),
            ("written", outcome.columns[f"written_tokens_{tier}"]),
        )
    }
    assert "GB written (disk)" in figures_of(result, 1e6)["tier-traffic"].says
