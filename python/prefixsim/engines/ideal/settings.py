"""Settings of the ideal cache."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim.engines.contract import EngineSettings
from prefixsim.eviction import POLICIES
from prefixsim.own_policies import Policy, read_policy
from prefixsim.settings import setting

__all__ = ["IdealSettings"]


@dataclass(frozen=True)
class IdealSettings(EngineSettings):
    """Settings of ``engine="ideal"``.

    Attributes
    ----------
    policy : str or Policy
        Order of eviction: one of :data:`prefixsim.eviction.POLICIES`, with parameters as
        ``name:key=value``, or one of your own, as an object or as ``module:Class``.
    last_token_rule : bool
        The last token of a prompt is always computed.
    partial_blocks : bool
        A trailing partial block counts as a block of its own.
    """

    policy: str | Policy = setting(
        "lru",
        help="Order of eviction, or module:Class of your own, with parameters as name:key=value.",
        choices=POLICIES,
        parameters=True,
        read=read_policy,
    )
    last_token_rule: bool = setting(
        True,
        help="Compute at least the last token of every prompt, or let whole prompts hit.",
        off="--whole-prompt-hits",
    )
    partial_blocks: bool = setting(
        False, help="A trailing partial block counts as a block; no server does this."
    )

    @property
    def follows_lru_curve(self) -> bool:
        """Whether the forest's LRU curve is what this engine hits at every capacity."""
        return self.policy == "lru"
