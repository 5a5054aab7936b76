"""Readers on broken files: a trace or one clear line, never anything else.

``PREFIXSIM_FUZZ_INPUTS=100000 pytest tests/test_read_fuzz.py`` runs as many as wanted.
"""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path

import pytest
import zstandard

from prefixsim import InputError, Trace
from prefixsim.formats import read_trace

INPUTS = int(os.environ.get("PREFIXSIM_FUZZ_INPUTS", "3000"))
MOONCAKE = b'{"timestamp":%d,"input_length":600,"output_length":1,"hash_ids":[1,2]}\n'
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
]


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
