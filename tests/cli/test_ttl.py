"""``prefixsim curve --policy ttl`` as its users run it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import prefixsim
from prefixsim.trace import Trace
from tests.commands import Cli

TRACE = Trace.from_prompts([range(64)] * 3, timestamp=[0, 30, 330], name="three")


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "three.jsonl"
    TRACE.write(path)
    code, out, err = cli("curve", path, "--policy", "ttl", "--ttl", "30,5m", "--json")
    assert (code, err) == (0, "")
    wanted = prefixsim.ttl_curve(Trace.read(path), ttl=[30, 300])
    assert json.loads(out)["curves"] == [json.loads(json.dumps(wanted.to_dict()))]
    files = [tmp_path / f"c.{ending}" for ending in ("json", "csv", "parquet", "svg")]
    options = [x for file in files for x in ("--output", file)]
    code, out, _ = cli("curve", path, "--policy", "ttl,ttl:renew=false", "--ttl", "5m", *options)
    assert code == 0
    assert "5 min" in out and "ttl:renew=false, block size 16" in out
    assert pq.read_table(files[2])["hit_tokens"].to_pylist() == [96, 48]
    assert json.loads(files[0].read_text())["curves"][1]["policy"] == "ttl:renew=false"
    assert files[3].read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "ttl,lru"], "a curve over the time to live has no capacities"),
        (["--policy", "ttl", "--capacity", "5"], "--capacity: not with --policy ttl"),
        (["--policy", "ttl", "--bytes-per-token", "5"], "--bytes-per-token: not with"),
        (["--ttl", "5"], "--ttl: belongs to the curve over the time to live"),
        (["--policy", "ttl", "--ttl", "soon"], "'soon' is no time"),
        (["--tiers", "--ttl", "5"], "--ttl: not with --tiers"),
    ],
)
def test_options_that_do_not_fit(
    cli: Cli, tmp_path: Path, options: list[str], message: str
) -> None:
    path = tmp_path / "three.jsonl"
    TRACE.write(path)
    code, _, err = cli("curve", path, *options)
    assert code == 2
    assert message in err


def test_seconds_make_it_a_curve_over_capacities(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "three.jsonl"
    TRACE.write(path)
    code, out, _ = cli("curve", path, "--policy", "ttl:seconds=300,lru", "--json")
    assert code == 0
    assert [c["policy"] for c in json.loads(out)["curves"]] == ["ttl", "lru"]
