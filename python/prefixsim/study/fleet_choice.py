"""What a call of :func:`prefixsim.fleet` asks for: routers with their options, pools, delays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from prefixsim._json import JsonObject
from prefixsim.engines import Engine
from prefixsim.errors import SettingError
from prefixsim.routing import Router, RouterSettings, routers
from prefixsim.routing.durations import read_seconds
from prefixsim.settings import build, nearest, options_of

__all__ = ["combinations", "delays", "listed", "pools_of", "split_options"]


def listed(value: Any) -> list[Any]:
    """Return the values of an axis: a list as it is, anything else alone."""
    return list(value) if isinstance(value, list | tuple | range) else [value]


def split_options(
    options: Mapping[str, Any], chosen: Sequence[Router], engine: Engine
) -> tuple[dict[str, Any], dict[str, Any]]:
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
    chosen: Sequence[Router], given: Mapping[str, Any]
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


def delays(value: int | str, *, timed: bool) -> tuple[int, int]:
    """Return the delay of cache events in requests and in nanoseconds, of which one is 0."""
    text = str(value).strip()
    if text.isdecimal() and (not timed or int(text) == 0):
        return min(int(text), 2**32 - 1), 0
    if timed:
        try:
            return 0, round(read_seconds(text) * 1e9)
        except ValueError:
            pass
    wanted = "a time like 50ms" if timed else "a number of requests"
    msg = f"event_delay is {value!r}, give {wanted}"
    raise SettingError(msg)
