"""Routers: the rules that pick a replica for each request.

:mod:`prefixsim.routing.contract` says what a router is; :data:`BUILT_IN` lists ours, one line each.
"""

from __future__ import annotations

from typing import cast

from prefixsim._plugins import Registry
from prefixsim.errors import InputError
from prefixsim.routing.contract import Router, RouterSettings, RoutingRule, takes_settings
from prefixsim.settings import options_of

__all__ = [
    "BUILT_IN",
    "Router",
    "RouterSettings",
    "RoutingRule",
    "load_router",
    "register_router",
    "router_names",
    "routers",
    "unregister_router",
]

BUILT_IN: dict[str, str] = {
    "round-robin": "simple:ROUND_ROBIN",
    "random": "simple:RANDOM",
    "least-loaded": "simple:LEAST_LOADED",
    "power-of-two": "simple:POWER_OF_TWO",
    "consistent-hash": "simple:CONSISTENT_HASH",
    "sticky": "simple:STICKY",
    "sglang-cache-aware": "sglang:CACHE_AWARE",
    "sglang-manual": "sglang:MANUAL",
    "sglang-consistent-hashing": "sglang:CONSISTENT_HASHING",
    "dynamo": "dynamo:EVENTS",
    "dynamo-approx": "dynamo:APPROXIMATE",
    "llm-d": "llmd:APPROXIMATE",
    "llm-d-precise": "llmd:PRECISE",
    "production-stack": "others:PREFIX_AWARE",
    "production-stack-session": "others:SESSION",
    "aibrix": "others:AIBRIX",
    "greedy": "references:GREEDY",
    "work-oracle": "references:WORK_ORACLE",
    "pooled": "references:POOLED",
}
"""Name to ``module:attribute`` of this package."""

ENTRY_POINTS = "prefixsim.routers"
"""Group of entry points under which packages offer routers: name to a :class:`Router`."""

_REGISTRY = Registry(
    Router,
    "prefixsim.routing.Router",
    {name: f"prefixsim.routing.{where}" for name, where in BUILT_IN.items()},
    ENTRY_POINTS,
)


def register_router(router: Router) -> Router:
    """Add a router: from now on :func:`prefixsim.fleet` and the command know it like our own.

    Parameters
    ----------
    router : Router

    Returns
    -------
    Router
        The same.

    Raises
    ------
    InputError
        If it cannot work: a name that is taken or unusable, settings that are no frozen dataclass
        derived from :class:`RouterSettings`, an option without help or one that means something
        else in another router, or a rule that cannot be made from settings.
    """
    name = router.name
    _REGISTRY.check_name(name)
    if not (isinstance(router.settings, type) and issubclass(router.settings, RouterSettings)):
        msg = f"router {name!r}: its settings must be a dataclass derived from RouterSettings"
        raise InputError(msg)
    if isinstance(router.rule, str) or not takes_settings(router.rule):
        msg = f"router {name!r}: its rule must be callable with its settings, rule(settings)"
        raise InputError(msg)
    for option in options_of(router.settings):
        if not option.help:
            msg = f"router {name!r}: option {option.name} has no help"
            raise InputError(msg)
        for other in routers().values():
            for known in options_of(other.settings):
                if known.name == option.name and known.kind is not option.kind:
                    msg = (
                        f"router {name!r}: option {option.name} is another type than that of "
                        f"router {other.name!r}; call it otherwise"
                    )
                    raise InputError(msg)
    _REGISTRY.add(name, router)
    return router


def unregister_router(name: str) -> None:
    """Take a router away that :func:`register_router` added."""
    _REGISTRY.remove(name)


def discover_routers() -> None:
    """Register what installed packages offer under the entry point group, once.

    Raises
    ------
    InputError
        If one cannot be loaded or used.
    """
    for router in _REGISTRY.offers():
        register_router(router)


def routers() -> dict[str, Router]:
    """Return all routers by name: ours, then those that were registered."""
    return _REGISTRY.all()


def router_names() -> list[str]:
    """Names that ``--router`` takes."""
    return _REGISTRY.names()


def load_router(router: str | Router | object) -> Router:
    """Return a router by name; one as it is; an object with ``route`` as a router of its class.

    Raises
    ------
    InputError
        If there is no router of this name, or the object has no method ``route``.
    """
    if isinstance(router, Router):
        return router
    if not isinstance(router, str):
        return _made(router)
    if not _REGISTRY.knows(router):
        discover_routers()
    return _REGISTRY.get(router)


def _made(rule: object) -> Router:
    """Return an object with a method ``route`` as a router of its class."""
    if isinstance(rule, type) or not callable(getattr(rule, "route", None)):
        msg = f"{rule!r} is no router: give a name or an object with route(request, view)"
        raise InputError(msg)
    own = cast("RoutingRule", rule)
    return Router(type(rule).__name__, "a rule in Python", RouterSettings, lambda _: own, "its own")
