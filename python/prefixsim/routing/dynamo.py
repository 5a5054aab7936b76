"""The KV router of Dynamo 1.6.1."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim.routing.contract import Router, RouterSettings, Spec
from prefixsim.settings import setting

__all__ = ["APPROXIMATE", "EVENTS", "ApproximateSettings", "DynamoSettings"]


@dataclass(frozen=True)
class DynamoSettings(RouterSettings):
    """Settings of ``dynamo``, under Dynamo's own names.

    Attributes
    ----------
    overlap_score_credit, overlap_score_credit_decay, prefill_load_scale : float
    decode_active_request_weight, router_temperature : float
    """

    overlap_score_credit: float = setting(
        1.0, help="What a cached block is worth, in blocks of load.", least=0, metavar="X"
    )
    overlap_score_credit_decay: float = setting(
        0.0, help="How fast that shrinks with prefill waiting at the replica.", least=0, metavar="X"
    )
    prefill_load_scale: float = setting(
        1.0, help="Weight of blocks that are to be computed.", least=0, metavar="X"
    )
    decode_active_request_weight: float = setting(
        0.0, help="Weight of each request in flight, in blocks.", least=0, metavar="X"
    )
    router_temperature: float = setting(
        0.0, help="0: the smallest cost; above: softmax over costs.", least=0, metavar="X"
    )

    def core(self, replicas: int) -> Spec:
        """Return the settings as the core takes them."""
        return {**super().core(replicas), "use_kv_events": True, "router_ttl_secs": float("inf")}


@dataclass(frozen=True)
class ApproximateSettings(DynamoSettings):
    """Settings of ``dynamo-approx``.

    Attributes
    ----------
    router_ttl_secs : float
    """

    router_ttl_secs: float = setting(
        120.0, help="Seconds after which a decision of its own is forgotten.", unit="s", least=0
    )

    def core(self, replicas: int) -> Spec:
        """Return the settings as the core takes them."""
        spec = super().core(replicas)
        return {**spec, "use_kv_events": False, "router_ttl_secs": self.router_ttl_secs}


EVENTS = Router(
    "dynamo",
    "Dynamo's: fewest blocks to compute and in use, caches known by events",
    DynamoSettings,
    "dynamo",
    "cache events",
    knob="overlap_score_credit",
)
APPROXIMATE = Router(
    "dynamo-approx",
    "the same, caches guessed from its own decisions",
    ApproximateSettings,
    "dynamo",
    "own index",
    knob="overlap_score_credit",
)
