"""Charts of what a chat data set holds: turns per conversation, prompt lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from prefixsim._extras import require
from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts.theme import Chart

__all__ = ["prompt_lengths", "turns_per_conversation"]

_MOST_BARS = 30


def turns_per_conversation(turns: Counter[int], title: str) -> Chart:
    """Draw the share of conversations by number of turns; the last bar holds the tail."""
    alt = require("altair", extra="report")
    total = turns.total()
    last = min(max(turns), _MOST_BARS)
    rows = []
    for k in range(1, last + 1):
        n = turns[k] if k < last else sum(c for value, c in turns.items() if value >= last)
        label = f"{k}+" if k == last and max(turns) > last else str(k)
        rows.append({"turns": label, "conversations": n, "share": n / total})
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            x=alt.X(
                "turns:O",
                sort=[row["turns"] for row in rows],
                title="turns per conversation",
                axis=alt.Axis(labelAngle=0, labelOverlap=True),
            ),
            y=alt.Y("share:Q", title="share of conversations", axis=alt.Axis(format=theme.PERCENT)),
            tooltip=["turns:O", "conversations:Q", alt.Tooltip("share:Q", format=".2%")],
        )
        .properties(width=theme.WIDTH, height=theme.HEIGHT)
    )
    mean = sum(k * n for k, n in turns.items()) / total
    facts = f"{total:,} conversations, {mean:.1f} turns on average, at most {max(turns):,}"
    return theme.themed(theme.titled(chart, "Turns per conversation", title, facts))


def prompt_lengths(lengths: Mapping[str, Counter[int]], unit: str, title: str) -> Chart:
    """Draw the cumulative distribution of prompt lengths of several traces on a log axis."""
    alt = require("altair", extra="report")
    rows: list[JsonObject] = []
    for name, counts in lengths.items():
        values = np.array(sorted(counts))
        share = np.cumsum([counts[int(v)] for v in values]) / counts.total()
        at = np.unique(np.searchsorted(share, np.linspace(0, 1, 201)).clip(max=len(values) - 1))
        rows += [
            {"trace": name, "length": max(1, int(values[i])), "share": float(share[i])} for i in at
        ]
    longest = max(row["length"] for row in rows)
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X(
                "length:Q",
                scale=alt.Scale(type="log", domain=[1, max(10, longest)], nice=False),
                title=f"prompt length ({unit})",
                axis=alt.Axis(labelExpr=theme.SI, values=[10**k for k in range(10)]),
            ),
            y=alt.Y("share:Q", title="share of requests", axis=alt.Axis(format=theme.PERCENT)),
            color=alt.Color("trace:N", sort=list(lengths)),
        )
        .properties(width=theme.WIDTH, height=theme.HEIGHT)
    )
    requests = max(counts.total() for counts in lengths.values())
    facts = f"{requests:,} requests in each trace"
    return theme.themed(theme.titled(chart, "Prompt length", title, facts))
