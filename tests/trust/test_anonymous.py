"""Anonymized exports: keys that cannot be guessed, times and lengths that tell less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixsim import Trace, replay
from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.formats import read_trace
from prefixsim.trace import anonymous, transform

KEY = bytes(range(100, 132))


@pytest.fixture
def day(tmp_path: Path) -> Path:
    path = tmp_path / "day.jsonl"
    trace = Trace.from_prompts([[*range(40)], [*range(37)], [7, 8]], timestamp=[1e9, 1e9 + 3, 2e9])
    trace.replace(output_len=np.array([1, 20, 3], np.uint32)).write(path)
    return path


@pytest.mark.parametrize("key", [b"", b"k", b"a" * 64, b"abababab" * 9, bytes(range(31))])
def test_weak_keys_are_refused(key: bytes) -> None:
    with pytest.raises(InputError, match="too weak"):
        transform.anonymize(Trace.from_prompts([[1, 2]]), key=key)


def test_keys_are_random_by_default() -> None:
    trace = Trace.from_prompts([[1] * 16])
    one, two = (transform.anonymize(trace).prompts for _ in range(2))
    assert one is not None
    assert two is not None
    assert one.values[0] != two.values[0]


@pytest.mark.parametrize("key", ["secret", "00" * 32, "ab" * 31, "zz" * 32])
def test_weak_key_of_the_environment(
    key: str, day: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFIXSIM_ANONYMIZE_KEY", key)
    assert main(["convert", str(day), str(day.parent / "out.jsonl"), "--anonymize"]) == 2
    assert "openssl rand -hex 32" in capsys.readouterr().err
    assert not (day.parent / "out.jsonl").exists()


def test_key_file_is_made_once_for_its_owner(day: Path) -> None:
    file, outs = day.parent / "key", [day.parent / "a.jsonl", day.parent / "b.jsonl"]
    for out in outs:
        command = ["convert", str(day), str(out), "--anonymize", "--anonymize-key-file", str(file)]
        assert main(command) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(file.read_text())) == 32
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_key_file_that_others_can_read(
    day: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(KEY.hex())
    file.chmod(0o644)
    command = ["convert", str(day), str(tmp_path / "o.jsonl"), "--anonymize"]
    assert main([*command, "--anonymize-key-file", str(file)]) == 2
    assert "chmod 600" in capsys.readouterr().err


def test_times_and_lengths_of_an_export(day: Path) -> None:
    out = day.parent / "out.jsonl"
    command = ["convert", str(day), str(out), "--anonymize", "--shift-times"]
    assert main([*command, "--coarsen-lengths", "32"]) == 0
    trace = read_trace(out)
    assert trace.timestamp.tolist() == [0.0, 3.0, 1e9]
    assert trace.prompt_len.tolist() == [64, 64, 32]
    assert trace.output_len.tolist() == [32, 32, 32]


@pytest.mark.parametrize("block_size", ["0", str(10**23), "-1", "4294967296"])
def test_block_sizes_that_fit_nothing(
    block_size: str, day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["convert", str(day), str(day.parent / "o.jsonl"), "--anonymize"]
    assert main([*command, "--block-size", block_size]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@given(
    st.lists(st.lists(st.integers(0, 1), max_size=9), min_size=1, max_size=12),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_coarse_lengths_keep_hits(rows: list[list[int]], size: int, times: int) -> None:
    trace = transform.anonymize(Trace.from_prompts(rows), block_size=size, key=KEY)
    coarse = anonymous.coarsen_lengths(trace, size * times, key=KEY)
    assert np.all(coarse.prompt_len % (size * times) == 0)
    before, after = (
        replay(t, block_size=size, last_token_rule=False).outcome.hit_tokens
        for t in (trace, coarse)
    )
    assert before.tolist() == after.tolist()
