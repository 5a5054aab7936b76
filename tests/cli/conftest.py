from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefixsim.cli import main
from tests.commands import Cli


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process; its exit code, output and messages."""

    def run(*args: object) -> tuple[int, str, str]:
        code = main([str(a) for a in args])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Three conversations of three turns each, block size 4 in mind."""
    path = tmp_path / "chats.jsonl"
    rows = []
    for turn in range(3):
        for chat in range(3):
            tokens = [1, 2, 3, 4] + [100 * chat + k for k in range(4 * (turn + 1))]
            rows.append(
                {
                    "request_id": f"{chat}/{turn}",
                    "session": f"chat-{chat}",
                    "turn": turn,
                    "timestamp": float(10 * turn + chat),
                    "prompt_len": len(tokens),
                    "output_len": 1,
                    "token_ids": tokens,
                    "category": "even" if chat % 2 == 0 else "odd",
                }
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
