"""Readers on broken files: a trace or one clear line, never anything else.

``PREFIXSIM_FUZZ_INPUTS=100000 pytest tests/test_read_fuzz.py`` runs as many as wanted.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

from prefixsim import InputError, Trace
from prefixsim.formats import read_trace

INPUTS = int(os.environ.get("PREFIXSIM_FUZZ_INPUTS", "3000"))
MOONCAKE = b'{"timestamp":%d,"input_length":600,"output_length":1,"hash_ids":[1,2]}\n'
OPENAI = (
    b'{"created":1700000000,"id":"a","user":"u","messages":[{"role":"user","content":"hi"}],'
    b'"response":{"choices":[{"message":{"content":"ho"}}],"usage":{"completion_tokens":3}}}\n'
    b'{"ts":1700000001000,"body":{"messages":[{"role":"user","content":[{"type":"text",'
    b'"text":"\\ud83d\\ude00"}]}],"tools":[{"type":"function"}],"cache_salt":"s"}}\n'
    b'{"time":"2023-11-14T22:13:25Z","request":"{\\"messages\\":[{\\"role\\":\\"user\\"}]}"}\n'
)
AZURE = b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
NASTY = [
    b"\0",
    b"[" * 300,
    b"{" * 300,
    b"1e999",
    b"9" * 40,
    b"-1",
    b"\xff\xfe",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\x7f\xff\xff\xff",
    b"\x91" * 300,
    b'"\\ud800"',
]


def kv_events() -> list[bytes]:
    """One recording as JSON Lines and as msgpack, maps and arrays mixed."""
    stored: dict[str, Any] = {
        "type": "BlockStored",
        "block_hashes": [1, 2],
        "parent_block_hash": None,
        "token_ids": [5, 6, 7, 8],
        "block_size": 2,
        "medium": "GPU",
    }
    array = ["BlockStored", ["c"], 2, [9, 9], 2, None, "GPU", None, [["salt"]]]
    messages: list[Any] = [
        {"ts": 1.5, "events": [stored, array], "data_parallel_rank": 0},
        [2.5, [["BlockRemoved", [1], "GPU"], ["AllBlocksCleared"]], 0],
        {**stored, "ts": 3.5},
        [4.5, [stored], 0],
    ]
    lines = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
    return [lines, b"".join(msgpack.packb(message) for message in messages)]


def seeds(folder: Path) -> list[bytes]:
    trace = Trace.from_prompts([[1, 2], [1, 2, 3]], session=["a", "b"], outputs=[[7], []])
    files = []
    for ending in (".jsonl", ".parquet", ".arrow"):
        trace.write(folder / f"seed{ending}")
        files.append((folder / f"seed{ending}").read_bytes())
    mooncake = b"".join(MOONCAKE % i for i in range(4))
    azure = AZURE + b"".join(b"2023-11-16 18:17:0%d.9799600,4808,10\r\n" % i for i in range(4))
    lmcache = b'{"timestamp":5,"input":"hi","output":"ho","session_id":"s"}\n' * 3
    bailian = MOONCAKE.replace(b"{", b'{"chat_id":1,"parent_chat_id":-1,"turn":1,') % 5
    bailian = bailian.replace(b"600", b"20")
    files += [mooncake, azure, lmcache, bailian]
    files += [OPENAI, *kv_events()]
    return [*files, gzip.compress(mooncake), zstandard.compress(mooncake)]


def mutate(dice: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        kind = dice.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = dice.choice(NASTY)
        elif kind == 3:
            del data[at : at + dice.randrange(20)]
        else:
            data += data[at:][:2000]
    return bytes(data)


def test_what_is_mutated_can_be_read(tmp_path: Path) -> None:
    for raw in seeds(tmp_path):
        (tmp_path / "whole").write_bytes(raw)
        assert len(read_trace(tmp_path / "whole")) > 0


@pytest.mark.parametrize("skip_bad_rows", [False, True])
def test_broken_files(skip_bad_rows: bool, tmp_path: Path) -> None:
    dice = random.Random(7)
    files = seeds(tmp_path)
    path = tmp_path / "broken"
    read = refused = 0
    for _ in range(INPUTS // 2):
        path.write_bytes(mutate(dice, dice.choice(files)))
        try:
            trace = read_trace(path, skip_bad_rows=skip_bad_rows, sort=skip_bad_rows)
        except InputError as error:
            assert "\n" not in str(error)
            assert str(error).startswith(str(path))
            refused += 1
        else:
            assert len(trace) > 0
            read += 1
    assert read > INPUTS // 100
    assert refused > INPUTS // 20
