"""``prefixsim reorder`` as its users run it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

import prefixsim
from prefixsim.trace import Trace
from tests.commands import Cli

ODD = '{"custom_id": "%s", "url": "/v1/chat/completions",  "body": %s , "extra": "\\u00e9"}'
RULES = "You are a helpful assistant who answers every question in one short sentence. " * 4


def body(question: str, **more: object) -> str:
    messages = [
        {"role": "system", "content": RULES if question.startswith("a") else f"{RULES[40:]}"},
        {"role": "user", "content": question},
    ]
    return json.dumps({"model": "m", "messages": messages, **more})


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """Four requests of two kinds in turns, in lines of odd spacing, and one without end of line."""
    names = ["a1", "b1", "a2", "b2"]
    lines = [ODD % (name, body(name, n=2 if name == "b1" else 1)) for name in names]
    path = tmp_path / "batch.jsonl"
    path.write_bytes("\r\n".join(lines).encode() + b"\n\n" + (ODD % ("a3", body("a3"))).encode())
    return path


def test_a_batch_keeps_its_lines(cli: Cli, batch: Path, tmp_path: Path) -> None:
    output = tmp_path / "ordered.jsonl"
    code, out, err = cli("reorder", batch, "-o", output, "--model", "demo", "--json")
    assert code == 0, err
    assert "5 lines" in err
    before = [line for line in batch.read_bytes().split(b"\n") if line]
    after = output.read_bytes().split(b"\n")[:-1]
    assert sorted(after) == sorted(before)
    kinds = [json.loads(line)["custom_id"][0] for line in after]
    assert kinds in (list("aaabb"), list("bbaaa"))
    runs = {run["order"]: run["hit_tokens"] for run in json.loads(out)["runs"]}
    again = json.loads(cli("reorder", output, "--model", "demo", "--json")[1])
    assert again["runs"][0]["hit_tokens"] == again["runs"][1]["hit_tokens"]
    assert again["runs"][0]["hit_tokens"] == runs["depth first"]


def test_a_compressed_batch_is_written_plain(cli: Cli, batch: Path, tmp_path: Path) -> None:
    packed = tmp_path / "batch.jsonl.gz"
    packed.write_bytes(gzip.compress(batch.read_bytes()))
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    assert cli("reorder", packed, "-o", one, "--model", "demo")[0] == 0
    assert cli("reorder", batch, "-o", two, "--model", "demo")[0] == 0
    assert one.read_bytes() == two.read_bytes()


def test_a_trace_keeps_the_times_of_its_places(cli: Cli, tmp_path: Path) -> None:
    trace = Trace.from_prompts([[1] * 40, [2] * 40, [1] * 50], timestamp=[0, 1.5, 2])
    path, output = tmp_path / "t.parquet", tmp_path / "o.jsonl"
    trace.write(path)
    code, out, err = cli(
        "reorder", path, "-o", output, "--engine", "ideal", "--num-blocks", "3", "--shuffles", "0"
    )
    assert code == 0, err
    assert "depth first" in out and "shuffled" not in out
    written = Trace.read(output)
    assert written.timestamp.tolist() == [0, 1.5, 2]
    wanted = prefixsim.reorder(trace, engine="ideal", num_blocks=3).reordered
    assert written.prompt_len.tolist() == wanted.prompt_len.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "batch.jsonl"], "is also read"),
        (["-o", "other.parquet"], "plain JSON Lines"),
        (["-o", "other.jsonl", "--to", "mooncake"], "a batch file stays one"),
        (["--to", "mooncake"], "give --output FILE as well"),
        (["-o", "missing/o.jsonl"], "there is no folder"),
    ],
)
def test_what_is_refused(
    cli: Cli, batch: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(batch.parent)
    before = batch.read_bytes()
    code, _, err = cli("reorder", "batch.jsonl", "--model", "demo", *options)
    assert code == 2
    assert message in err
    assert batch.read_bytes() == before


def test_lines_without_a_request_come_last(cli: Cli, batch: Path, tmp_path: Path) -> None:
    bad = '{"custom_id": "bad", "url": "/v1/chat/completions", "body": {}}'
    batch.write_text(f"{bad}\n{batch.read_text()}")
    output = tmp_path / "ordered.jsonl"
    assert cli("reorder", batch, "-o", output, "--model", "demo")[0] == 2
    assert not output.exists()
    code, _, err = cli("reorder", batch, "-o", output, "--model", "demo", "--skip-bad-rows")
    assert code == 0, err
    assert output.read_text().splitlines()[-1] == bad
