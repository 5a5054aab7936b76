"""Routers of sglang-router 0.3.2."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim.routing.contract import Router, RouterSettings
from prefixsim.routing.simple import Assignment, StickySettings
from prefixsim.settings import setting

__all__ = [
    "CACHE_AWARE",
    "CONSISTENT_HASHING",
    "MANUAL",
    "CacheAwareSettings",
    "ManualSettings",
]


@dataclass(frozen=True)
class CacheAwareSettings(RouterSettings):
    """Settings of ``sglang-cache-aware``, under SGLang's own names.

    Attributes
    ----------
    cache_threshold : float
    balance_abs_threshold : int
    balance_rel_threshold : float
    eviction_interval_secs : float
    max_tree_size : int
    """

    cache_threshold: float = setting(
        0.3,
        help="Share of the text that must be known for its owner to be taken.",
        least=0,
        most=1,
        metavar="SHARE",
    )
    balance_abs_threshold: int = setting(
        64,
        help="Requests in flight by which loads must differ for caches to be ignored.",
        unit="requests",
        least=0,
        most=2**31,
    )
    balance_rel_threshold: float = setting(
        1.5, help="Ratio by which loads must differ too.", least=0, metavar="X"
    )
    eviction_interval_secs: float = setting(
        60.0, help="Seconds between evictions from the tree of texts; 0: never.", unit="s", least=0
    )
    max_tree_size: int = setting(
        2**26,
        help="Characters of each replica that the tree keeps.",
        unit="characters",
        least=0,
        most=2**62,
    )


CACHE_AWARE = Router(
    "sglang-cache-aware",
    "SGLang's: who brought the longest known text, unless loads differ",
    CacheAwareSettings,
    "cache_aware",
    "own index",
    knob="balance_abs_threshold",
)


@dataclass(frozen=True)
class ManualSettings(StickySettings):
    """Settings of ``sglang-manual``."""

    assignment_mode: Assignment = setting(
        "random",
        help="Where a new session goes: anywhere, to the fewest requests in flight, or to the "
        "fewest sessions that have one.",
    )


MANUAL = Router(
    "sglang-manual",
    "SGLang's: a session stays where it began",
    ManualSettings,
    "sticky",
    "session",
)

CONSISTENT_HASHING = Router(
    "sglang-consistent-hashing",
    "SGLang's: hash of the session modulo the replicas",
    RouterSettings,
    "hash_modulo",
    "session",
)
