"""Optional dependencies that are not there: one line with the command that adds them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import prefixsim
from prefixsim import charts
from prefixsim._extras import require
from prefixsim.cli import main
from prefixsim.reports import frame
from prefixsim.text.pretrained import load_tokenizer


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package look as if it were not installed."""

    def block(package: str) -> None:
        for name in list(sys.modules):
            if name.partition(".")[0] == package:
                monkeypatch.delitem(sys.modules, name)
        real = importlib.import_module

        def refuse(name: str, parent: str | None = None) -> object:
            if name.partition(".")[0] == package:
                msg = f"No module named {package!r}"
                raise ModuleNotFoundError(msg, name=package)
            return real(name, parent)

        monkeypatch.setattr("prefixsim._extras.import_module", refuse)

    return block


def result() -> prefixsim.Result:
    trace = prefixsim.Trace.from_prompts([[1, 2, 3, 4]])
    return prefixsim.replay(trace, block_size=2)


@pytest.mark.parametrize(
    ("package", "command", "call"),
    [
        ("transformers", '"prefixsim[text]"', lambda: load_tokenizer("demo")),
        ("altair", '"prefixsim[report]"', lambda: result().plot()),
        ("vl_convert", '"prefixsim[report]"', frame._vega.__wrapped__),
        ("vl_convert", '"prefixsim[report]"', lambda: charts.save(None, "x")),
        ("pandas", "pandas", lambda: result().to_pandas()),
    ],
)
def test_a_missing_package_is_one_line_with_the_command_that_adds_it(
    without: Callable[[str], None], package: str, command: str, call: Callable[[], object]
) -> None:
    without(package)
    with pytest.raises(prefixsim.MissingExtraError) as raised:
        call()
    assert str(raised.value) == f"{package} is not installed: pip install {command}"
    assert isinstance(raised.value, ImportError)
    assert raised.value.name == package


def test_the_command_line_says_it_and_leaves_with_code_2(
    without: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without("transformers")
    chats = tmp_path / "chats.json"
    chats.write_text('[{"id": "a", "conversations": [{"from": "human", "value": "hi"}]}]')
    code = main(["trace", "--data-path", str(chats), "--model", "demo"])
    assert code == 2
    said = capsys.readouterr().err
    assert said == 'prefixsim: transformers is not installed: pip install "prefixsim[text]"\n'


def test_a_package_that_is_there_but_broken_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import a_module_that_it_needs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_module_that_it_needs"):
        require("half_installed", extra="report")
