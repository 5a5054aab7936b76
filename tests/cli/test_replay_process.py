"""``prefixsim replay`` as a process: interrupts, pipes, what it imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.commands import COMMAND


def start(*args: object, **options: Any) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*COMMAND, *map(str, args)], stdout=pipe, stderr=pipe, text=True, **options
    )


@pytest.mark.skipif(os.name == "nt", reason="named pipes and SIGINT")
def test_ctrl_c_is_code_130_and_leaves_nothing(tmp_path: Path) -> None:
    pipe, out = tmp_path / "slow.jsonl", tmp_path / "r.json"
    os.mkfifo(pipe)
    process = start("replay", pipe, "--output-file", out, "--json")
    feeding = open_when_read(pipe)  # now the command waits for the trace
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    os.close(feeding)
    assert (process.returncode, stdout, stderr) == (130, "", "prefixsim: interrupted\n")
    assert [p.name for p in tmp_path.iterdir()] == ["slow.jsonl"]


def open_when_read(pipe: Path) -> int:
    for _ in range(3000):
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.01)
    pytest.fail("the command never opened its trace")


def test_a_reader_that_leaves_is_no_error(chats: Path) -> None:
    process = start("replay", chats)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 0


def test_start_up_imports_only_what_a_replay_needs(chats: Path) -> None:
    code = (
        "import sys; from prefixsim.cli import main; main(sys.argv[1:]);"
        "print([m for m in ('altair', 'transformers', 'pyarrow', 'pandas', 'rich.table')"
        " if m in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "replay", str(chats), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.skipif(os.name == "nt", reason="named pipes")
def test_a_named_pipe_is_a_trace(chats: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start("replay", pipe, "--json", "--block-size", "4")
    pipe.write_bytes(chats.read_bytes())
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (0, "")
    assert json.loads(stdout)["summary"]["hit_tokens"] == 17 * 4
