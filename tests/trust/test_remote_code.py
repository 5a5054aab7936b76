"""A tokenizer that brings Python code along: it runs when asked for, and never else."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.text.pretrained import load_tokenizer
from prefixsim.text.remote_code import remote_code, remote_code_allowed

CODE = """
import pathlib
pathlib.Path({mark!r}).write_text("ran")
from transformers import PreTrainedTokenizer

class Own(PreTrainedTokenizer):
    vocab_files_names = {{}}
    @property
    def vocab_size(self): return 256
    def get_vocab(self): return {{chr(i): i for i in range(256)}}
    def _tokenize(self, text): return list(text)
    def _convert_token_to_id(self, token): return ord(token) % 256
    def _convert_id_to_token(self, index): return chr(index)
    def save_vocabulary(self, save_directory, filename_prefix=None): return ()
"""


@pytest.fixture
def bringing_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return a folder with a tokenizer made of code, and the file that its code writes."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    folder, mark = tmp_path / "hostile", tmp_path / "mark"
    folder.mkdir()
    config = {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "own"} | config))
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    return folder, mark


def test_code_does_not_run_whatever_standard_input_says(
    bringing_code: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, mark = bringing_code
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n" * 100))
    with pytest.raises(InputError, match="--trust-remote-code") as caught:
        load_tokenizer(str(folder))
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_command_says_what_would_have_run(
    bringing_code: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, mark = bringing_code
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n" * 100))
    command = ["trace", "--model", str(folder), "--output-dir", str(tmp_path / "out")]
    assert main([*command, "--max-conversations", "2", "--skip-visualization"]) == 2
    assert not mark.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--trust-remote-code" in error


def test_consent_runs_it_and_ends_with_the_command(
    bringing_code: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, mark = bringing_code
    command = ["trace", "--model", str(folder), "--output-dir", str(tmp_path / "out")]
    command += ["--max-conversations", "2", "--skip-visualization", "--trust-remote-code"]
    assert main(command) == 0
    assert mark.exists()
    assert "run with your rights" in capsys.readouterr().err
    assert not remote_code_allowed()


def test_consent_is_of_a_block() -> None:
    with remote_code(allowed=True):
        assert remote_code_allowed()
        with remote_code(allowed=False):
            assert not remote_code_allowed()
    assert not remote_code_allowed()
