"""Tables on terminals of any width: every figure is there, and no line is too long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixsim._screen import fitted, width_of
from prefixsim.table import Table

COMPARISON = Table(
    title="block size 16 · unbounded cache",
    header=("", "single_turn_trace", "multi_turn_trace", "ratio"),
    rows=(
        ("total requests", "61,422", "61,422", "1x"),
        ("block reuse rate", "10.25 %", "62.96 %", "6.14x"),
    ),
    notes=("", "blocks reused / total blocks"),
)
WIDE = Table(
    title="",
    header=("engine", *(f"figure {i}" for i in range(9))),
    rows=(("vllm 0.33", *(f"{i}1,234,567" for i in range(9))),),
)


def test_a_wide_terminal_shows_everything() -> None:
    assert fitted([COMPARISON], 100) == (
        "block size 16 · unbounded cache\n"
        "                  single_turn_trace  multi_turn_trace  ratio\n"
        "total requests               61,422            61,422     1x\n"
        "block reuse rate            10.25 %           62.96 %  6.14x"
        "  blocks reused / total blocks\n"
    )


def test_notes_go_first() -> None:
    assert fitted([COMPARISON], 60) == (
        "block size 16 · unbounded cache\n"
        "                  single_turn_trace  multi_turn_trace  ratio\n"
        "total requests               61,422            61,422     1x\n"
        "block reuse rate            10.25 %           62.96 %  6.14x\n"
    )


def test_then_words_are_folded() -> None:
    assert fitted([COMPARISON], 56).splitlines()[-2:] == [
        "block reuse            10.25 %           62.96 %  6.14x",
        "rate",
    ]


def test_then_the_table_turns_on_its_side() -> None:
    lines = fitted([WIDE], 40).splitlines()
    assert lines[0] == "engine     vllm 0.33"
    assert lines[1] == "figure 0  01,234,567"
    assert len(lines) == 10


def test_at_last_it_is_a_list() -> None:
    assert fitted([COMPARISON], 30) == (
        "block size 16 · unbounded\ncache\n"
        "total requests\n"
        "  single_turn_trace  61,422\n"
        "  multi_turn_trace   61,422\n"
        "  ratio                  1x\n"
        "block reuse rate\n"
        "  single_turn_trace  10.25 %\n"
        "  multi_turn_trace   62.96 %\n"
        "  ratio                6.14x\n"
    )


def test_styles_take_no_room() -> None:
    plain, styled = fitted([COMPARISON], 100), fitted([COMPARISON], 100, styled=True)
    assert styled != plain
    assert re.sub("\x1b\\[[0-9;]*m", "", styled) == plain


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("块", 2), ("e\u0301", 1), ("", 0)])
def test_width_is_counted_in_columns(text: str, columns: int) -> None:
    assert width_of(text) == columns


WORD = st.text("abcdefgh", min_size=1, max_size=8)
FIGURE = st.integers(0, 10**9).map(lambda value: f"{value:,}")


@given(st.data(), st.integers(1, 5), st.integers(1, 4), st.integers(20, 90))
def test_no_figure_is_lost_and_no_line_too_long(
    data: st.DataObject, columns: int, rows: int, width: int
) -> None:
    table = Table(
        title=data.draw(WORD),
        header=("", *(data.draw(WORD) for _ in range(columns))),
        rows=[
            (
                " ".join(data.draw(st.lists(WORD, min_size=1, max_size=5))),
                *(data.draw(FIGURE) for _ in range(columns)),
            )
            for _ in range(rows)
        ],
        notes=[data.draw(WORD) for _ in range(rows)],
    )
    text = fitted([table], width)
    assert all(width_of(line) <= width for line in text.splitlines())
    shown = text.split()
    for row in table.rows:
        for figure in row[1:]:
            assert shown.count(figure) >= 1
    assert sum(figure in shown for row in table.rows for figure in row[1:]) == columns * rows
