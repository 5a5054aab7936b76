"""What commands say of wrong files and options: one line, exit code 2, reviewed in the snapshot."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from prefixsim.cli import main

ROWS = [
    {"timestamp": float(i), "token_ids": list(range(40)), "output_len": 2, "session": "s"}
    for i in range(4)
]
GOOD = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CHAT = {"id": "a", "conversations": [{"from": "human", "value": "hi"}]}
MESSAGES = {"timestamp": 1.0, "messages": [{"role": "user", "content": "hi"}]}
MOONCAKE = {"timestamp": 0, "input_length": 512, "output_length": 1}


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("trace.jsonl"), GOOD)
    return buffer.getvalue()


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


FILES = {
    "good.jsonl": GOOD,
    "chats.json": json.dumps([CHAT], indent=1).encode(),
    "chats.jsonl": line(CHAT),
    "one_line.json": line([CHAT]),
    "openai_chats.jsonl": line({"messages": MESSAGES["messages"]}),
    "picture.jsonl": b"\x89PNG\r\n\x1a\n" + bytes(60),
    "photo.jsonl": b"\xff\xd8\xff\xe0" + bytes(60),
    "paper.jsonl": b"%PDF-1.7\n",
    "archive.jsonl": zipped(),
    "twice.gz": gzip.compress(gzip.compress(GOOD, mtime=0), mtime=0),
    "cut.gz": gzip.compress(GOOD * 500, mtime=0)[:-9],
    "utf16.jsonl": GOOD.decode().encode("utf-16"),
    "latin.jsonl": b'{"timestamp": 0, "text": "\xe9"}\n',
    "page.jsonl": b"<!doctype html><html></html>\n",
    "notes.jsonl": b"hello there\n",
    "number.jsonl": b"17\n",
    "empty.jsonl": b"",
    "semicolons.csv": b"TIMESTAMP;ContextTokens;GeneratedTokens\n2023-11-16 18:15:46;4;1\n",
    "tabs.csv": b"TIMESTAMP\tContextTokens\tGeneratedTokens\n2023-11-16 18:15:46\t4\t1\n",
    "lengths.csv": b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,4,1\n",
    "other.csv": b"name,age\nann,7\n",
    "other.jsonl": line({"name": "ann", "age": 7}),
    "no_ids.jsonl": line(MOONCAKE),
    "no_prompt.jsonl": line({"timestamp": 0.0, "user": "ann"}),
    "no_time.jsonl": line({"token_ids": [1, 2]}),
    "second.jsonl": GOOD + line({"token_ids": [1, 2]}),
    "words.jsonl": line({"timestamp": 0.0, "token_ids": ["one"]}),
    "negative.jsonl": line({"timestamp": 0.0, "token_ids": [-1]}),
    "backwards.jsonl": GOOD + GOOD,
    "broken.jsonl": GOOD + b'{"timestamp": 9.0, "token\n',
    "messages.jsonl": line(MESSAGES),
    "broken.parquet": b"PAR1" + bytes(60),
    "config.json": b'{"name": "no model"}',
}

READ = [name for name in FILES if name not in ("good.jsonl", "config.json")]
COMMANDS = [
    *(f"replay {name}" for name in READ),
    "replay nowhere.jsonl",
    "replay .",
    "replay 'nothing-*.jsonl'",
    "replay good.jsonl --block-size 0",
    "replay good.jsonl --block-size many",
    "replay good.jsonl --num-blocks lots",
    "replay good.jsonl --num-blocks 40GB",
    "replay good.jsonl --num-blocks 40GB --model-config config.json",
    "replay good.jsonl --num-blocks 1 --engine block-manager",
    "replay good.jsonl --engine vlm",
    "replay good.jsonl --polcy lru",
    "replay good.jsonl --policy newest",
    "replay good.jsonl --warmup 1",
    "replay good.jsonl --format mooncak",
    "replay good.jsonl --by tenant",
    "replay good.jsonl --by category",
    "replay good.jsonl --engine vllm --num-blocks 9 --latency quick",
    "replay good.jsonl --engine vllm --num-blocks 9 --latency h100",
    "replay good.jsonl --engine vllm --num-blocks 9 --arrivals closed",
    "replay good.jsonl --requests-out rows.xls",
    "replay good.jsonl --output good.jsonl/x.json",
    "replay good.jsonl --hashing none",
    "rplay good.jsonl",
    "curve good.jsonl --axis GB",
    "curve good.jsonl --axis GB --output c.png",
    "curve good.jsonl --output c.gif",
    "curve good.jsonl --capacity some",
    "sweep good.jsonl --engine ideal,vlm",
    "explain good.jsonl --request nobody",
    "explain good.jsonl --top -1",
    "compare good.jsonl --rank-by speed",
    "report good.jsonl -o nowhere/r.html",
    "lint messages.jsonl",
    "info good.jsonl --block-size -4",
    "convert good.jsonl",
    "convert good.jsonl out.txt",
    "convert good.jsonl out.jsonl --sample 2",
    "generate poem --requests 3 --output p.jsonl",
    "generate chat --requests 0 --output p.jsonl",
    "trace --data-path good.jsonl --model demo",
    "trace --data-path nowhere.json --model demo",
    "trace --max-conversations few",
    "trace --template poem",
    "trace --model ./nowhere",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_sixty() -> None:
    assert len(set(COMMANDS)) == len(COMMANDS) >= 60


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_input_is_one_line(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str], snapshot: SnapshotAssertion
) -> None:
    before = {path.name for path in folder.iterdir()}
    code = main([part.strip("'") for part in command.split()])
    told = capsys.readouterr()
    assert code == 2
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert told.err.startswith("prefixsim: ")
    assert len(told.err) < 300
    assert {path.name for path in folder.iterdir()} == before  # nothing half-written
    assert told.err == snapshot
