"""What an error message advises can be done, in every command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prefixsim.cli import COMMANDS, command, main
from prefixsim.cli._bundles import Reading

ROW = '{"timestamp": %d, "prompt_len": 20, "output_len": 2, "token_ids": [%s]}\n'
TOKENS = ", ".join(map(str, range(20)))
READING = [name for name in COMMANDS if issubclass(command(name).options, Reading)]


def test_these_read_traces() -> None:
    assert READING == [
        "replay", "compile", "curve", "sweep", "explain", "lint", "report", "fleet", "plan",
        "bill", "compare", "reorder", "bounds", "info", "convert",
    ]  # fmt: skip


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("kind", ["bad row", "order"])
def test_the_printed_advice_works(
    name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.jsonl"
    bad = "no request\n" if kind == "bad row" else ROW % (0, TOKENS)
    path.write_text(ROW % (1, TOKENS) + bad + ROW % (2, TOKENS))
    extra = {
        "convert": [str(tmp_path / "out.jsonl")],
        "report": ["-o", str(tmp_path / "r.html")],
        "plan": ["--model-config", "llama-3.1-8b"],
        "compile": ["--cache-dir", str(tmp_path / "kept")],
    }.get(name, [])
    assert main([name, str(path), *extra]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert str(path) in told.err
    (advice,) = set(re.findall(r"--(?:skip-bad-rows|sort)", told.err))
    assert main([name, str(path), *extra, advice]) == 0


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"Usage: prefixsim {name}")
    assert told.err == ""
    assert all(len(line) <= 100 for line in told.out.splitlines())


def test_a_mistyped_option_or_command_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(tmp_path / "t"), "--num-block", "3"]) == 2
    assert "has no option --num-block, did you mean --num-blocks?" in capsys.readouterr().err
    assert main(["repaly"]) == 2
    assert "did you mean replay?" in capsys.readouterr().err
    assert main(["--versoin"]) == 2
    assert "did you mean --version?" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completions_know_every_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", shell]) == 0
    script = capsys.readouterr().out
    assert "max-num-batched-tokens" in script
    assert all(name in script for name in COMMANDS)
    assert main(["--print-completion", "fish-and-chips"]) == 2
