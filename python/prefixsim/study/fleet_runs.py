"""What one router did on one trace: its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.stats import distribution

__all__ = ["CAUSES", "FleetRun"]

CAUSES = ("load", "missing", "stale", "tie")
"""Why a request did not go where the longest hit was: the router preferred another replica because
of load; it did not know of the better one; it believed the chosen one to hold more than it did; it
saw no difference."""


def _spread(values: Sequence[int]) -> tuple[float, float]:
    """Return the largest over the mean, and the coefficient of variation."""
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean()) if len(found) else 0.0
    if mean == 0:
        return 1.0, 0.0
    return float(found.max()) / mean, float(found.std()) / mean


@dataclass(frozen=True, eq=False)
class FleetRun:
    """One router with its settings on one trace.

    Attributes
    ----------
    router : str
    settings : dict
        The router's settings.
    replicas : int
        At the start.
    num_blocks : int or None
        Blocks of each replica.
    prompt_tokens : int
        Of the trace.
    raw : mapping
        The core's columns and sums.
    pooled_hit_tokens : int
        What one cache as large as all replicas together would have served.
    times : dict of str to ndarray
        Seconds per request (``ttft_s`` and the like), if replicas are engines.
    served : mapping, optional
        The engines' columns per request.
    more : dict
        Figures of a fleet that changes its size, or has two pools.
    """

    router: str
    settings: JsonObject
    replicas: int
    num_blocks: int | None
    prompt_tokens: int
    raw: JsonObject
    pooled_hit_tokens: int
    times: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    served: JsonObject | None = None
    more: JsonObject = field(default_factory=dict)

    @property
    def replica(self) -> npt.NDArray[np.uint8]:
        """The replica of each request."""
        found: npt.NDArray[np.uint8] = self.raw["replica"]
        return found

    @property
    def hit_tokens(self) -> npt.NDArray[np.uint32]:
        """Leading tokens of each prompt served from the cache of its replica."""
        source = self.raw if self.served is None else self.served
        found: npt.NDArray[np.uint32] = source["hit_tokens"]
        return found

    @property
    def best_hit_tokens(self) -> npt.NDArray[np.uint32]:
        """What the replica that held most would have served when the request was routed."""
        found: npt.NDArray[np.uint32] = self.raw["best_hit_tokens"]
        return found

    @property
    def regret_tokens(self) -> npt.NDArray[np.uint32]:
        """What each request missed because another replica held more when it was routed."""
        found: npt.NDArray[np.uint32] = self.raw["best_hit_tokens"] - self.raw["hit_tokens"]
        return found

    @property
    def token_hit_rate(self) -> float:
        """Hit tokens over prompt tokens."""
        hits = int(self.hit_tokens.sum(dtype=np.uint64))
        return hits / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def label(self) -> str:
        """Router and settings that are not the usual ones, in words."""
        said = {k: f"{v:g}" if isinstance(v, float) else v for k, v in self.settings.items()}
        return ", ".join([self.router, *(f"{k} {v}" for k, v in said.items())])

    @cached_property
    def summary(self) -> JsonObject:
        """Every figure under its machine-readable name."""
        raw, hits = self.raw, int(self.hit_tokens.sum(dtype=np.uint64))
        best = int(self.best_hit_tokens.sum(dtype=np.uint64))
        prompt, requests = self.prompt_tokens, len(self.hit_tokens)
        tokens, counts = raw["regret_tokens_by_cause"], raw["regret_requests_by_cause"]
        served, computed = _active(raw["requests"]), _active(raw["computed_tokens"])
        requests_spread, tokens_spread = _spread(served), _spread(computed)
        regret = {
            "regret_tokens": sum(tokens.values()),
            "regret_requests": sum(counts.values()),
            "regret_rate": sum(tokens.values()) / prompt if prompt else 0.0,
            "regret_by_cause": {
                cause: {"tokens": tokens[cause], "requests": counts[cause]} for cause in CAUSES
            },
        }
        balance = {
            "requests_per_replica": raw["requests"],
            "computed_tokens_per_replica": raw["computed_tokens"],
            "imbalance_requests": requests_spread[0],
            "imbalance_tokens": tokens_spread[0],
            "cv_requests": requests_spread[1],
            "cv_tokens": tokens_spread[1],
            "peak_in_flight": raw["peak_in_flight"],
        }
        return {
            "requests": requests,
            "prompt_tokens": prompt,
            "hit_tokens": hits,
            "token_hit_rate": self.token_hit_rate,
            "pooled_hit_tokens": self.pooled_hit_tokens,
            "share_of_pooled": hits / self.pooled_hit_tokens if self.pooled_hit_tokens else None,
            "best_replica_hit_tokens": best,
            "best_replica_hit_rate": best / prompt if prompt and not self.apart else None,
            **regret,
            **self._belief(),
            **balance,
            **self._copies(),
            **self._decode_pool(),
            **{name: distribution(v[np.isfinite(v)]) for name, v in self.times.items()},
            **self.more,
        }

    def _belief(self) -> JsonObject:
        """Return what the router expected of the replicas it chose, against what came."""
        believed = self.raw["believed_tokens"].astype(np.int64)
        if not len(believed) or self.apart:
            return {"predicted": None}
        found = self.hit_tokens.astype(np.int64)
        difference = believed - found
        return {
            "predicted": {
                "tokens": int(believed.sum()),
                "not_delivered_tokens": int(difference[difference > 0].sum()),
                "not_predicted_tokens": int(-difference[difference < 0].sum()),
            }
        }

    @property
    def apart(self) -> bool:
        """Whether prefill and decode are, so that only remote prompts were routed."""
        return "remote_requests" in self.more

    def _decode_pool(self) -> JsonObject:
        if not self.apart:
            return {}
        counts = self.more["decode_requests_per_replica"]
        computed = self.more["decode_computed_tokens_per_replica"]
        return {
            "decode_imbalance_requests": _spread(counts)[0],
            "decode_imbalance_tokens": _spread(computed)[0],
        }

    def _copies(self) -> JsonObject:
        raw = self.raw
        if self.served is not None:
            return {}
        copies, distinct = raw["cached_blocks"], raw["distinct_blocks"]
        return {
            "evictions": raw["evictions"],
            "cached_blocks": copies,
            "duplicate_blocks": copies - distinct,
            "replication_factor": copies / distinct if distinct else 1.0,
        }

    def to_dict(self) -> JsonObject:
        """Return router, settings and summary; plain values."""
        return {
            "router": self.router,
            "settings": self.settings,
            "replicas": self.replicas,
            "num_blocks": self.num_blocks,
            "summary": self.summary,
        }


def _active(counts: Sequence[int]) -> Sequence[int]:
    return counts if len(counts) else [0]
