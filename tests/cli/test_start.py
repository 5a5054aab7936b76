"""What the shortest commands load: nothing that they do without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from prefixsim import Trace

# Heavy packages, and those of our own modules that belong to other ways.
UNNEEDED = {
    "altair",
    "asyncio",
    "difflib",
    "email",
    "importlib.metadata",
    "json.tool",
    "logging",
    "msgpack",
    "multiprocessing",
    "pyarrow",
    "rich",
    "shtab",
    "tokenizers",
    "transformers",
    "prefixsim.charts",
    "prefixsim.engines.block_manager",
    "prefixsim.engines.sglang",
    "prefixsim.engines.tiers",
    "prefixsim.engines.vllm",
    "prefixsim.explanations",
    "prefixsim.formats.kv_events",
    "prefixsim.formats.logs",
    "prefixsim.hardware",
    "prefixsim.reports",
    "prefixsim.routing",
    "prefixsim.traffic",
}

PROGRAM = """
import json, sys
from prefixsim.cli import main
code = main(sys.argv[1:])
sys.stderr.write(json.dumps([code, sorted(sys.modules)]))
"""


def loaded(*args: str) -> set[str]:
    """Run a command in a process of its own; return the modules loaded at its end."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *args], capture_output=True, text=True, check=True
    )
    code, modules = json.loads(run.stderr)
    assert code == 0
    return set(modules)


@pytest.fixture(scope="module")
def mooncake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "trace.jsonl"
    rows = [
        {"timestamp": 1000 * i, "input_length": 1030, "output_length": 5, "hash_ids": [1, 2, i]}
        for i in range(3, 9)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize("command", ["replay", "curve", "info"])
def test_short_ways_load_little(mooncake: Path, command: str, form: str) -> None:
    modules = loaded(command, str(mooncake), *(["--json"] if form == "json" else []))
    assert modules & UNNEEDED == set()


def test_the_trace_of_tokens_takes_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "tokens.jsonl"
    Trace.from_prompts([range(40), range(48)]).write(path)
    assert "prefixsim.engines.vllm" not in loaded("replay", str(path))


def test_help_and_options_of_other_engines_load_them(mooncake: Path) -> None:
    assert "prefixsim.engines.vllm" in loaded("replay", "--help")
    assert "prefixsim.engines.sglang" in loaded("replay", str(mooncake), "--num-blocks", "40")
