"""Request ids that several requests have: refused where one request is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefixsim import Trace
from prefixsim.cli import main


def test_explaining_one_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.jsonl"
    trace = Trace.from_prompts([[1] * 20, [1] * 30, [2] * 20])
    trace.replace(request_id=["a", "b", "a"]).write(path)
    assert main(["explain", str(path), "--request", "a"]) == 2
    assert "2 requests have the id 'a' (rows 0, 2)" in capsys.readouterr().err
    assert main(["explain", str(path), "--request", "b"]) == 0
