"""Axes of time: the unit that fits a span, and labelled ticks from microseconds to days."""

from __future__ import annotations

from prefixsim._json import JsonObject

__all__ = ["TICKS", "log_axis", "time_unit"]

_COARSE = (
    *(10.0**k for k in range(-6, 2)), 60, 600, 3600, 36000, 86400, 864000, 8640000,
)  # fmt: skip
TICKS = {
    1e-6: "1 µs", 1e-5: "10 µs", 1e-4: "0.1 ms", 1e-3: "1 ms", 1e-2: "10 ms", 0.1: "0.1 s",
    1: "1 s", 2: "2 s", 5: "5 s", 10: "10 s", 30: "30 s", 60: "1 min", 120: "2 min",
    300: "5 min", 600: "10 min", 1800: "30 min", 3600: "1 h", 7200: "2 h", 18000: "5 h",
    36000: "10 h", 86400: "1 day", 864000: "10 days", 8640000: "100 days",
}  # fmt: skip
"""Labels of a logarithmic axis, by seconds."""


def time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit in which a span is a handy number, and its seconds.

    Examples
    --------
    >>> time_unit(7200), time_unit(100)
    (('minutes', 60.0), ('seconds', 1.0))
    """
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 3 * size:
            return unit, size
    return "seconds", 1.0


def log_axis(low: float, high: float) -> JsonObject:
    """Return the properties of a logarithmic axis of seconds: its ticks and their labels.

    Over many decades only the coarse ones, so that neighbours do not hide each other.
    """
    ticks = TICKS if high <= 1000 * low else [t for t in TICKS if t in _COARSE]
    shown = [t for t in ticks if low <= t <= high]
    labels = " : ".join([*(f"datum.value == {t!r} ? '{TICKS[t]}'" for t in shown), "''"])
    return {"values": shown, "labelExpr": labels, "labelOverlap": "greedy", "grid": True}
