"""The contract of a router: settings, and a rule.

A router picks a replica for each request. It declares a frozen dataclass of settings, derived from
:class:`RouterSettings`, and its rule: the name of one in the core, or a Python class. From these
come the keyword arguments of :func:`prefixsim.fleet`, options of ``prefixsim fleet``, JSON and the
tables of ``docs/fleet.md``.

A rule in Python is made from the settings and has a method ``route(request, view)``, which returns
the number of a replica. ``request`` has ``index``, ``prompt_tokens``, ``session`` and ``time`` (s);
``view`` has lists with one value per replica: ``loads`` (requests in flight), ``waiting``,
``running``, ``cached_blocks`` (leading blocks of the prompt, as cache events tell), and the list
``available`` of replicas that take requests. If it has ``prefill_ended(request, replica)`` and
``finished(request, replica)``, they are called when a prompt is computed and when a request has
ended.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from prefixsim._core import RoutedRequest, RouterView
from prefixsim._json import JsonObject
from prefixsim.settings import options_of

__all__ = ["Router", "RouterSettings", "RoutingRule", "Spec"]

Spec = JsonObject
"""A rule of the core with its settings: ``{"rule": name, ...}``."""


class RoutingRule(Protocol):
    """A rule in Python."""

    def route(self, request: RoutedRequest, view: RouterView, /) -> int:
        """Return the number of the replica that gets the request."""
        ...


@dataclass(frozen=True)
class RouterSettings:
    """Settings of a router that has none."""

    def core(self, replicas: int) -> Spec:
        """Return the settings as the core takes them, for this many replicas."""
        return {option.name: getattr(self, option.name) for option in options_of(type(self))}


def urls(pattern: str, replicas: int) -> list[str]:
    """Return the names of replicas that hash rings are made of.

    Examples
    --------
    >>> urls("http://10.0.0.{}:8000", 2)
    ['http://10.0.0.1:8000', 'http://10.0.0.2:8000']
    """
    return [pattern.format(number) for number in range(1, replicas + 1)]


@dataclass(frozen=True)
class Router:
    """One router.

    Attributes
    ----------
    name : str
        As given to ``router=`` and ``--router``.
    title : str
        What it is, in a few words.
    settings : type
        Its dataclass, derived from :class:`RouterSettings`.
    rule : str or callable
        The name of a rule of the core, or ``rule(settings)``, which makes a :class:`RoutingRule`.
    looks_at : str
        What it decides by: ``nothing``, ``load``, ``session``, ``own index``, ``cache events``,
        ``everything`` (a reference, which nobody can build).
    knob : str
        The setting that matters most; empty if there is none.

    Examples
    --------
    A rule that sends even requests left and odd ones right:

    >>> import prefixsim
    >>> class Parity:
    ...     def route(self, request, view):
    ...         return request.index % 2
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(40), range(40)])
    >>> found = prefixsim.fleet(trace, replicas=2, router=Parity())
    >>> found.runs[0].replica.tolist(), found.runs[0].hit_tokens.tolist()
    ([0, 1, 0], [0, 0, 32])
    """

    name: str
    title: str
    settings: type[RouterSettings]
    rule: str | Callable[..., RoutingRule]
    looks_at: str = "own index"
    knob: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """Names of its settings."""
        return tuple(option.name for option in options_of(self.settings))

    def spec(self, settings: RouterSettings, replicas: int) -> Spec | RoutingRule:
        """Return what routes: a rule of the core with its settings, or an object of Python."""
        if isinstance(self.rule, str):
            return {"rule": self.rule, **settings.core(replicas)}
        return self.rule(settings)


def takes_settings(rule: object) -> bool:
    """Whether something can be called with one argument."""
    if not callable(rule):
        return False
    try:
        inspect.signature(rule).bind(None)
    except (TypeError, ValueError):
        return False
    return True
