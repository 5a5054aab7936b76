"""``prefixsim bounds`` as its users run it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import prefixsim
from prefixsim.trace import Trace
from tests.commands import Cli


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    path = tmp_path / "moved.jsonl"
    Trace.from_prompts([range(100), [7, *range(100)]]).write(path)
    return path


def test_bounds(cli: Cli, moved: Path, tmp_path: Path) -> None:
    wanted = prefixsim.bounds(Trace.read(moved), block_size=8, chunk_size=16, recompute=0.5)
    options = ["--block-size", 8, "--chunk-size", 16, "--recompute", 0.5]
    files = [tmp_path / f"b.{ending}" for ending in ("json", "parquet", "csv")]
    written = [x for file in files for x in ("-o", file)]
    code, out, err = cli("bounds", moved, *options, *written, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["bounds"] == wanted.to_dict()["bounds"]
    assert json.loads(files[0].read_text())["bounds"] == wanted.to_dict()["bounds"]
    assert pq.read_table(files[1])["reusable_tokens"].to_pylist()[3] == 100
    code, out, _ = cli("bounds", moved, *options)
    assert code == 0
    assert "50 % of what is no prefix" in out and "49.75 %" in out


def test_what_is_refused(cli: Cli, moved: Path, tmp_path: Path) -> None:
    hashed = tmp_path / "hashed.jsonl"
    rows = [{"timestamp": 0, "input_length": 512, "output_length": 1, "hash_ids": [1]}]
    hashed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for args, message in (
        ([hashed], "holds no token ids"),
        ([moved, "--chunk-size", 3], "give a power of two"),
        ([moved, "-o", tmp_path / "b.png"], "the ending says no format"),
        ([moved, "--recompute", 2], "--recompute 2"),
    ):
        code, _, err = cli("bounds", *args)
        assert code == 2
        assert message in err
