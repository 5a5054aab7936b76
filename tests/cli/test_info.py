"""``prefixsim info`` on real traces: the counts their sources state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefixsim.cli import main
from tests.commands import Cli

MOONCAKE = "mooncake/conversation_trace.jsonl.gz"


def info(capsys: pytest.CaptureFixture[str], *args: str | Path) -> dict[str, Any]:
    assert main(["info", *map(str, args), "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_mooncake(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = info(capsys, shared / "data" / MOONCAKE)
    expected = {
        "format": "mooncake",
        "requests": 12031,
        "prompt_tokens": 144793823,
        "output_tokens": 4122048,
        "hash_ids": 288500,
        "unchained_ids": 0,
        "block_size": 512,
        "unique_blocks": 170899,
        "ceiling_hit_tokens": 54063104,
    }
    assert {name: told[name] for name in expected} == expected
    assert round(told["ceiling_token_hit_rate"], 6) == 0.373380
    wider = info(capsys, shared / "data" / MOONCAKE, "--block-size", "1024")
    assert round(wider["ceiling_token_hit_rate"], 6) == 0.339611


@pytest.mark.parametrize(
    ("file", "kind", "requests", "sessions"),
    [
        ("lmcache-agent/magagent.jsonl.gz", "text", 746, 25),
        ("lmcache-agent/taubench.jsonl.gz", "text", 471, 24),
        ("azure2023/AzureLLMInferenceTrace_conv.csv.gz", "lengths", 19366, None),
    ],
)
def test_other_traces(
    file: str,
    kind: str,
    requests: int,
    sessions: int | None,
    *,
    shared: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = info(capsys, shared / "data" / file)
    assert (told["kind"], told["requests"], told.get("sessions")) == (kind, requests, sessions)


def test_a_block_size_that_cannot_be(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(shared / "data" / MOONCAKE), "--block-size", "100"]) == 2
    assert "must be a multiple of 512" in capsys.readouterr().err


def test_info_of_hash_ids_of_a_size_that_is_not_known(tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "t.jsonl"
    row = {"timestamp": 0, "input_length": 20, "output_length": 1, "hash_ids": [1, 2]}
    path.write_text(json.dumps(row) + "\n")
    code, _, told = cli("info", path)
    assert (code, "each may stand for 10 to 19 tokens" in told) == (2, True)
    code, out, told = cli("info", path, "--id-block-size", 16, "--json")
    assert (code, told, json.loads(out)["id_block_size"]) == (0, "", 16)
