"""Settings of the ideal cache."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim import _core
from prefixsim.engines.contract import EngineSettings
from prefixsim.settings import setting

__all__ = ["AGELESS", "POLICIES", "IdealSettings"]

POLICIES = tuple(_core.policies())
"""Orders of eviction; ``clairvoyant`` knows the future and is the best there can be."""

AGELESS = ("clairvoyant",)
"""Policies that leave open which of the blocks never used again go, so that they have no age."""


@dataclass(frozen=True)
class IdealSettings(EngineSettings):
    """Settings of ``engine="ideal"``.

    Attributes
    ----------
    policy : str
        Order of eviction, one of :data:`POLICIES`.
    last_token_rule : bool
        The last token of a prompt is always computed.
    partial_blocks : bool
        A trailing partial block counts as a block of its own.
    """

    policy: str = setting("lru", help="Order of eviction.", choices=POLICIES)
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
