"""Rules with perfect knowledge, to measure routers against."""

from __future__ import annotations

from prefixsim.routing.contract import Router, RouterSettings

__all__ = ["GREEDY", "POOLED", "WORK_ORACLE"]

GREEDY = Router("greedy", "always the largest hit", RouterSettings, "greedy", "everything")
WORK_ORACLE = Router(
    "work-oracle",
    "the fewest tokens to compute, its own and those in flight",
    RouterSettings,
    "work_oracle",
    "everything",
)
POOLED = Router(
    "pooled",
    "one cache as large as all replicas together",
    RouterSettings,
    "pooled",
    "everything",
)
