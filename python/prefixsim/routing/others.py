"""Routers of vLLM's production-stack (a6c01db) and of AIBrix (0.7-rc3)."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim.routing.contract import Router, RouterSettings, Spec, urls
from prefixsim.settings import setting

__all__ = [
    "AIBRIX",
    "PREFIX_AWARE",
    "SESSION",
    "AibrixSettings",
    "PrefixAwareSettings",
    "SessionSettings",
]


@dataclass(frozen=True)
class PrefixAwareSettings(RouterSettings):
    """Settings of ``production-stack``.

    Attributes
    ----------
    prefix_min_match_length : int
    """

    prefix_min_match_length: int = setting(
        0,
        help="Characters that must match, else the least loaded replica.",
        unit="characters",
        least=0,
        most=2**31,
    )


PREFIX_AWARE = Router(
    "production-stack",
    "production-stack's prefixaware: who had the longest known run of chunks",
    PrefixAwareSettings,
    "prefix_aware",
    "own index",
    knob="prefix_min_match_length",
)


@dataclass(frozen=True)
class SessionSettings(RouterSettings):
    """Settings of ``production-stack-session``.

    Attributes
    ----------
    session_urls : str
    """

    session_urls: str = setting(
        "http://10.0.0.{}:8000",
        help="URLs of the replicas, which its ring is made of; {} is the number, from 1.",
        metavar="URL",
    )

    def core(self, replicas: int) -> Spec:
        """Return the settings as the core takes them."""
        return {"urls": urls(self.session_urls, replicas)}


SESSION = Router(
    "production-stack-session",
    "production-stack's session: a ring of MD5 of the session",
    SessionSettings,
    "session_ring",
    "session",
)


@dataclass(frozen=True)
class AibrixSettings(RouterSettings):
    """Settings of ``aibrix``.

    Attributes
    ----------
    imbalance_abs : int
    stddev_factor : float
    table_blocks : int
    table_ttl_secs : float
    """

    imbalance_abs: int = setting(
        8,
        help="Requests in flight by which loads must differ for the least loaded alone to count.",
        unit="requests",
        least=0,
        most=2**31,
    )
    stddev_factor: float = setting(
        1.0,
        help="Standard deviations above the mean load beyond which a match is passed over.",
        least=0,
        metavar="X",
    )
    table_blocks: int = setting(
        200_000,
        help="Blocks of 4 bytes in the table, of all replicas together.",
        unit="blocks",
        least=1,
        most=2**62,
    )
    table_ttl_secs: float = setting(
        1200.0, help="Seconds after which an unused block is forgotten.", unit="s", least=0
    )

    def core(self, replicas: int) -> Spec:
        """Return the settings as the core takes them."""
        spec = super().core(replicas)
        return {**spec, "block_bytes": 4, "ttl_secs": spec.pop("table_ttl_secs")}


AIBRIX = Router(
    "aibrix",
    "AIBrix's prefix-cache: the longest match, unless loaded above the mean",
    AibrixSettings,
    "aibrix",
    "own index",
    knob="stddev_factor",
)
