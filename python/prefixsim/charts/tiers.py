"""Hits and traffic of tiers, as Vega-Lite specifications and their rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.study.result import Result

__all__ = ["bars_of_traffic", "split_over_time", "split_rows", "traffic_rows"]

_BINS = 48


def split_rows(result: Result) -> list[JsonObject]:
    """Return, for stretches of time, the share of prompt tokens that each tier served."""
    metrics, outcome = result.metrics, result.outcome
    start = metrics.start
    times = result.trace.timestamp[start:]
    prompts = result.trace.prompt_len[start:].astype(np.float64)
    if not len(times) or times[-1] <= times[0]:
        return []
    edges = np.linspace(times[0], times[-1], _BINS + 1)
    at = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, _BINS - 1)
    whole = np.bincount(at, prompts, _BINS)

    rows, below = [], np.zeros(_BINS)
    for tier, column in outcome.tier_hit_tokens.items():
        shares = np.bincount(at, column[start:], _BINS) / np.maximum(whole, 1)
        for k in np.flatnonzero(whole).tolist():
            stretch = {"from": float(edges[k]), "to": float(edges[k + 1])}
            stacked = {"below": float(below[k]), "above": float(below[k] + shares[k])}
            rows.append({"tier": tier, **stretch, "share": float(shares[k]), **stacked})
        below = below + shares
    return rows


def split_over_time(rows: Sequence[JsonObject], height: int) -> JsonObject:
    """Stack the tiers over time; a bar for each stretch."""
    tiers = list(dict.fromkeys(row["tier"] for row in rows))
    return {
        "data": {"values": list(rows)},
        "width": "container",
        "height": height,
        "mark": {"type": "bar", "clip": True},
        "encoding": {
            "x": {"field": "from", "type": "quantitative", "title": "time (s)",
                  "scale": {"zero": False, "nice": False}},
            "x2": {"field": "to"},
            "y": {"field": "below", "type": "quantitative",
                  "title": "share of prompt tokens", "axis": {"format": theme.PERCENT}},
            "color": {"field": "tier", "type": "nominal", "sort": tiers,
                      "scale": {"domain": tiers, "range": theme.PALETTE[: len(tiers)]},
                      "legend": {"title": None, "symbolType": "square"}},
            "y2": {"field": "above"},
            "tooltip": [
                {"field": "tier"},
                {"field": "from", "type": "quantitative", "title": "from (s)", "format": ",.0f"},
                {"field": "share", "type": "quantitative", "format": ".2%"},
            ],
        },
    }  # fmt: skip


def traffic_rows(result: Result, bytes_per_token: float | None) -> list[JsonObject]:
    """Return what is loaded from and written to each lower tier: tokens, or GB."""
    outcome, start = result.outcome, result.metrics.start
    scale = 1.0 if bytes_per_token is None else bytes_per_token / 1e9
    rows = []
    for tier in list(outcome.tier_hit_tokens)[1:]:
        columns = {
            "loaded": outcome.tier_hit_tokens[tier],
            "written": outcome.columns.get(f"written_tokens_{tier}"),
        }
        for way, column in columns.items():
            if column is not None:
                amount = float(column[start:].sum(dtype=np.uint64)) * scale
                rows.append({"tier": tier, "way": way, "amount": amount})
    return rows


def bars_of_traffic(rows: Sequence[JsonObject], unit: str) -> JsonObject:
    """Draw one bar for each tier and way."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    tiers = list(dict.fromkeys(row["tier"] for row in rows))
    return {
        "data": {"values": list(rows)},
        "width": "container",
        "height": 40 * len(rows) + 20,
        "mark": {"type": "bar", "cornerRadius": 1},
        "encoding": {
            "y": {"field": "tier", "type": "nominal", "sort": tiers, "title": None},
            "yOffset": {"field": "way", "sort": ways},
            "x": {"field": "amount", "type": "quantitative", "title": unit,
                  "axis": {"labelExpr": theme.SI}},
            "color": {"field": "way", "type": "nominal", "sort": ways,
                      "scale": {"domain": ways, "range": theme.PALETTE[: len(ways)]},
                      "legend": {"title": None, "symbolType": "square"}},
            "tooltip": [
                {"field": "tier"},
                {"field": "way"},
                {"field": "amount", "type": "quantitative", "title": unit, "format": ",.4~g"},
            ],
        },
    }  # fmt: skip
