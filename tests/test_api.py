"""The names at the top level, as people use them at a prompt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import prefixsim
from prefixsim import Trace
from prefixsim.errors import InputError

TRACE = Trace.from_prompts([range(64), range(64), range(100, 164), range(64)], name="small")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.jsonl"
    TRACE.write(path)
    return path


def test_every_public_name_is_there_and_documented() -> None:
    for name in prefixsim.__all__:
        assert getattr(prefixsim, name).__doc__ or name == "__version__", name
    assert dir(prefixsim) == sorted(prefixsim.__all__)
    assert set(prefixsim._HOMES) == set(prefixsim.__all__) - {"__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        prefixsim.nothing  # noqa: B018


@pytest.mark.parametrize("name", sorted(n for n in prefixsim.__all__ if not n.startswith("_")))
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(prefixsim, name).__doc__ or "")


def test_notebooks_show_tables() -> None:
    trace = prefixsim.Trace.from_prompts([range(40), range(48), range(40)], name="<chat>")
    curves = prefixsim.curve(trace, block_size=[8, 16])
    for shown in (trace, prefixsim.compile(trace), curves, curves[0]):
        html = shown._repr_html_()
        assert html.startswith("<table") and html.endswith("</table>")
        assert "&lt;chat&gt;" in html and "<chat>" not in html
    assert curves._repr_html_().count("ceiling 56.25 %") == 1


def test_functions_stay_functions_whatever_is_imported() -> None:
    code = (
        "import prefixsim, pkgutil, importlib\n"
        "for m in pkgutil.walk_packages(prefixsim.__path__, 'prefixsim.'):\n"
        "    if '__main__' not in m.name: importlib.import_module(m.name)\n"
        "names = [n for n in prefixsim.__all__ if n.islower() and n != '__version__']\n"
        "assert all(callable(getattr(prefixsim, n)) for n in names), names\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_paths_and_results_are_explained(file: Path) -> None:
    settings: dict[str, Any] = {"block_size": 16, "num_blocks": 5}
    wanted = prefixsim.explain(TRACE, **settings).totals
    assert prefixsim.explain(file, **settings).totals == wanted
    assert prefixsim.explain(str(file), **settings).totals == wanted
    assert prefixsim.explain(prefixsim.compile(TRACE), **settings).totals == wanted
    result = prefixsim.replay(TRACE, **settings)
    assert prefixsim.explain(result).totals == wanted
    assert prefixsim.explain(result, num_blocks=None).totals["evicted"] == 0


def test_info_lint_and_report_take_paths(file: Path, tmp_path: Path) -> None:
    assert prefixsim.info(file)["requests"] == 4
    assert prefixsim.lint(file).looked_at == 4
    page = prefixsim.report(file, tmp_path / "page.html", block_size=16)
    assert "small" in page.read_text(encoding="utf-8")
    results = [prefixsim.replay(TRACE, block_size=b) for b in (8, 16)]
    both = prefixsim.report(results, tmp_path / "both.html").read_text(encoding="utf-8")
    assert "2 replays compared" in both


def test_what_is_no_trace_is_said() -> None:
    with pytest.raises(InputError, match="list is no trace: give a Trace or the path of one"):
        prefixsim.info([1, 2])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no such file"):
        prefixsim.lint("missing.jsonl")
    with pytest.raises(InputError, match=r"Trace\.from_arrow takes this table"):
        prefixsim.info(TRACE.to_arrow())
