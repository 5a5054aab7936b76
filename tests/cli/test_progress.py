"""The line that shows progress: drawn on a terminal, never in a pipe, gone at the end."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

from prefixsim.cli._progress import Line, bar, duration


class Screen(io.StringIO):
    encoding = "utf-8"

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Screen]:
    """Put a terminal of 20 columns in place of standard error, when called."""

    def put() -> Screen:
        screen = Screen(terminal=True)
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("COLUMNS", "20")
        return screen

    return put


def test_a_line_is_cut_to_the_terminal_and_wiped(terminal: Callable[[], Screen]) -> None:
    screen = terminal()
    with Line() as line:
        line.show("reading a file with a long name")
    assert screen.getvalue() == "\rreading a file with\x1b[K\r\x1b[K"


def test_the_eye_is_given_time(
    terminal: Callable[[], Screen], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = terminal()
    clock = iter([0.0, 5.0, 5.05, 5.06, 5.2])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Line() as line:
        line.show("a")
        line.show("b")
        line.show("c", now=True)
        line.show("d")
    assert screen.getvalue() == "\ra\x1b[K\rc\x1b[K\rd\x1b[K\r\x1b[K"


def test_a_pipe_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Screen(terminal=False)
    monkeypatch.setattr(sys, "stderr", pipe)
    with Line() as line:
        line.show("a")
    assert pipe.getvalue() == ""


def test_wide_characters_are_counted(terminal: Callable[[], Screen]) -> None:
    screen = terminal()
    with Line() as line:
        line.show("\u5757" * 15)
    assert screen.getvalue().startswith("\r" + "\u5757" * 9 + "\x1b")


@pytest.mark.parametrize(
    ("share", "drawn"), [(0, ""), (0.5, "\u2588" * 10), (1, "\u2588" * 20), (7, "\u2588" * 20)]
)
def test_bars(terminal: Callable[[], Screen], share: float, drawn: str) -> None:
    terminal()
    assert bar(share) == drawn.ljust(20)


def test_bars_of_terminals_without_unicode(terminal: Callable[[], Screen]) -> None:
    screen = terminal()
    screen.encoding = "ascii"
    assert bar(0.25) == "#####".ljust(20)


def test_durations() -> None:
    assert [duration(s) for s in (0, 59.6, 61, 3725)] == ["0:00", "1:00", "1:01", "1:02:05"]
