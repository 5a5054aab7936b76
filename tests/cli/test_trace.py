"""``prefixsim trace`` as a user runs it."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from prefixsim.cli import main
from tests.commands import COMMAND

ROWS = [
    {
        "id": "a",
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}],
    },
    {"id": "b", "conversations": [{"from": "human", "value": "One"}]},
]


def run(*args: str | Path | int) -> int:
    return main(["trace", *map(str, args)])


def failure(capsys: pytest.CaptureFixture[str], folder: Path, *args: str | Path) -> str:
    """Run what must fail and return its message: one line, code 2, nothing written."""
    code = run("--model", "demo", "--output-dir", folder, *args)
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("prefixsim: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not folder.exists() or not list(folder.iterdir())
    return err.removeprefix("prefixsim: ").strip()


def test_sample_to_traces_charts_and_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", "demo", "--max-conversations", 20, "--output-dir", tmp_path) == 0
    out, err = capsys.readouterr()
    assert "20 of 20 conversations from embedded synthetic sample" in out
    assert err == ""
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "single_turn_trace.jsonl",
        "multi_turn_trace.jsonl",
        "trace_summary.json",
        "turns_per_conversation.png",
        "turns_per_conversation.svg",
        "prompt_length.png",
        "prompt_length.svg",
    }
    for name in names:
        assert name in out
    row = json.loads((tmp_path / "multi_turn_trace.jsonl").read_text().splitlines()[0])
    assert row["request_id"] == "0:sample-000000:0"
    assert row["session"] == "0:sample-000000"
    assert (row["turn"], row["timestamp"]) == (0, 0.0)
    assert row["prompt_len"] == len(row["token_ids"])
    assert row["output_len"] == len(row["output_token_ids"])
    svg = (tmp_path / "prompt_length.svg").read_text()
    assert "prompt length (tokens)" in svg


def test_json_and_same_seed_same_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model", "demo", "--max-conversations", 15, "--skip-visualization", "--json")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(*options, "--output-dir", tmp_path / name, "--seed", seed) == 0
        summary = json.loads(capsys.readouterr().out)
        assert summary == json.loads((tmp_path / name / "trace_summary.json").read_text())
        assert summary["provenance"]["seed"] == seed
        assert len(list((tmp_path / name).iterdir())) == 3
    for file in ("single_turn_trace.jsonl", "multi_turn_trace.jsonl"):
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b != c


def test_own_file_text_and_parquet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "chat.json.gz"
    data.write_bytes(gzip.compress(json.dumps(ROWS).encode()))
    common = ("--data-path", data, "--skip-visualization", "--max-conversations", "all")
    assert run(*common, "--text", "--output-dir", tmp_path / "t", "--template", "role") == 0
    lines = (tmp_path / "t/multi_turn_trace.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [r["text"] for r in rows] == ["User: Hi\nAssistant:", "User: One\nAssistant:"]
    assert [r["output_text"] for r in rows] == ["Yo", ""]
    assert (
        run(
            *common, "--model", "demo", "--output-dir", tmp_path / "p", "--output-format", "parquet"
        )
        == 0
    )
    assert {p.suffix for p in (tmp_path / "p").iterdir()} == {".parquet", ".json"}
    assert "kept: 1 turns without answer" in capsys.readouterr().out


def test_bad_rows_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "chat.json"
    data.write_text(json.dumps([*ROWS, {"text": 1}, *ROWS], indent=1)[:-40])
    text = failure(capsys, tmp_path / "out", "--data-path", data)
    assert text.startswith(f"{data}:24: field 'conversations' is missing")
    common = ("--model", "demo", "--output-dir", tmp_path / "out", "--skip-visualization")
    assert run("--data-path", data, "--skip-bad-rows", *common) == 0
    out = capsys.readouterr().out
    assert "3 of 3 conversations" in out
    assert "left out, bad row: 1 wrong schema" in out
    assert "left out, bad row: 1 cut off" in out
    assert f"{data}:24: field" in out


BAD_FILES = {
    "not json": (b"hello\n", ":1: not JSON"),
    "empty": (b"", "is empty"),
    "schema": (
        b'[{"id": "x",\n "messages": [{"role": "user"}]}]',
        ":1: field 'messages[0].content' is missing",
    ),
    "truncated": (b'[\n{"conversations": []},\n{"conversations": [', ":3: the file is cut off"),
    "utf-8": (b'{"conversations": []}\n{"conversations": [], "id": "\xff"}\n', ":2: invalid UTF-8"),
    "no user": (
        b'[{"conversations": [{"from": "gpt", "value": "x"}]}]',
        "no conversation has a user",
    ),
    "empty array": (b"[]", "no conversation has a user message (0 conversations read"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    data, message = BAD_FILES[case]
    path = tmp_path / "chat.json"
    path.write_bytes(data)
    text = failure(capsys, tmp_path / "out", "--data-path", path)
    assert text.startswith(str(path))
    assert message in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data-path", "missing.json"), "missing.json: no such file"),
        (("--data-path", "."), "is a directory"),
        (("--block-size", "0"), "--block-size 0: must be at least 1"),
        (("--block-size", "-4"), "--block-size -4: must be at least 1"),
        (("--block-size", "x"), "block-size"),
        (("--arrival-rate", "0"), "arrival rate 0"),
        (("--arrival-rate", "-2"), "arrival rate -2"),
        (("--think-time", "-1"), "think time -1"),
        (("--max-conversations", "-1"), "--max-conversations -1"),
        (("--max-conversations", "many"), "--max-conversations many"),
        (("--template", "xml"), "--template xml: choose one of none, role, chat"),
        (("--tokenization", "byte"), "--tokenization byte: choose one of"),
        (("--output-format", "csv"), "--output-format csv: choose one of"),
        (("--model", "./no-such-model"), "no-such-model: no such folder"),
        (("--template", "chat", "--tokenization", "message"), "use --tokenization whole"),
    ],
)
def test_bad_options(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in failure(capsys, tmp_path / "out", *options)


def test_bad_data_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "chat.json"
    data.write_text(json.dumps(ROWS))
    text = failure(capsys, tmp_path / "out", "--data-path", data, "--data-format", "csv")
    assert "choose one of sharegpt, openai, wildchat" in text
    text = failure(capsys, tmp_path / "out", "--data-path", data, "--data-format", "openai")
    assert ":1: field 'messages' is missing (found 'id', 'conversations')" in text


def test_unwritable_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run("--model", "demo", "--output-dir", tmp_path / "file" / "sub") == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "file" in err


def test_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*COMMAND, "trace", "--model", "demo", "--output-dir", str(out)]
    command += ["--max-conversations", "1000000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out.is_dir() and any(p.stat().st_size for p in out.iterdir())):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "prefixsim: interrupted\n"
    assert not out.exists()
