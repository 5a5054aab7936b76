"""``prefixsim curve`` and ``prefixsim sweep`` as their users run them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import prefixsim
from tests.commands import Cli


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    rows = []
    for i in range(12):
        tokens = [100 * (i % 3) + t for t in range(20 + 7 * i)]
        rows.append(
            {
                "request_id": str(i),
                "timestamp": float(i),
                "prompt_len": len(tokens),
                "output_len": 1,
                "token_ids": tokens,
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_json_is_the_curve_of_the_library(cli: Cli, chats: Path) -> None:
    code, out, err = cli(
        "curve", chats, "--block-size", "4,8", "--policy", "lru,clairvoyant",
        "--capacity", "10,1k", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    expected = prefixsim.curve(
        prefixsim.Trace.read(chats),
        block_size=[4, 8],
        policy=["lru", "clairvoyant"],
        capacity=[10, 1000],
    ).to_dict()
    assert json.loads(out) == json.loads(json.dumps(expected))


def test_tables(cli: Cli, chats: Path) -> None:
    code, out, err = cli("curve", chats, "--block-size", 4, "--bytes-per-token", "1e6")
    assert (code, err) == (0, "")
    lines = [line.split("  ") for line in out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    curve = prefixsim.curve(prefixsim.Trace.read(chats), block_size=4)
    blocks = curve.capacity_for(0.95 * curve.ceiling)
    assert blocks is not None
    row = next(line for line in cells if line and line[0] == "95 %")
    assert row[2:] == [str(blocks), str(4 * blocks), f"{4 * blocks / 1000:.3g}"]
    row = next(line for line in cells if line and line[0] == "20")
    assert row == ["20", "80", "0.08", f"{curve.hit_rate(20):.2%}".replace("%", " %")]
    code, out, _ = cli("curve", chats, "--block-size", "4,8")
    assert code == 0
    assert "LRU, block size 4  LRU, block size 8" in out


def test_bytes_from_a_model_and_capacities_in_bytes(cli: Cli, chats: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"n_layer": 1, "n_embd": 500, "n_head": 1}))
    options = ["--model-config", config, "--dtype", "float32", "--capacity", "0.0008GB,50"]
    code, out, _ = cli("curve", chats, "--block-size", 4, "--json", *options)
    assert code == 0
    # 2 · 500 elements of 4 bytes: 4,000 bytes a token, 16,000 a block.
    points = json.loads(out)["curves"][0]["points"]
    assert [point["capacity_blocks"] for point in points] == [50, 50]


def test_output_files(cli: Cli, chats: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"curve.{e}" for e in ("json", "csv", "parquet", "png", "svg", "html")]
    options = [x for file in files for x in ("--output", file)]
    code, out, err = cli("curve", chats, "--block-size", 4, "--json", *options)
    assert (code, err) == (0, "")
    assert json.loads(files[0].read_text()) == json.loads(out)
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    points = json.loads(out)["curves"][0]["points"]
    assert [int(r["capacity_blocks"]) for r in rows] == [p["capacity_blocks"] for p in points]
    assert pq.read_table(files[2]).num_rows == len(points)
    assert files[3].read_bytes().startswith(b"\x89PNG")
    assert b"Hit rate by cache size" in files[4].read_bytes()
    assert b"vega" in files[5].read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([*files, chats])


def test_compiled_traces_are_kept(cli: Cli, chats: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = cli("curve", chats, "--json", "--cache-dir", folder)
    (kept,) = folder.iterdir()
    before = kept.stat().st_mtime_ns
    assert cli("curve", chats, "--json", "--cache-dir", folder) == first
    assert cli("sweep", chats, "--cache-dir", folder)[0] == 0
    assert kept.stat().st_mtime_ns == before


def test_sweep(cli: Cli, chats: Path, tmp_path: Path) -> None:
    csv_file = tmp_path / "sweep.csv"
    options = ["--engine", "lru,block-manager", "--block-size", "4", "--capacity", "40,inf"]
    code, out, err = cli("sweep", chats, "--json", "--output", csv_file, *options)
    assert (code, err) == (0, "")
    runs = json.loads(out)["runs"]
    expected = prefixsim.sweep(
        prefixsim.Trace.read(chats),
        engine=["lru", "block-manager"],
        block_size=4,
        capacity=[40, None],
    )
    assert runs == expected.to_pylist()
    assert len(csv_file.read_text().splitlines()) == 1 + len(runs)
    code, out, _ = cli("sweep", chats, *options)
    assert (code, out.count("block-manager"), out.count("infinite")) == (0, 2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--block-size", "4,x"], "--block-size 4,x: whole numbers"),
        (["--policy", "mru"], '--policy mru: policy "mru": choose from lru, clairvoyant'),
        (["--capacity", "many"], "give blocks like 5000"),
        (["--capacity", "1.5"], "give blocks like 5000"),
        (["--capacity", "4GB"], "--capacity 4GB: needs --bytes-per-token or --model-config"),
        (["--capacity", "2B", "--bytes-per-token", "1"], "less than one block of 16 tokens"),
        (["--bytes-per-token", "0"], "--bytes-per-token 0: must be at least"),
        (["--bytes-per-token", "1", "--model-config", "c"], "give one of them"),
        (["--model-config", "none.json"], "none.json: no such file"),
        (["--output", "x.pdf"], "x.pdf: the ending says no format"),
        (["--axis", "miles"], "--axis miles: choose one of blocks, tokens, GB"),
        (["--axis", "blocks"], "--axis blocks: belongs to a chart"),
        (
            ["--axis", "gb", "--output", "{tmp}/x.png"],
            "--axis GB: needs --model-config or --bytes-per-token",
        ),
        (["--cache-outputs"], "no output token ids"),
    ],
)
def test_bad_input_is_one_line(
    cli: Cli, chats: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    before = sorted(tmp_path.iterdir())
    code, out, err = cli("curve", chats, *(x.replace("{tmp}", str(tmp_path)) for x in options))
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "none"], "unknown engine 'none', choose one of"),
        (["--capacity", "0"], "--capacity 0: must be at least 1"),
        (["--capacity", "4GB"], "4GB: bytes need --bytes-per-token, or --model-config"),
        (["--output", "x.pdf"], "x.pdf: the ending says no table format"),
        (["--engine", "block-manager", "--policy", "clairvoyant"], "need the engine 'ideal'"),
    ],
)
def test_bad_sweeps_are_one_line(cli: Cli, chats: Path, options: list[str], message: str) -> None:
    code, out, err = cli("sweep", chats, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
