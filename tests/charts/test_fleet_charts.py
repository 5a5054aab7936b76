"""Charts and the page of routers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import prefixsim
from prefixsim.charts.fleet import front, knob_chart
from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.study.fleet_result import FleetResult
from tests.study.test_fleets import TRACE, run


@pytest.fixture(scope="module")
def routed() -> FleetResult:
    return run(
        ["round-robin", "dynamo", "pooled"],
        replicas=[2, 4],
        overlap_score_credit=[0, 1.0],
    )


def test_the_front_is_what_nothing_beats() -> None:
    def row(imbalance: float, rate: float) -> dict[str, float]:
        return {"imbalance_tokens": imbalance, "token_hit_rate": rate}

    rows = [row(1.0, 0.1), row(1.1, 0.3), row(1.2, 0.2), row(1.2, 0.4), row(1.1, 0.25)]
    assert front(rows) == [row(1.0, 0.1), row(1.1, 0.3), row(1.2, 0.4)]


def test_charts_show_every_run(routed: FleetResult) -> None:
    charts = routed.charts()
    assert set(charts) == {"balance", "replicas", "regret_by_knob"}
    balance = json.dumps(charts["balance"].to_dict())
    for one in routed.runs:
        assert one.label in balance
    knob = charts["regret_by_knob"].to_dict()
    (rows,) = knob["datasets"].values()
    values = {row["value"] for row in rows}
    assert values == {0.0, 1.0}
    assert set(run("round-robin").charts()) == {"balance"}
    with pytest.raises(InputError, match="no router's main setting varies"):
        knob_chart([{"knob": "", "router": "x", "replicas": 1, "value": None}], "x")


def test_the_page_has_tables_figures_and_words(routed: FleetResult, tmp_path: Path) -> None:
    page = prefixsim.report(routed, tmp_path / "fleet.html").read_text(encoding="utf-8")
    for words in (routed.advice.split(" serves")[0], "fleet-balance", "fleet-replicas", "regret"):
        assert words in page
    assert "http://" not in page.split("<script")[0]


def test_the_command_writes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "chats.jsonl"
    TRACE.write(trace)
    outputs = [str(tmp_path / f"out.{ending}") for ending in ("svg", "html", "json")]
    args = ["fleet", str(trace), "--router", "dynamo", "--num-blocks", "100", "--block-size", "16"]
    options = [part for path in outputs for part in ("-o", path)]
    folder = tmp_path / "charts"
    assert main([*args, *options, "--output-dir", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert json.loads(Path(outputs[2]).read_text(encoding="utf-8")) == told
    assert {path.name for path in folder.iterdir()} == {"balance.png", "balance.svg"}
    assert main([*args, "--kv-events", "x.jsonl"]) == 2
    assert "keeps no records" in capsys.readouterr().err
    assert main([*args, "--overlap-score-credit", "x"]) == 2
    assert "--overlap-score-credit x: give a number" in capsys.readouterr().err
