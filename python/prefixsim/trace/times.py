"""The unit of a trace's timestamps: said by the caller, or doubted."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from prefixsim.errors import InputError
from prefixsim.trace.trace import LATEST_S, Trace

__all__ = ["TimeUnit", "doubt", "in_unit"]

TimeUnit = Literal["s", "ms", "us", "ns"]

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_FORMAT_UNITS = {"mooncake": "ms"}  # the others count seconds
_FEWEST_REQUESTS = 50
_SLOWEST, _FASTEST = 0.02, 5000.0  # requests per second of a server that is worth simulating


def in_unit(trace: Trace, unit: str) -> Trace:
    """Return a trace that was just read, with the numbers of its file taken as this unit.

    Parameters
    ----------
    trace : Trace
    unit : {"s", "ms", "us", "ns"}

    Raises
    ------
    InputError
        If there is no such unit.
    """
    if unit not in get_args(TimeUnit):
        msg = f"time unit {unit!r}: choose one of {', '.join(get_args(TimeUnit))}"
        raise InputError(msg)
    taken_as = _FORMAT_UNITS.get(trace.format, "s")
    factor = _PER_SECOND[taken_as] / _PER_SECOND[unit]
    scaled = trace.replace(timestamp=trace.timestamp * factor)
    if scaled.outside_time() is not None:
        msg = f"{trace.name}: timestamps in {unit} lie beyond {LATEST_S:g} s"
        raise InputError(msg)
    return scaled


def doubt(trace: Trace) -> str | None:
    """Say why the unit of the timestamps is most likely another one; ``None`` if it is not.

    Examples
    --------
    >>> import numpy as np
    >>> trace = Trace.from_prompts([[1]] * 100, timestamp=np.arange(100) * 500.0)
    >>> doubt(trace)
    '0.002 requests/s over 0.6 days: if the times are in ms, pass --time-unit ms'
    """
    if len(trace) < _FEWEST_REQUESTS:
        return None
    span = float(trace.timestamp[-1] - trace.timestamp[0])
    rate = (len(trace) - 1) / span if span > 0 else 0.0
    if 0 < rate < _SLOWEST:
        told = f"{rate:.3g} requests/s over {span / 86400:,.1f} days"
        return f"{told}: if the times are in ms, pass --time-unit ms"
    if rate > _FASTEST and not np.all(np.diff(trace.timestamp) == 0):
        told = f"{rate:,.0f} requests/s over {span:.3g} s"
        return f"{told}: if the times are in s, pass --time-unit s"
    return None
