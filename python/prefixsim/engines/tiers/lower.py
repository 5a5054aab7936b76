"""Tiers below the fastest, as they are written: ``dram:64GiB:exclusive+disk:1TB:uses=2``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import read_cache_size
from prefixsim.errors import InputError
from prefixsim.settings import nearest
from prefixsim.sizes import Size, parse_bytes

__all__ = ["POLICIES", "SEES", "LowerTier", "read_lower_tiers"]

POLICIES = ("lru", "fifo", "lfu", "mru")
"""Orders in which a tier drops single blocks."""

SEES = ("all", "from-loads", "misses")
"""What a tier that is written through sees of a prompt: writes, and refreshes."""

ADVICE = (
    "give tiers like dram:64GiB or disk:1TB:uses=2, joined by '+'; behind name and size any of "
    "exclusive, write-back, write-through, head-first, a policy (lru, fifo, lfu, mru), uses=N, "
    "sees=all|from-loads|misses, bandwidth=25GB, latency=1ms"
)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_FLAGS: dict[str, JsonObject] = {
    "inclusive": {"exclusive": False},
    "exclusive": {"exclusive": True, "write": "back"},
    "write-through": {"write": "through"},
    "write-back": {"write": "back"},
    "head-first": {"head_first": True},
    **{policy: {"policy": policy} for policy in POLICIES},
}


@dataclass(frozen=True)
class LowerTier:
    """A tier below the fastest.

    Attributes
    ----------
    name : str
        ``dram``, ``disk``... of letters and digits.
    size : int, Size or None
        Blocks, or bytes of each GPU; ``None``: without limit.
    policy : {"lru", "fifo", "lfu", "mru"}
        Which block it drops: used longest ago, come first, used fewest times, used last.
    exclusive : bool
        A block that is used leaves it; such a tier is written back.
    write : {"through", "back"}
        Blocks are written when a request has them, or when the tier above drops them.
    min_uses : int
        Uses of a block, the present one included, from which on it is written.
    sees : {"all", "from-loads", "misses"}
        What a tier that is written through sees of a prompt: all of it; from the first loaded
        block on, if something is loaded (vLLM 0.33); what the fastest tier did not have.
    head_first : bool
        New blocks come in from the beginning of the prompt, which is then dropped first (LMCache).
    bandwidth : float or None
        Bytes/s at which a GPU loads from it; ``None``: loading takes no time.
    latency : float
        Seconds of a load before its first byte.

    Examples
    --------
    >>> read_lower_tiers("dram:20k:exclusive")[0].write
    'back'
    """

    name: str
    size: int | Size | None
    policy: str = "lru"
    exclusive: bool = False
    write: str = "through"
    min_uses: int = 1
    sees: str = "all"
    head_first: bool = False
    bandwidth: float | None = None
    latency: float = 0.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or self.name == "hbm":
            raise InputError(
                f"tier {self.name!r}: give a name of small letters and digits other than 'hbm'"
            )
        for what, value, choices in (
            ("policy", self.policy, POLICIES),
            ("write", self.write, ("through", "back")),
            ("sees", self.sees, SEES),
        ):
            if value not in choices:
                raise InputError(f"tier {self.name}: {what} {value!r}: one of {', '.join(choices)}")
        if self.exclusive and self.write != "back":
            raise InputError(f"tier {self.name}: an exclusive tier is written back, not through")
        if isinstance(self.size, int) and not 0 <= self.size < 2**32:
            raise InputError(f"tier {self.name}: {self.size} blocks: give 0 to 2^32 - 1")
        if not 1 <= self.min_uses < 2**32:
            raise InputError(f"tier {self.name}: uses={self.min_uses}: must be at least 1")
        times = [self.latency] if self.bandwidth is None else [self.latency, self.bandwidth]
        if not all(math.isfinite(t) and t >= 0 for t in times) or self.bandwidth == 0:
            raise InputError(f"tier {self.name}: bandwidth and latency must be positive numbers")

    def __str__(self) -> str:
        """Return the tier as it is written."""
        parts = [self.name, "inf" if self.size is None else str(self.size)]
        if self.exclusive:
            parts.append("exclusive")
        elif self.write == "back":
            parts.append("write-back")
        parts += [self.policy] if self.policy != "lru" else []
        parts += ["head-first"] if self.head_first else []
        parts += [f"uses={self.min_uses}"] if self.min_uses > 1 else []
        parts += [f"sees={self.sees}"] if self.sees != "all" else []
        if self.bandwidth is not None:
            parts.append(f"bandwidth={self.bandwidth / 1e9:g}GB")
        parts += [f"latency={self.latency * 1e3:g}ms"] if self.latency else []
        return ":".join(parts)


def read_lower_tiers(value: object) -> tuple[LowerTier, ...]:
    """Return tiers of text, of a tier, or of several of these.

    Raises
    ------
    ValueError
        With the problem in words.
    """
    if isinstance(value, LowerTier):
        return (value,)
    if isinstance(value, str):
        parts: Iterable[object] = [part for part in value.split("+") if part.strip()]
    elif isinstance(value, Iterable):
        parts = value
    else:
        raise ValueError(ADVICE)
    try:
        tiers = tuple(p if isinstance(p, LowerTier) else _read(str(p)) for p in parts)
    except InputError as error:
        raise ValueError(str(error)) from None
    names = [tier.name for tier in tiers]
    if len(set(names)) < len(names):
        raise ValueError(f"two tiers have one name: {', '.join(names)}")
    return tiers


def _read(text: str) -> LowerTier:
    name, _, rest = text.strip().partition(":")
    size_text, *words = rest.split(":")
    if not size_text.strip():
        raise ValueError(f"{text!r}: {ADVICE}")
    size = 0 if size_text.strip() == "0" else read_cache_size(size_text)
    tier = LowerTier(name.strip(), size)
    given: JsonObject = {}
    for word in (w.strip() for w in words):
        if word in _FLAGS:
            given |= _FLAGS[word]
            continue
        key, equals, number = word.partition("=")
        if key == "uses" and number.isdecimal():
            given["min_uses"] = int(number)
        elif key == "sees" and equals:
            given["sees"] = number
        elif key == "bandwidth" and equals:
            given["bandwidth"] = float(parse_bytes(number.removesuffix("/s")))
        elif key == "latency" and (match := re.fullmatch(r"([0-9.]+)(us|ms|s)", number)):
            given["latency"] = float(match[1]) * _SECONDS[match[2]]
        else:
            close = nearest(word, [*_FLAGS, "uses=", "sees=", "bandwidth=", "latency="])
            hint = f" (did you mean {close}?)" if close else ""
            raise ValueError(f"{word!r} is no rule of a tier{hint}: {ADVICE}")
    return replace(tier, **given)
