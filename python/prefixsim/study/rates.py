"""What curves over the capacity and over the time to live say alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.forest import Forest
from prefixsim.trace.provenance import provenance, trace_facts

__all__ = ["SHARES", "blocks_for", "curves_dict", "hits_dict"]

SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Shares of a ceiling that tables name."""

# Rates come from divisions: a target this close to a count means that count.
_ROUNDING = 1e-12


def blocks_for(hit_rate: float, prompt_tokens: int, block_size: int) -> int:
    """Return the fewest hit blocks that make a token hit rate.

    >>> blocks_for(0.5, 100, 10), blocks_for(0.51, 100, 10)
    (5, 6)
    """
    wanted = hit_rate * prompt_tokens / block_size
    return max(0, int(np.ceil(wanted * (1 - _ROUNDING))))


def hits_dict(point: JsonObject) -> JsonObject:
    """Return the hits among the fields of a point, as the ceiling of a curve is told."""
    return {name: point[name] for name in ("hit_tokens", "blocks_reused", "token_hit_rate")}


def curves_dict(
    forest: Forest, curves: Sequence[JsonObject], *, last_token_rule: bool
) -> JsonObject:
    """Return ``trace``, ``provenance`` and ``curves`` of one trace; plain values.

    Parameters
    ----------
    forest : Forest
    curves : sequence of dict
        What ``to_dict`` of each curve gives.
    last_token_rule : bool
    """
    config = {
        "policy": list(dict.fromkeys(curve["policy"] for curve in curves)),
        "block_size": list(dict.fromkeys(curve["block_size"] for curve in curves)),
        "last_token_rule": last_token_rule,
        "cache_outputs": forest.outputs,
    }
    origin = provenance(forest.trace, config)
    return {
        "trace": trace_facts(forest.trace, origin["digest"]),
        "provenance": origin,
        "curves": list(curves),
    }
