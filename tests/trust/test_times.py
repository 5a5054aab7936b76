"""Timestamps in another unit than the format's: doubted in one line, settled by an option."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefixsim import Trace
from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.trace.times import doubt, in_unit


@pytest.fixture
def milliseconds(tmp_path: Path) -> str:
    """Return a native trace of 2 requests/s whose times were written in milliseconds."""
    path = tmp_path / "t.jsonl"
    Trace.from_prompts([[1] * 20] * 200, timestamp=[i * 500.0 for i in range(200)]).write(path)
    return str(path)


def test_milliseconds_in_a_native_trace(
    milliseconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", milliseconds, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "0.002 requests/s over 1.2 days: if the times are in ms, pass --time-unit ms" in err
    assert json.loads(out)["span_s"] == 99_500
    assert main(["info", milliseconds, "--json", "--time-unit", "ms"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["span_s"] == 99.5


def test_seconds_in_a_mooncake_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.jsonl"
    rows = [
        {"timestamp": i / 8, "input_length": 512, "output_length": 1, "hash_ids": [i]}
        for i in range(100)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["info", str(path), "--json"]) == 0
    assert "8,000 requests/s over 0.0124 s: if the times are in s, pass" in capsys.readouterr().err
    assert main(["info", str(path), "--json", "--time-unit", "s"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["span_s"] == 99 / 8


@pytest.mark.parametrize("gap", [0.0, 0.001, 0.1, 20.0])
def test_usual_rates_are_not_doubted(gap: float) -> None:
    assert doubt(Trace.from_prompts([[1]] * 100, timestamp=[i * gap for i in range(100)])) is None


def test_units_that_do_not_exist(milliseconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", milliseconds, "--time-unit", "min"]) == 2
    assert "choose one of s, ms, us, ns" in capsys.readouterr().err
    with pytest.raises(InputError, match="choose one of"):
        in_unit(Trace.from_prompts([[1]]), "h")
