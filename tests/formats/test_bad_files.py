"""Files that are wrong: the first bad row is named, others are counted, damage is one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from prefixsim import InputError
from prefixsim.cli import main
from prefixsim.formats import read_trace
from tests.formats.test_formats import GOOD


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("nonsense\n", "t.jsonl:2: not valid JSON"),
        ('{"timestamp":1\n', "t.jsonl:2: not valid JSON"),
        ("[1]\n", "t.jsonl:2: invalid type: sequence, expected a JSON object"),
        (GOOD.replace("600", "-1"), "t.jsonl:2: input_length: -1 is not a whole number from 0"),
        (GOOD.replace("600", "1.5"), "t.jsonl:2: input_length: 1.5 is not a whole number"),
        (GOOD.replace("600", '"x"'), 't.jsonl:2: input_length: invalid type: string "x"'),
        (GOOD.replace("600", "1025"), "t.jsonl:2: hash_ids: 2 ids for 1025 tokens, expected 3"),
        (GOOD.replace("[1,2]", "[1,-2]"), "t.jsonl:2: hash_ids: -2 is not a whole number"),
        (GOOD.replace("[1,2]", "null"), "t.jsonl:2: hash_ids: invalid type: null"),
        (GOOD.replace('"output_length":1,', ""), "t.jsonl:2: output_length: missing"),
        (GOOD.replace("hash_ids", "input_length"), "t.jsonl:2: input_length: given twice"),
        (
            GOOD.replace(":0,", ":1e999,"),
            "t.jsonl:2: timestamp: not valid JSON: number out of range",
        ),
        (GOOD.replace("[1,2]", "[" * 9999), "t.jsonl:2: hash_ids: invalid type: sequence"),
        (GOOD.replace(":0,", ':0,"x":' + "[" * 9999 + ","), "t.jsonl:2: not valid JSON"),
    ],
)
def test_the_first_bad_row_is_named(bad: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(GOOD + bad + GOOD + "never reached\n")
    with pytest.raises(InputError) as caught:
        read_trace(path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "--skip-bad-rows" in str(caught.value)


def test_bad_rows_are_skipped_counted_and_kept(tmp_path: Path) -> None:
    path, rejects = tmp_path / "t.jsonl", tmp_path / "rejects.jsonl"
    short = GOOD.replace("600", "1025")
    path.write_text(GOOD + "nonsense\n\r\n" + short + GOOD)
    trace = read_trace(path, skip_bad_rows=True, rejects=rejects)
    assert len(trace) == 2
    assert trace.prompts is not None
    assert trace.prompts.values.tolist() == [1, 2, 1, 2]
    assert sum(trace.meta["rows_skipped"].values()) == 2
    assert rejects.read_text() == "nonsense\n" + short


def test_rejects_of_several_files_are_joined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rejects = tmp_path / "rejects"
    for i in range(3):
        bad = f"nonsense {i}\n" if i != 1 else ""
        (tmp_path / f"{i}.jsonl").write_text(GOOD + bad + GOOD)
    trace = read_trace(tmp_path / "*.jsonl", skip_bad_rows=True, rejects=rejects)
    assert len(trace) == 6
    assert rejects.read_text() == "nonsense 0\nnonsense 2\n"
    assert sum(trace.meta["rows_skipped"].values()) == 2
    files = [str(tmp_path / f"{i}.jsonl") for i in range(2)]
    out = str(tmp_path / "out.parquet")
    assert main(["convert", *files, out, "--skip-bad-rows", "--rejects", str(rejects)]) == 2
    assert "takes the rows of one input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xff\xfe\x00", "t: is UTF-16 text, save it as UTF-8"),
        (b"\xfc{}", "t:1: is not UTF-8 text"),
        (b"hello\n", "t:1: not valid JSON"),
        (b"[1, 2]\n", "t:1: not a JSON object"),
        (b'{"a": 1}\n', "t:1: fields (a) fit no trace format"),
        (b"PAR1 but no more", "t: not a readable Parquet file"),
        (b"\xff\xff\xff\xff but no more", "t: not a readable Arrow file"),
        (b"\x1f\x8b\x08 but no more", "t: cannot be decompressed"),
        (b"\x28\xb5\x2f\xfd but no more", "t: cannot be decompressed"),
        (gzip.compress(GOOD.encode() * 5000)[:-40], "t: cannot be decompressed"),
        (zstandard.compress(GOOD.encode() * 5000)[:-20], "t: cannot be decompressed"),
    ],
)
def test_files_that_are_no_trace(raw: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        read_trace(path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_metadata_of_a_column(data: Path) -> None:
    """Found by fuzzing: pyarrow 26 aborts the process when asked for this column's metadata."""
    with pytest.raises(InputError, match="not a readable Parquet file: definition level"):
        read_trace(data / "damaged_column_metadata.parquet")


def test_missing_and_unsorted_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_trace(tmp_path / "none")
    with pytest.raises(InputError, match="is a directory"):
        read_trace(tmp_path)
    path = tmp_path / "t.jsonl"
    path.write_text(GOOD.replace(":0,", ":5,") + GOOD)
    with pytest.raises(InputError, match=r"t\.jsonl:2: timestamp: 0 s is earlier .* pass --sort"):
        read_trace(path)
    assert read_trace(path, sort=True).timestamp.tolist() == [0.0, 0.005]
    with pytest.raises(InputError, match="unknown trace format 'x', choose one of parquet"):
        read_trace(path, format="x")
