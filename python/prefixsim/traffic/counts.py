"""What ``trace_summary.json`` tells: where traces came from, counts, token statistics."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from prefixsim.trace import Trace

__all__ = ["SUMMARY_FILE", "ConversationCounts", "KindCounts", "distribution", "origin_of"]

SUMMARY_FILE = "trace_summary.json"
"""Its name, beside the traces it is about."""


def origin_of(trace: Trace, path: str | Path) -> dict[str, Any]:
    """Return how a trace file was made, for formats that cannot say it themselves.

    Taken from the summary beside the file, if it names a file like this one with as many requests
    and prompt tokens.

    Returns
    -------
    dict
        ``config`` and ``seed``, as in the ``meta`` of a trace; empty if nothing is known.
    """
    path = Path(path)
    try:
        summary = json.loads((path.parent / SUMMARY_FILE).read_bytes())
        for row in summary["traces"].values():
            same = (path.name, len(trace), trace.prompt_tokens)
            if same == (row["file"], row["requests"], row["prompt_tokens"] or 0):
                return {"config": summary["config"], "seed": summary["provenance"]["seed"]}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return {}


def distribution(counts: Counter[int]) -> dict[str, float | int | None]:
    """Return mean, median, min, max, p90 and p99 of values given with their counts.

    Percentiles interpolate linearly between neighbouring values.

    Examples
    --------
    >>> distribution(Counter({1: 3, 5: 1}))["mean"]
    2.0
    """
    if not counts:
        return dict.fromkeys(("mean", "median", "min", "max", "p90", "p99"))
    values = np.array(sorted(counts), dtype=np.int64)
    weights = np.array([counts[int(v)] for v in values], dtype=np.int64)
    ends = np.cumsum(weights)
    total = int(ends[-1])

    def quantile(q: float) -> float:
        position = q * (total - 1)
        low = int(position)
        at = np.searchsorted(ends, [low, min(low + 1, total - 1)], side="right")
        a, b = values[at]
        return float(a + (b - a) * (position - low))

    return {
        "mean": float((values * weights).sum() / total),
        "median": quantile(0.5),
        "min": int(values[0]),
        "max": int(values[-1]),
        "p90": quantile(0.9),
        "p99": quantile(0.99),
    }


@dataclass(slots=True)
class KindCounts:
    """Running counts over one of the two traces; memory grows with distinct lengths only."""

    requests: int = 0
    prompt_lengths: Counter[int] = field(default_factory=Counter)
    output_lengths: Counter[int] = field(default_factory=Counter)
    last_timestamp: float = 0.0

    def add(self, prompt: int, output: int, timestamp: float) -> None:
        """Count one request."""
        self.requests += 1
        self.prompt_lengths[prompt] += 1
        self.output_lengths[output] += 1
        self.last_timestamp = timestamp

    def summary(self, unit: str) -> dict[str, Any]:
        """Return totals and distributions; ``unit`` is ``tokens`` or ``characters``."""
        name = "prompt_len" if unit == "tokens" else "prompt_len_characters"
        return {
            "requests": self.requests,
            f"prompt_{unit}": sum(v * n for v, n in self.prompt_lengths.items()),
            "output_tokens": sum(v * n for v, n in self.output_lengths.items()),
            "duration_s": self.last_timestamp,
            name: distribution(self.prompt_lengths),
            "output_len": distribution(self.output_lengths),
        }


@dataclass(slots=True)
class ConversationCounts:
    """Running counts over conversations: what was used, dropped, and used as it is."""

    used: int = 0
    without_messages: int = 0
    without_user_turn: int = 0
    begin_with_assistant: int = 0
    turns_without_answer: int = 0
    empty_user_messages: int = 0
    system_messages: int = 0
    tool_messages: int = 0
    messages_after_last_turn: int = 0
    turns: Counter[int] = field(default_factory=Counter)

    def dropped(self) -> dict[str, int]:
        """Conversations that make no request, by reason."""
        return {
            "conversations_without_messages": self.without_messages,
            "conversations_without_user_turn": self.without_user_turn,
        }

    def kept(self) -> dict[str, int]:
        """Irregular content that was kept, by kind."""
        return {
            "conversations_that_begin_with_assistant": self.begin_with_assistant,
            "turns_without_answer": self.turns_without_answer,
            "empty_user_messages": self.empty_user_messages,
            "system_messages": self.system_messages,
            "tool_messages": self.tool_messages,
        }
