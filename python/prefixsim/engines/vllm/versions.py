"""What ranges of vLLM's versions do differently: one table, tested against their wheels."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim._json import JsonObject

__all__ = ["VERSIONS", "Rules", "rules_of"]


@dataclass(frozen=True)
class Rules:
    """What a range of versions of vLLM does that others do not.

    Attributes
    ----------
    first, last : str
        The range; ``last`` without a patch includes all of its patches.
    uncached_first : bool or str
        Released blocks without a hash go to the front of the free queue: always, never, or where
        caching is on (``"with caching"``) or the group has a sliding window (``"with a window"``).
    reserve_full_isl : bool
        A request is admitted only if all its known tokens fit.
    stats_at_lookup : bool
        Statistics count every lookup, not every admission.
    retention_interval : int or None
        Default of the setting of that name.
    window_cap : bool
        With a sliding window, ``reserve_full_isl`` asks for no more blocks than are held at once.
    lone_threshold : bool
        ``long_prefill_token_threshold`` limits a request that is alone too.
    pass_over : bool
        Without chunked prefill, a request over the step's budget is passed over, and those passed
        over return to the queue in reversed order.
    stats_preempted_apart : bool
        Statistics count lookups of preempted requests apart.
    tagged_keys : bool
        A salt enters the hash of the first block as ``("cache_salt", salt)``, not bare.
    has_watermark, has_adaptive_threshold : bool
        Whether there are such settings.
    stops_on_tight_windows : bool
        With a sliding window, the server stops when its pool is nearly full.
    recorded_whole : bool
        Whether several KV cache groups, drafts, priorities and asynchronous scheduling are known
        from recordings.
    """

    first: str
    last: str
    uncached_first: bool | str = True
    reserve_full_isl: bool = True
    stats_at_lookup: bool = False
    retention_interval: int | None = 0
    window_cap: bool = True
    lone_threshold: bool = False
    pass_over: bool = False
    stats_preempted_apart: bool = True
    tagged_keys: bool = True
    has_watermark: bool = True
    has_adaptive_threshold: bool = True
    stops_on_tight_windows: bool = False
    recorded_whole: bool = True

    def includes(self, version: str) -> bool:
        """Whether a version is in the range."""
        number, last = _number(version), _number(self.last)
        end = last if self.last.count(".") > 1 else (*last[:2], _ANY_PATCH)
        return _number(self.first) <= number <= end


_ANY_PATCH = 10**9

_CHANGES: tuple[tuple[str, str, JsonObject], ...] = (
    ("0.31", "0.33", {}),
    (
        "0.29",
        "0.30",
        {
            "lone_threshold": True,
            "has_adaptive_threshold": False,
            "tagged_keys": False,
            "recorded_whole": False,
        },
    ),
    ("0.28", "0.28", {"retention_interval": None}),
    ("0.27", "0.27", {"uncached_first": "with caching"}),
    ("0.24", "0.26", {"uncached_first": True, "stats_at_lookup": True}),
    ("0.23", "0.23", {"uncached_first": "with a window", "has_watermark": False}),
    ("0.20.2", "0.22", {"uncached_first": False}),
    ("0.20.0", "0.20.1", {"stops_on_tight_windows": True}),
    ("0.19", "0.19", {"stops_on_tight_windows": False, "window_cap": False}),
    ("0.14", "0.18", {"reserve_full_isl": False}),
    ("0.12", "0.13", {}),  # asynchronous scheduling is off by default
    ("0.11.1", "0.11", {"pass_over": True}),
    ("0.11.0", "0.11.0", {"stats_preempted_apart": False}),
)
"""The ranges, newest first. A change holds for its range and all older ones, until it is changed
again."""


def _ranges() -> tuple[Rules, ...]:
    changes: JsonObject = {}
    ranges = []
    for first, last, change in _CHANGES:
        changes |= change
        ranges.append(Rules(first, last, **changes))
    return tuple(ranges)


def _number(version: str) -> tuple[int, ...]:
    """Return the three numbers of a version; one without a patch is the first of its minor."""
    parts = version.split(".")
    if not (2 <= len(parts) <= 3 and all(part.isascii() and part.isdigit() for part in parts)):
        raise ValueError(version)
    return (*map(int, parts), 0)[:3]


VERSIONS: tuple[Rules, ...] = _ranges()
"""Rules by range of versions, newest first; each is tested against recordings of its wheels."""


def rules_of(version: str) -> Rules:
    """Return the rules of a version of vLLM.

    Raises
    ------
    ValueError
        If no range includes it.

    Examples
    --------
    >>> rules_of("0.22.1").uncached_first
    False
    """
    try:
        return next(rules for rules in VERSIONS if rules.includes(version))
    except (ValueError, StopIteration):
        newest, oldest = VERSIONS[0].last, VERSIONS[-1].first
        problem = f"not a simulated version of vLLM, give one from {oldest} to {newest}"
        raise ValueError(problem) from None
