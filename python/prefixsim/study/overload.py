"""Overload: whether requests come faster than servers can serve them, and how many it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonFields, JsonObject
from prefixsim.trace import Trace
from prefixsim.trace.columns import Array

__all__ = ["Overload", "estimated", "overload_in", "overload_of", "people_seconds"]

_FEWEST = 20
_GROWTH_S = 5.0
_GROWTH = 0.005  # seconds of waiting for each second of the trace


@dataclass(frozen=True)
class Overload:
    """Servers that do not keep up.

    Where requests come faster than they are served, each waits longer than the one before: after
    ``t`` seconds ``t * (arrivals / served - 1)``. The slope of the waiting times over the arrivals
    therefore gives the rate at which they are served.

    Attributes
    ----------
    arrival_rate, service_rate : float
        Requests a second.
    growth_s_per_hour : float
        Seconds that the waiting time grows in an hour.
    replicas, stable_from : int
        As there are, and as many as it takes, about: hits and batches change with their number.
    """

    arrival_rate: float
    service_rate: float
    growth_s_per_hour: float
    replicas: int
    stable_from: int

    def to_dict(self) -> JsonObject:
        """Return the figures; plain values."""
        return asdict(self)

    def __str__(self) -> str:
        servers = "the server serves" if self.replicas == 1 else f"{self.replicas} replicas serve"
        grows = people_seconds(self.growth_s_per_hour)
        return (
            f"overload: {self.arrival_rate:.3g} requests/s come, {servers} "
            f"{self.service_rate:.3g}/s; the queue grows by {grows} of waiting an hour, "
            f"stable from about {self.stable_from} replicas"
        )


def people_seconds(seconds: float) -> str:
    """Write a time as people do.

    Examples
    --------
    >>> [people_seconds(s) for s in (0.0421, 0.517, 9.11, 208, 2830, 30000)]
    ['42 ms', '517 ms', '9.1 s', '208 s', '47 min', '8.3 h']
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def estimated(config: JsonFields) -> str:
    """Say what the times of a run rest on, if they are estimates; else nothing.

    Parameters
    ----------
    config : mapping
        Of an outcome, with its ``latency``.
    """
    latency = config.get("latency")
    if not isinstance(latency, Mapping) or not latency.get("estimate"):
        return ""
    told = (
        f"times are an estimate: a roofline of {latency['gpu']} that reaches "
        f"{latency['compute_efficiency']:.0%} of the peak FLOP/s and "
        f"{latency['memory_efficiency']:.0%} of the bandwidth"
    )
    return told.replace("%", " %")


def overload_in(trace: Trace, columns: Mapping[str, Array], config: JsonFields) -> Overload | None:
    """Tell whether one server keeps up with a trace; ``None``: it does, or nobody knows.

    Parameters
    ----------
    trace : Trace
    columns : mapping
        Of the outcome: ``queue_s`` and ``ttft_s``, where the engine has time.
    config : mapping
        Of the outcome. Arrivals other than the trace's say nothing of overload.
    """
    if config.get("arrivals") != "trace" or not {"queue_s", "ttft_s"} <= columns.keys():
        return None
    return overload_of(trace.timestamp, columns)


def overload_of(
    timestamp: npt.NDArray[np.float64],
    times: Mapping[str, npt.NDArray[np.float64]],
    replicas: int = 1,
) -> Overload | None:
    """Tell whether servers keep up with the arrivals of a trace; ``None``: they do.

    Parameters
    ----------
    timestamp : ndarray of float64, shape (requests,)
        Arrivals in seconds.
    times : mapping
        ``queue_s`` and ``ttft_s`` of each request.
    replicas : int, optional

    Examples
    --------
    A server that needs two seconds for each request, of which one comes every second.

    >>> arrivals = np.arange(100.0)
    >>> found = overload_of(arrivals, {"queue_s": arrivals, "ttft_s": arrivals + 1})
    >>> round(found.service_rate, 2), found.stable_from
    (0.51, 2)
    """
    queue = times.get("queue_s")
    if queue is None or len(timestamp) < _FEWEST:
        return None
    span = float(timestamp[-1] - timestamp[0])
    if span <= 0:
        return None
    centred = timestamp - timestamp.mean()
    slope = float(centred @ queue) / max(float(centred @ centred), 1e-300)
    served = float(np.median(times["ttft_s"] - queue))
    quarter = len(queue) // 4
    grew = float(queue[-quarter:].mean()) > 2 * float(queue[:quarter].mean())
    if slope < _GROWTH or slope * span < max(_GROWTH_S, 4 * served) or not grew:
        return None
    rate = len(timestamp) / span
    rounded = round(slope, 9)
    return Overload(
        rate,
        rate / (1 + slope),
        slope * 3600,
        replicas,
        max(replicas + 1, ceil(replicas * (1 + rounded))),
    )
