"""Routers that look at load or session only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prefixsim.routing.contract import Router, RouterSettings, Spec, urls
from prefixsim.settings import setting

__all__ = [
    "CONSISTENT_HASH",
    "LEAST_LOADED",
    "POWER_OF_TWO",
    "RANDOM",
    "ROUND_ROBIN",
    "STICKY",
    "RingSettings",
    "StickySettings",
]

ROUND_ROBIN = Router(
    "round-robin", "one replica after the other", RouterSettings, "round_robin", "nothing"
)
RANDOM = Router("random", "any replica", RouterSettings, "random", "nothing")
LEAST_LOADED = Router(
    "least-loaded", "the fewest requests in flight", RouterSettings, "least_loaded", "load"
)
POWER_OF_TWO = Router(
    "power-of-two",
    "of two drawn at random the one with fewer requests in flight",
    RouterSettings,
    "power_of_two",
    "load",
)

Assignment = Literal["random", "min_load", "min_group"]


@dataclass(frozen=True)
class StickySettings(RouterSettings):
    """Settings of ``sticky`` and ``sglang-manual``.

    Attributes
    ----------
    assignment_mode : {"random", "min_load", "min_group"}
        Where a new session goes.
    idle_secs : float
    """

    assignment_mode: Assignment = setting(
        "min_load",
        help="Where a new session goes: anywhere, to the fewest requests in flight, or to the "
        "fewest sessions that have one.",
        shown_default="min_load; sglang-manual: random",
    )
    idle_secs: float = setting(
        14_400.0, help="Seconds after which an idle session is forgotten.", unit="s", least=0
    )


STICKY = Router(
    "sticky",
    "a session stays where it began, at the least loaded replica then",
    StickySettings,
    "sticky",
    "session",
)


@dataclass(frozen=True)
class RingSettings(RouterSettings):
    """Settings of ``consistent-hash``.

    Attributes
    ----------
    ring_points : int
    ring_urls : str
    """

    ring_points: int = setting(
        150, help="Points of each replica on the ring.", unit="points", least=1, most=100_000
    )
    ring_urls: str = setting(
        "http://10.0.0.{}:8000",
        help="Names of the replicas on the ring; {} is the number, from 1.",
        metavar="URL",
    )

    def core(self, replicas: int) -> Spec:
        """Return the settings as the core takes them."""
        return {"urls": urls(self.ring_urls, replicas), "points": self.ring_points}


CONSISTENT_HASH = Router(
    "consistent-hash",
    "a ring of hashes of the session, as in later SGLang routers",
    RingSettings,
    "consistent_hash",
    "session",
)
