"""Engines: the rules that decide hits, allocation and eviction.

:mod:`prefixsim.engines.contract` says what an engine is; :data:`BUILT_IN` lists ours, one line
each. An engine is imported when its options are first asked for, what runs it when it first runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module

from prefixsim._plugins import Registry
from prefixsim.engines.contract import Capabilities, Engine, EngineSettings, Record
from prefixsim.engines.outcome import Outcome, Weighted
from prefixsim.errors import InputError, SettingError
from prefixsim.settings import Option, build, nearest, options_of

__all__ = [
    "BUILT_IN",
    "Capabilities",
    "Engine",
    "EngineSettings",
    "Outcome",
    "Record",
    "Weighted",
    "choose",
    "engine_names",
    "engines",
    "first_engine",
    "load",
    "policies",
    "register",
    "settings_for",
    "timed",
    "unregister",
    "why_refused",
]

BUILT_IN: dict[str, str] = {
    "ideal": "prefixsim.engines.ideal:ENGINE",
    "block-manager": "prefixsim.engines.block_manager:ENGINE",
    "vllm": "prefixsim.engines.vllm:ENGINE",
    "sglang": "prefixsim.engines.sglang:ENGINE",
    "lmcache": "prefixsim.engines.lmcache:ENGINE",
    "tiers": "prefixsim.engines.tiers:ENGINE",
}
"""Name to ``module:attribute``."""

ALIASES = {"lru": "ideal"}
"""Other names that are accepted."""

ENTRY_POINTS = "prefixsim.engines"
"""Group of entry points under which packages offer engines: name to an :class:`Engine`."""

_REGISTRY = Registry(Engine, "prefixsim.engines.Engine", BUILT_IN, ENTRY_POINTS, ALIASES)


def register(engine: Engine) -> Engine:
    """Add an engine: from now on every function and command knows it like our own.

    Parameters
    ----------
    engine : Engine

    Returns
    -------
    Engine
        The same.

    Raises
    ------
    InputError
        If it cannot work: a name that is taken or unusable, settings that are no frozen dataclass
        derived from :class:`EngineSettings`, an option without help or with a type that nothing can
        read, an option that means something else in another engine, or a function that does not
        take a forest and settings.
    """
    name = engine.name
    _REGISTRY.check_name(name)
    if not (isinstance(engine.settings, type) and issubclass(engine.settings, EngineSettings)):
        msg = f"engine {name!r}: its settings must be a dataclass derived from EngineSettings"
        raise InputError(msg)
    for option in options_of(engine.settings):
        _check_option(name, option)
    _check_function(engine)
    _REGISTRY.add(name, engine)
    return engine


def _check_option(name: str, option: Option) -> None:
    if not option.help:
        msg = f"engine {name!r}: option {option.name} has no help"
        raise InputError(msg)
    for other in engines().values():
        for known in options_of(other.settings):
            if known.name == option.name and known.kind is not option.kind:
                msg = (
                    f"engine {name!r}: option {option.name} is a {option.kind.__name__}, but "
                    f"engine {other.name!r} has it as {known.kind.__name__}; call it otherwise"
                )
                raise InputError(msg)
            if known.name != option.name and set(known.flags) & set(option.flags):
                msg = (
                    f"engine {name!r}: option {option.name} would be {option.flags[0]}, which is "
                    f"{known.name} of engine {other.name!r}; call it otherwise"
                )
                raise InputError(msg)


def _check_function(engine: Engine) -> None:
    run: object = engine.run
    if isinstance(run, str):
        module, colon, function = run.partition(":")
        try:
            run = getattr(import_module(module), function) if colon else None
        except (ImportError, AttributeError) as error:
            msg = f"engine {engine.name!r}: {engine.run} cannot be imported ({error})"
            raise InputError(msg) from None
    if not callable(run):
        msg = f"engine {engine.name!r}: run must be a function, or 'module:function'"
        raise InputError(msg)
    try:
        inspect.signature(run).bind(None, None)
    except TypeError:
        msg = f"engine {engine.name!r}: run must take a forest and settings, run(forest, settings)"
        raise InputError(msg) from None


def unregister(name: str) -> None:
    """Take an engine away that :func:`register` added."""
    _REGISTRY.remove(name)


def discover() -> None:
    """Register what installed packages offer under the entry point group, once.

    Raises
    ------
    InputError
        If one cannot be loaded or used.
    """
    for engine in _REGISTRY.offers():
        register(engine)


def engines() -> dict[str, Engine]:
    """Return all engines by name: ours, then those that were registered."""
    return _REGISTRY.all()


def engine_names() -> list[str]:
    """Names that ``--engine`` takes."""
    return _REGISTRY.names()


def first_engine() -> Engine:
    """Return the engine that is asked first."""
    return load(next(iter(BUILT_IN)))


def load(name: str | Engine) -> Engine:
    """Return an engine.

    Raises
    ------
    InputError
        If there is no engine of this name.
    """
    if isinstance(name, Engine):
        return name
    name = ALIASES.get(name, name)
    if not _REGISTRY.knows(name):
        discover()
    return _REGISTRY.get(name)


def timed() -> Engine:
    """Return the engine that is meant where time matters and nobody names one."""
    return next(e for e in engines().values() if "timed" in e.capabilities.default_for)


def choose(engine: str | Engine | None, given: Mapping[str, object]) -> Engine:
    """Return the engine that is meant.

    Where none is named it is the first that has all settings that were given: of a bounded cache,
    the block manager of a real server before others; in an unbounded cache every engine has the
    same hits, and the ideal one gives them fastest.

    Parameters
    ----------
    engine : str, Engine or None
    given : mapping
        Settings as they were given, by name.

    Raises
    ------
    InputError
        If there is no such engine, or none that has all the settings.
    """
    if engine is not None:
        return load(engine)
    bounded = given.get("num_blocks") not in (None, "inf", "none")
    wanted = "bounded" if bounded else "unbounded"
    first = first_engine()
    if wanted in first.capabilities.default_for and given.keys() <= _names(first):
        return first  # whatever the others have: they need not be loaded
    meant = {name for name, value in given.items() if not _is_default(name, value)}
    known = list(engines().values())
    known.sort(key=lambda e: wanted not in e.capabilities.default_for)
    for candidate in known:
        if meant <= _names(candidate):
            return candidate
    everywhere = set().union(*map(_names, known))
    unknown = next((name for name in meant if name not in everywhere), None)
    if unknown is not None:
        if (reason := why_refused(unknown)) is not None:
            raise SettingError(reason)
        close = nearest(unknown, sorted(everywhere))
        hint = f", did you mean {close!r}?" if close else f": {', '.join(sorted(everywhere))}"
        msg = f"no engine has an option {unknown!r}{hint}"
        raise SettingError(msg)
    msg = f"no engine has all of {', '.join(sorted(meant))}: choose an engine"
    raise SettingError(msg)


def why_refused(name: str, engine: Engine | None = None) -> str | None:
    """Return why a setting that a server has cannot be given; ``None`` if no engine knows it.

    Parameters
    ----------
    name : str
    engine : Engine, optional
        Look at this one alone.

    Examples
    --------
    >>> why_refused("max_num_active_seqs")
    "max_num_active_seqs: engine 'vllm' does not follow it (requests that run at once are bounded \
by max_num_seqs alone), leave it out"
    """
    for known in [engine] if engine is not None else engines().values():
        reason = known.capabilities.refused.get(name)
        if reason is not None:
            return f"{name}: engine {known.name!r} does not follow it ({reason}), leave it out"
    return None


def _names(engine: Engine) -> set[str]:
    return {option.name for option in options_of(engine.settings)} | {"measured_from", "record"}


def _is_default(name: str, value: object) -> bool:
    """Whether a setting says what engines without it do anyway."""
    return any(
        option.name == name and (value is option.default or value == option.default)
        for engine in engines().values()
        for option in options_of(engine.settings)
    )


def settings_for(engine: Engine, given: Mapping[str, object]) -> EngineSettings:
    """Make an engine's settings of keyword arguments.

    A setting that only other engines have is let pass where it says what they do by default.

    Raises
    ------
    InputError
        If the engine has no such setting, or a value is not usable.
    """
    known = _names(engine)
    values = {}
    for name, value in given.items():
        if name in known:
            values[name] = value
        elif (reason := why_refused(name, engine)) is not None:
            raise SettingError(reason)
        elif not _is_default(name, value):
            owners = [e.name for e in engines().values() if name in _names(e)]
            if owners:
                msg = (
                    f"engine {engine.name!r} has no {name}={value!r}, "
                    f"{' and '.join(map(repr, owners))} {'has' if len(owners) == 1 else 'have'}"
                )
                raise SettingError(msg)
            values[name] = value  # refused with the nearest name
    return build(engine.settings, values, owner=f"engine {engine.name!r}")


def policies() -> tuple[str, ...]:
    """Return the orders of eviction that engines take as ``policy``."""
    found = [p for e in engines().values() for p in e.capabilities.policies]
    return tuple(dict.fromkeys(found))
