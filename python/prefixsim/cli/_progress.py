"""One line on standard error that says how far a long command is, and goes away at the end."""

from __future__ import annotations

import shutil
import sys
import time

from prefixsim._printable import printable

__all__ = ["Line", "bar", "duration"]

_SECONDS_BETWEEN = 0.1
_BAR = 20
_PARTS = " \u258f\u258e\u258d\u258c\u258b\u258a\u2589\u2588"  # eighths of a block
_ASCII_PARTS = " #"


class Line:
    """The line; used in a ``with`` block, and silent where standard error is no terminal."""

    def __init__(self) -> None:
        self.seen = sys.stderr.isatty()
        self.started = time.monotonic()
        self._next = 0.0
        self._shown = False

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, text: str, *, now: bool = False) -> None:
        """Show text in place of what was there; not more often than an eye can follow."""
        moment = time.monotonic()
        if not self.seen or (moment < self._next and not now):
            return
        self._next = moment + _SECONDS_BETWEEN
        from prefixsim._screen import width_of

        room = shutil.get_terminal_size().columns - 1
        text = printable(text)
        while width_of(text) > room:
            text = text[: -max(1, (width_of(text) - room) // 2)]
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()
        self._shown = True

    def left(self, share: float) -> str:
        """Return the time that the rest will take, if it goes on like this."""
        passed = time.monotonic() - self.started
        return f"{duration(passed * (1 - share) / share)} left" if 0 < share < 1 else ""


def bar(share: float) -> str:
    """Draw a share of 0 to 1."""
    parts = _PARTS if (sys.stderr.encoding or "").lower().startswith("utf") else _ASCII_PARTS
    steps = len(parts) - 1
    filled = round(max(0.0, min(1.0, share)) * _BAR * steps)
    whole, rest = divmod(filled, steps)
    return (parts[-1] * whole + (parts[rest] if rest else "")).ljust(_BAR)


def duration(seconds: float) -> str:
    """Write seconds as minutes and hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
