"""What a call of :func:`prefixsim.fleet` asks for: routers with their options, pools, delays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from prefixsim._json import JsonObject
from prefixsim.engines import Engine
from prefixsim.errors import SettingError
from prefixsim.routing import Router, RouterSettings, routers
from prefixsim.routing.durations import read_scaling, read_seconds
from prefixsim.settings import build, nearest, options_of

__all__ = ["MOST_REPLICAS", "Asked", "combinations", "listed", "pools_of", "split_options"]

MOST_REPLICAS = 64
"""As many as the core has bits for in a set of them."""


@dataclass(frozen=True)
class Asked:
    """What is said of a fleet besides routers and engines; see :func:`prefixsim.fleet`."""

    hold: int | str | Sequence[int] | None = None
    scale: object = None
    event_delay: int | str = 0
    pools: JsonObject = field(default_factory=dict)
    total_blocks: int | None = None
    seed: int = 0
    characters_per_token: int = 4
    model: str | None = None
    cache_dir: str | Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            msg = f"seed is {self.seed}, give a number of at least 0"
            raise SettingError(msg)
        if not 1 <= self.characters_per_token <= 1000:
            msg = f"characters_per_token is {self.characters_per_token}, give 1 to 1000"
            raise SettingError(msg)
        if self.total_blocks is not None and self.total_blocks < MOST_REPLICAS:
            msg = f"total_blocks is {self.total_blocks}, give at least {MOST_REPLICAS}"
            raise SettingError(msg)

    def changes(self) -> tuple[tuple[float, int], ...]:
        """Return the seconds at which replicas are added or taken away, and how many."""
        if self.scale is None:
            return ()
        try:
            return read_scaling(self.scale)
        except ValueError as error:
            msg = f"scale is {self.scale!r}, {error}"
            raise SettingError(msg) from None

    def delays(self, *, timed: bool) -> tuple[int, int]:
        """Return how late cache events are, in requests and in nanoseconds; one of them is 0."""
        text = str(self.event_delay).strip()
        if text.isdecimal() and (not timed or int(text) == 0):
            return min(int(text), 2**32 - 1), 0
        if timed:
            try:
                return 0, round(read_seconds(text) * 1e9)
            except ValueError:
                pass
        wanted = "a time like 50ms" if timed else "a number of requests"
        msg = f"event_delay is {self.event_delay!r}, give {wanted}"
        raise SettingError(msg)

    def config(self) -> JsonObject:
        """Return it as plain values."""
        hold = self.hold
        return {
            "total_blocks": self.total_blocks,
            "seed": self.seed,
            "hold": hold if hold is None or isinstance(hold, int | str) else "given",
            "event_delay": self.event_delay,
            "scale": [list(change) for change in self.changes()],
            **self.pools,
        }


def listed(value: object) -> list[object]:
    """Return the values of an axis: a list as it is, anything else alone."""
    return list(value) if isinstance(value, list | tuple | range) else [value]


def split_options(
    options: Mapping[str, object], chosen: Sequence[Router], engine: Engine
) -> tuple[JsonObject, JsonObject]:
    """Tell options of routers from those of the engine."""
    mine = {name for router in chosen for name in router.options}
    known = {option.name for option in options_of(engine.settings)}
    own = {name: value for name, value in options.items() if name in mine}
    rest = {name: value for name, value in options.items() if name not in mine}
    for name in rest:
        if name in known:
            continue
        owners = [router.name for router in routers().values() if name in router.options]
        if owners:
            has = "has" if len(owners) == 1 else "have"
            msg = f"none of these routers has {name}, {' and '.join(owners)} {has}"
        else:
            close = nearest(name, sorted(mine | known))
            hint = f", did you mean {close!r}?" if close else ""
            msg = f"no option {name!r} of these routers or of engine {engine.name!r}{hint}"
        raise SettingError(msg)
    return own, rest


def combinations(
    chosen: Sequence[Router], given: Mapping[str, object]
) -> list[tuple[Router, RouterSettings, JsonObject]]:
    """Return every router with every combination of its options, and those that were given."""
    found = []
    for router in chosen:
        axes = {name: listed(value) for name, value in given.items() if name in router.options}
        for row in product(*axes.values()):
            options = dict(zip(axes, row, strict=True))
            settings = build(router.settings, options, owner=f"router {router.name!r}")
            found.append((router, settings, {name: getattr(settings, name) for name in options}))
    return found


def pools_of(decode_replicas: int | None, decode_router: str, decider: str) -> JsonObject:
    """Return what is said of a decode pool, checked; nothing if there is none."""
    if decode_replicas is None:
        return {}
    if not 1 <= decode_replicas <= 64:
        msg = f"decode_replicas is {decode_replicas}, give 1 to 64"
        raise SettingError(msg)
    if decider not in ("always", "isl_bounding") and not str(decider).isdecimal():
        msg = f"decider is {decider!r}, choose always, isl_bounding or a number of tokens"
        raise SettingError(msg)
    return {
        "decode_replicas": decode_replicas,
        "decode_router": decode_router,
        "decider": str(decider),
    }
