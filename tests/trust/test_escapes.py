"""Labels of a trace are shown by terminals and spreadsheets, and obeyed by neither."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixsim import Trace
from prefixsim._arrow_files import write_table
from prefixsim._json import dumps
from prefixsim._printable import printable
from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.formats import read_trace

NASTY = "\x1b]0;owned\x07\x1b[2Jtenant\nline\x9b31m\u202e"


def obeyed(text: str) -> set[str]:
    """Characters that a terminal would not just show."""
    return {c for c in text if not c.isprintable() and c != "\n"}


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    path = tmp_path / "nasty.jsonl"
    session = [NASTY, "b", NASTY]
    trace = Trace.from_prompts(
        [[1] * 40, [1] * 40, [2] * 30], timestamp=[0, 1, 2], session=session, salt=[NASTY] * 3
    )
    trace.write(path)
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["info"],
        ["replay", "--by", "salt"],
        ["explain"],
        ["lint", "--min-requests", "1"],
        ["info", "--json"],
    ],
)
def test_labels_reach_no_terminal(
    command: list[str], nasty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], str(nasty), *command[1:]]) == 0
    out, err = capsys.readouterr()
    assert obeyed(out + err) == set()


def test_names_of_files_in_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path / "\x1b]2Jx.jsonl")]) == 2
    error = capsys.readouterr().err
    assert obeyed(error) == set()
    assert "\\x1b]2Jx.jsonl: no such file" in error


@pytest.mark.parametrize("width", [30, 60, 200])
def test_tables_on_a_terminal_show_escapes(width: int) -> None:
    from prefixsim._screen import fitted
    from prefixsim.table import Table

    out = fitted([Table(NASTY, ["", NASTY], [[NASTY, "[red]1"]], notes=[NASTY])], width)
    assert obeyed(out) == set()
    assert "[red]1" in out


def test_html_charts_run_no_label(tmp_path: Path) -> None:
    import altair as alt

    from prefixsim.charts import save

    label = "</script><script>alert(1)</script><!--"
    chart = alt.Chart(alt.Data(values=[{"a": label, "b": 1}]), title=label).mark_bar()
    [written] = save(chart.encode(x="a:N", y="b:Q"), tmp_path / "hostile", ["html"])
    page = written.read_text()
    assert "<script>alert" not in page
    assert "\\u003c/script>\\u003cscript>alert(1)" in page


@given(st.text())
def test_printable_text(text: str) -> None:
    shown = printable(text)
    assert not set(map(ord, shown)) & {*range(32), *range(0x7F, 0xA0), 0x202E, 0xD800}
    shown.encode()
    plain = all(c.isprintable() for c in text)
    assert not plain or shown == text


@given(st.text())
def test_json_has_no_controls_and_the_same_content(text: str) -> None:
    written = dumps({"a": text})
    assert not set(map(ord, written.replace("\n", ""))) & {*range(32), *range(0x7F, 0xA0)}
    assert json.loads(written) == {"a": text}


def test_csv_cells_start_no_formula(tmp_path: Path) -> None:
    texts = ["=1+2", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "-12", "+1.5e3", "a=b", None]
    table = pa.table({"session": texts, "hit_tokens": range(len(texts))})
    write_table(table, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        cells = [row["session"] for row in csv.DictReader(file)]
    assert cells[:5] == ["'" + text for text in texts[:5] if text is not None]
    assert cells[5:] == ["-12", "+1.5e3", "a=b", ""]
    write_table(table, tmp_path / "t.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [row["session"] for row in rows] == texts


def test_errors_are_one_line_for_python_callers_too(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'"a\x1b]2J","b\r\nc",\xe2\x80\xae\n1,2,3\n')
    with pytest.raises(InputError) as caught:
        read_trace(path, format="azure")
    assert obeyed(str(caught.value)) == set()
    assert "\n" not in str(caught.value)
    assert r"a\x1b]2J, b c, \u202e" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
