"""The router of llm-d (August 2026), and of the Gateway API inference extension."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim.routing.contract import Router, RouterSettings, Spec
from prefixsim.settings import setting

__all__ = ["APPROXIMATE", "PRECISE", "LlmdSettings", "PreciseSettings"]


@dataclass(frozen=True)
class PreciseSettings(RouterSettings):
    """Weights of llm-d's scorers.

    Attributes
    ----------
    prefix_weight, queue_weight, running_weight, load_aware_weight : float
    active_weight, token_load_weight, session_weight, match_length_weight : float
    """

    prefix_weight: float = setting(3.0, help="Weight of prefix-cache-scorer.", least=0, metavar="X")
    queue_weight: float = setting(2.0, help="Weight of queue-scorer.", least=0, metavar="X")
    running_weight: float = setting(
        0.0, help="Weight of running-requests-size-scorer.", least=0, metavar="X"
    )
    load_aware_weight: float = setting(
        0.0, help="Weight of load-aware-scorer.", least=0, metavar="X"
    )
    active_weight: float = setting(
        0.0, help="Weight of active-request-scorer.", least=0, metavar="X"
    )
    token_load_weight: float = setting(
        0.0, help="Weight of token-load-scorer.", least=0, metavar="X"
    )
    session_weight: float = setting(
        0.0, help="Weight of session-affinity-scorer.", least=0, metavar="X"
    )
    match_length_weight: float = setting(
        0.0,
        help="How much the length of a match counts in prefix-cache-scorer, besides its share.",
        least=0,
        most=1,
        metavar="X",
    )

    def core(self, replicas: int) -> Spec:
        """Return the settings as the core takes them."""
        spec = super().core(replicas)
        return {"precise": True, "block_tokens": 64, "index_capacity": 31_250, **spec}


@dataclass(frozen=True)
class LlmdSettings(PreciseSettings):
    """Settings of ``llm-d``.

    Attributes
    ----------
    index_block_tokens, index_capacity : int
    """

    index_block_tokens: int = setting(
        64,
        help="Tokens of a block of the approximate index; at least 64 are taken.",
        unit="tokens",
        least=1,
        most=131_072,
    )
    index_capacity: int = setting(
        31_250,
        help="Blocks of the approximate index for each replica.",
        unit="blocks",
        least=1,
        most=2**62,
    )

    def core(self, replicas: int) -> Spec:
        """Return the settings as the core takes them."""
        spec = super().core(replicas)
        return {**spec, "precise": False, "block_tokens": spec.pop("index_block_tokens")}


APPROXIMATE = Router(
    "llm-d",
    "llm-d's: weighted scores of known prefix and load, by its own index",
    LlmdSettings,
    "llmd",
    "own index",
    knob="prefix_weight",
)
PRECISE = Router(
    "llm-d-precise",
    "the same, caches known by events",
    PreciseSettings,
    "llmd",
    "cache events",
    knob="prefix_weight",
)
