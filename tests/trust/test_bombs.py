"""Small files that claim much memory or time, and values that would take more than there is."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard

from prefixsim import BlockManager, Trace, compile, hash_blocks  # noqa: A004
from prefixsim.errors import InputError
from prefixsim.formats import read_trace
from prefixsim.trace import transform


def packed(path: Path, block: bytes, times: int) -> Path:
    with path.open("wb") as raw, zstandard.ZstdCompressor(level=3).stream_writer(raw) as out:
        for _ in range(times):
            out.write(block)
    return path


@pytest.mark.parametrize("form", [None, "jsonl", "mooncake", "openai", "lmcache"])
def test_a_bomb_of_line_ends(form: str | None, tmp_path: Path) -> None:
    path = packed(tmp_path / "bomb.jsonl.zst", b"\n" * (1 << 20), 128)
    assert path.stat().st_size < 20_000
    code = (
        "import sys; from prefixsim.formats import read_trace\n"
        "from prefixsim.errors import InputError\n"
        "try: read_trace(sys.argv[1], format=eval(sys.argv[2]))\n"
        "except InputError as error: print(error)\n"
        "from pathlib import Path\n"
        "status = Path('/proc/self/status')\n"
        "lines = status.read_text().splitlines() if status.exists() else []\n"
        "print(next((line.split()[1] for line in lines if line.startswith('VmHWM')), 0))\n"
    )
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), repr(form)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "is empty" in done.stdout
    assert time.monotonic() - before < 30
    # KiB at the peak. Not the parent's resource usage of children: that knows of all of them.
    assert int(done.stdout.split()[-1]) < 1 << 20


@pytest.mark.parametrize("form", ["jsonl", "openai"])
def test_a_line_without_end(form: str, tmp_path: Path) -> None:
    path = packed(tmp_path / "line.jsonl.zst", b" " * (1 << 20), 260)
    with pytest.raises(InputError, match="1: is longer than 256 MiB"):
        read_trace(path, format=form)


@pytest.mark.parametrize(
    ("name", "head", "end"),
    [
        ("openai.jsonl", b'{"messages": [{"role": "user", "content": "a"}], "ts": 1}\n', b""),
        ("chat.jsonl", b'{"conversations": [{"from": "human", "value": "a"}]}\n', b"[]"),
        ("lengths.csv", b"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:00,1,1\n", b""),
        ("late.csv", b"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:00,1,1\n", b"x,y"),
    ],
)
def test_blank_lines_behind_what_is_read(
    name: str, head: bytes, end: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.zst"
    with path.open("wb") as raw, zstandard.ZstdCompressor(level=3).stream_writer(raw) as out:
        out.write(head)
        for _ in range(192):
            out.write(b"\n" * (1 << 20))
        out.write(end)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from prefixsim.errors import InputError\n"
        "from prefixsim.formats import read_trace; from prefixsim.chat.reader import ChatReader\n"
        "path = sys.argv[1]\n"
        "try: print(len(list(ChatReader(path)) if 'chat' in path else read_trace(path)), 'read')\n"
        "except InputError as error: print(error)\n"
    )
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"},
    )
    told = f"{path}:{(2 if 'chat' in name else 3) + (192 << 20)}: " if end else "1 read\n"
    assert done.stdout.startswith(told), done.stdout + done.stderr
    assert time.monotonic() - before < 60


def test_extra_keys_that_hold_themselves() -> None:
    keys: list[Any] = []
    keys.append(keys)
    with pytest.raises(ValueError, match="nested more than 32 deep"):
        hash_blocks(range(16), extra_keys=[keys])
    with pytest.raises(ValueError, match="nested more than 32 deep"):
        BlockManager(10, 16).lookup(list(range(17)), extra_keys=[keys])
    deep: Any = "end"
    for _ in range(32):
        deep = (deep,)
    assert hash_blocks(range(16), extra_keys=[deep])


def _compile_and_hash(out: Any) -> None:
    trace = Trace.from_prompts([[i % 5] * 40 for i in range(20_000)])
    nodes = compile(trace).nodes
    hidden = transform.anonymize(trace).prompts
    assert hidden is not None
    out.put((nodes, len(hidden.values)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_computations_after_a_fork() -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    _compile_and_hash(results)  # the parent's threads are there
    right = results.get(timeout=10)
    child = context.Process(target=_compile_and_hash, args=(results,))
    child.start()
    try:
        assert results.get(timeout=30) == right
        child.join(10)
        assert child.exitcode == 0
    finally:
        child.kill()
