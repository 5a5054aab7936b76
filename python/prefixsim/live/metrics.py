"""Counters and settings of a server, from its ``/metrics`` and what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

from prefixsim._json import JsonObject
from prefixsim.engines import engines

__all__ = ["METRICS", "kept_lines", "settings_of", "values"]

_LINE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?P<labels>\{[^}]*\})?\s+(?P<value>\S+)")

# What of /metrics is about the prefix cache and the scheduler.
METRICS = ("prefix_cache", "kv_cache", "cache_config", "num_requests", "preempt", "cache_hit",
           "prompt_tokens", "cached_tokens", "evicted", "token_usage", "kv_block")  # fmt: skip


def kept_lines(text: str) -> str:
    """Return the lines of an exposition that are about cache and scheduler, without buckets."""
    lines = (line for line in text.split("\n") if line and not line.startswith("#"))
    return "\n".join(
        line for line in lines if any(m in line for m in METRICS) and "_bucket" not in line
    )


def values(text: str) -> dict[str, float]:
    r"""Return the sum over labels of each metric; what is no number is left out.

    >>> values('hits_total{engine="0"} 3.0\nhits_total{engine="1"} 4.0')
    {'hits_total': 7.0}
    """
    found: dict[str, float] = {}
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match:
            try:
                found[match["name"]] = found.get(match["name"], 0.0) + float(match["value"])
            except ValueError:
                continue
    return found


def settings_of(metrics: str, models: object = None, info: object = None) -> JsonObject:
    """Return what a server says of its cache, in the names of the engines' settings.

    Parameters
    ----------
    metrics : str
        ``/metrics``.
    models, info : object
        JSON of ``/v1/models`` (longest request) and of ``/server_info``.

    Returns
    -------
    dict
        With ``engine``, if one of the engines knows the server.
    """
    found: JsonObject = {}
    for engine in engines().values():
        told = engine.settings_said(metrics, info)
        if told:
            found = {"engine": engine.name, **told}
            break
    if isinstance(models, Mapping):
        for model in models.get("data") or ():
            length = model.get("max_model_len") if isinstance(model, Mapping) else None
            if isinstance(length, int):
                found["max_model_len"] = length
    return found
