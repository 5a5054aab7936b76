"""The classes of the loss waterfall: what can become of a prompt token."""

from __future__ import annotations

from enum import Enum

__all__ = ["ALONG", "CAUSES", "CLASSES", "MEANINGS", "OF_GROUPS", "LossClass", "label"]


class LossClass(Enum):
    """What became of a prompt token.

    Members are in the order in which the classes lie along a prompt: what was served from the cache
    comes first, what nobody ever had comes last.

    Attributes
    ----------
    value : str
        Its machine-readable name.
    rank : int
        Its place where reports list the classes.
    meaning : str
        In words.
    """

    HIT = ("hit", 0, "served from the cache")
    PREEMPTED = ("preempted", 11, "served, then computed again after a preemption")
    EVICTED = ("evicted", 10, "an infinite cache would have served them")
    SPECULATIVE_DROP = (
        "speculative_drop",
        9,
        "the last block of the hit, which a drafter's layers compute again",
    )
    STATE = ("state", 8, "no recurrent state was kept at that length")
    WINDOW = ("window", 7, "the blocks of a window or chunk before that length were not kept")
    IN_FLIGHT = ("in_flight", 6, "an earlier request had them, but had not computed them yet")
    ALIGNMENT = (
        "alignment",
        5,
        "shared, but hits of all groups end at multiples of larger blocks",
    )
    LAST_TOKEN = (
        "last_token",
        4,
        "a cached block computed again, because the last token must be",
    )
    ROUNDING = ("rounding", 3, "shared, but lost to the block boundary")
    ISOLATED = ("isolated", 2, "an earlier request had them, under another salt")
    COLD = ("cold", 1, "no earlier request had these tokens")

    rank: int
    meaning: str

    def __new__(cls, value: str, rank: int, meaning: str) -> LossClass:
        """Make a member whose value is its name alone."""
        member = object.__new__(cls)
        member._value_ = value
        member.rank = rank
        member.meaning = meaning
        return member


ALONG: tuple[str, ...] = tuple(str(kind.value) for kind in LossClass)
"""Names of the classes in the order in which they lie along a prompt."""

_LISTED = sorted(LossClass, key=lambda kind: kind.rank)

CLASSES: tuple[str, ...] = tuple(str(kind.value) for kind in _LISTED)
"""Names of the classes in the order in which reports list them."""

OF_GROUPS = frozenset({"speculative_drop", "alignment", "state", "window"})
"""Classes of models whose layers do not all keep every token."""

MEANINGS: dict[str, str] = {str(kind.value): kind.meaning for kind in _LISTED}
"""What each class means, in words."""


CAUSES: dict[str, str] = {
    "too_rare": "used too seldom for a lower tier, and dropped above it",
    "stranded": "a tier has them, but not what comes before them",
    "slow": "a tier has them, but loading takes longer than computing",
    "not_offered": "never offered to a lower tier: generated, in no whole chunk, or not yet",
    "refused": "a lower tier had no room that it could clear",
}
"""What causes of eviction mean that are no names of tiers; see ``Outcome.evicted_tokens``."""


def label(name: str) -> str:
    """Write a class for people."""
    return name.replace("_", " ")
