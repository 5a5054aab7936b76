"""Damaged files in a cache folder: the trace is compiled again, the figures are right.

Files made by hand, with the right checksum, are in ``tests/forest_file.rs``.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from prefixsim import Trace, compile  # noqa: A004
from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.forest import Forest, load_or_compile


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    prompts = [[i % 5] * 40 + [i] * 20 for i in range(30)]
    trace = Trace.from_prompts(prompts, salt=["a", "b"] * 15)
    trace.write(tmp_path / "t.jsonl")
    return trace


def test_damaged_bit_by_bit(trace: Trace, tmp_path: Path) -> None:
    forest = load_or_compile(trace, tmp_path / "cache")
    [path] = (tmp_path / "cache").iterdir()
    good = path.read_bytes()
    bits = random.Random(0).sample(range(len(good) * 8), 150)
    for bit in bits:
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            Forest.load(path, trace)
        assert load_or_compile(trace, tmp_path / "cache").stats == forest.stats
        assert path.read_bytes() == good
    for end in (0, 1, 16, 79, 80, len(good) - 1):
        path.write_bytes(good[:end])
        assert load_or_compile(trace, tmp_path / "cache").stats == forest.stats


def test_curve_with_a_damaged_cache(
    trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["curve", str(tmp_path / "t.jsonl"), "--cache-dir", str(tmp_path / "c"), "--json"]
    assert main(command) == 0
    right = capsys.readouterr()
    [path] = (tmp_path / "c").iterdir()
    data = bytearray(path.read_bytes())
    rng = random.Random(1)
    for _ in range(20):
        for _ in range(rng.randint(1, 40)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        assert main(command) == 0
        assert capsys.readouterr() == right


def test_an_older_format_is_compiled_again(trace: Trace, tmp_path: Path) -> None:
    forest = load_or_compile(trace, tmp_path)
    [path] = tmp_path.glob("*.forest")
    data = path.read_bytes()
    path.write_bytes(data[:16] + struct.pack("<I", 1) + data[20:])
    with pytest.raises(InputError, match="version 1"):
        Forest.load(path, trace)
    assert load_or_compile(trace, tmp_path).stats == forest.stats


def test_options_of_a_file_that_was_renamed(tmp_path: Path) -> None:
    trace = Trace.from_prompts([[1, 2], [1, 2, 3]], outputs=[[3, 4], [5, 6]])
    load_or_compile(trace, tmp_path)
    [path] = tmp_path.iterdir()
    path.rename(path.with_name(path.name.replace(".forest", "-outputs.forest")))
    assert load_or_compile(trace, tmp_path, outputs=True).outputs


def test_a_file_cut_while_it_is_in_use(trace: Trace, tmp_path: Path) -> None:
    load_or_compile(trace, tmp_path)
    [path] = tmp_path.glob("*.forest")
    forest = Forest.load(path, trace)
    path.write_bytes(b"")
    assert forest.unique_blocks(16) == compile(trace).unique_blocks(16)
