"""Engines: the rules that decide hits, allocation and eviction.

An engine is a function of a forest and :class:`Settings` that returns an
:class:`~prefixsim.engines.outcome.Outcome`. :data:`ENGINES` maps names to where they live; an
engine is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from prefixsim.errors import InputError

if TYPE_CHECKING:
    from prefixsim.engines.outcome import Outcome
    from prefixsim.forest import Forest

__all__ = [
    "ENGINES",
    "RESIDENCY",
    "Engine",
    "Settings",
    "default_engine",
    "engine_names",
    "load",
    "register",
]


@dataclass(frozen=True)
class Settings:
    """What to simulate; an engine refuses what it has no rule for.

    Attributes
    ----------
    block_size : int
        Tokens.
    num_blocks : int or None
        Size of the cache as the engine counts it; ``None``: unbounded.
    enable_caching : bool
        Off: nothing is ever found in the cache.
    concurrency : int
        Requests that hold their blocks at once.
    last_token_rule : bool
        The last token of a prompt is always computed.
    cache_outputs : bool
        Generated tokens stay in the cache like those of prompts.
    partial_blocks : bool
        A trailing partial block counts as a block of its own.
    options : mapping
        Settings that only one engine knows.
    measured_from : int
        The first request that counters are over; those before warm the cache up.
    """

    block_size: int
    num_blocks: int | None = None
    enable_caching: bool = True
    concurrency: int = 1
    last_token_rule: bool = True
    cache_outputs: bool = False
    partial_blocks: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    measured_from: int = 0

    def to_config(self, engine: str) -> dict[str, Any]:
        """Return the settings as the ``config`` of an outcome."""
        return {
            "engine": engine,
            "block_size": self.block_size,
            "num_blocks": self.num_blocks,
            "enable_caching": self.enable_caching,
            "concurrency": self.concurrency,
            "last_token_rule": self.last_token_rule,
            "cache_outputs": self.cache_outputs,
            "partial_blocks": self.partial_blocks,
            **self.options,
        }

    def require(self, engine: str, advice: str = "", **expected: object) -> None:
        """Refuse settings that differ from ``expected``."""
        for name, value in expected.items():
            given = getattr(self, name)
            if given != value:
                tail = f", {advice}" if advice else ""
                msg = f"engine {engine!r} has no {name}={given!r}, only {value!r}{tail}"
                raise InputError(msg)

    def take_options(self, engine: str, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``known`` defaults overridden by :attr:`options`; refuse unknown names."""
        unknown = [name for name in self.options if name not in known]
        if unknown:
            choices = f"it knows {', '.join(known)}" if known else "it has none of its own"
            msg = f"engine {engine!r} has no option {unknown[0]!r}: {choices}"
            raise InputError(msg)
        return {**known, **self.options}


Engine = Callable[["Forest", Settings], "Outcome"]

ENGINES: dict[str, str] = {
    "lru": "prefixsim.engines.ideal:replay",
    "block-manager": "prefixsim.engines.block_manager:replay",
    "vllm": "prefixsim.engines.vllm.simulate:replay",
}
"""Name to ``module:function``."""


RESIDENCY = {"lifetime_s": "block_lifetime_s", "idle_s": "block_idle_before_evict_s"}
"""What the core calls the residency of evicted blocks, and what summaries call it."""


def register(name: str, home: str) -> None:
    """Add an engine.

    Parameters
    ----------
    name : str
        As given to ``--engine``.
    home : str
        ``module:function``; the function is an :data:`Engine`.
    """
    ENGINES[name] = home


def engine_names() -> list[str]:
    """Names that ``--engine`` takes."""
    return list(ENGINES)


def load(name: str) -> Engine:
    """Import an engine.

    Raises
    ------
    InputError
        If there is no engine of this name.
    """
    if name not in ENGINES:
        msg = f"unknown engine {name!r}, choose one of {', '.join(ENGINES)}"
        raise InputError(msg)
    module, function = ENGINES[name].split(":")
    found: Engine = getattr(import_module(module), function)
    return found


def default_engine(settings: Settings) -> str:
    """Return the engine for settings that name none.

    A bounded cache, or requests that overlap, take the block manager of a real server. In an
    unbounded cache every engine has the same hits, and the forest gives them fastest.
    """
    if settings.num_blocks is None and settings.concurrency == 1:
        return "lru"
    return "block-manager"
