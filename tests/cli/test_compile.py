"""``prefixsim compile``: compiled once, found by others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefixsim import Trace
from prefixsim.cli import main


def test_a_compiled_trace_is_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, cache = tmp_path / "t.jsonl", tmp_path / "cache"
    Trace.from_prompts([range(40), range(48), [1, 2]]).write(path)
    assert main(["compile", str(path), "--cache-dir", str(cache), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["forest"]["requests"] == 3
    assert told["forest"]["depth"] == 48
    (file,) = cache.iterdir()
    assert told["digest"] in file.name
    made = file.stat().st_mtime_ns
    assert main(["curve", str(path), "--cache-dir", str(cache), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["curves"][0]["ceiling"]["hit_tokens"] == 32
    assert main(["compile", str(path), "--cache-dir", str(cache)]) == 0
    assert "requests" in capsys.readouterr().out
    assert [file.stat().st_mtime_ns for file in cache.iterdir()] == [made]


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"
    assert main(["compile", str(tmp_path / "none"), "--cache-dir", str(cache)]) == 2
    assert capsys.readouterr().err.endswith("none: no such file\n")
    assert not cache.exists()
