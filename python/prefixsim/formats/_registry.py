"""The list of trace formats, and the place to add one."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from prefixsim.errors import InputError
from prefixsim.formats._format import Family, Format

__all__ = ["format_names", "formats", "formats_of", "load_format", "register"]

# Where our formats live, by family: a module is imported when its turn comes. The order within a
# family is the order in which formats are asked.
_HOMES = {
    Family.BINARY: {
        "parquet": "native_files:PARQUET",
        "arrow": "native_files:ARROW",
        "kv-events": "kv_events:FORMAT",
    },
    Family.CSV: {
        "azure": "azure:FORMAT",
        "burstgpt": "burstgpt:FORMAT",
    },
    Family.TEXT: {
        "vllm-log": "logs.vllm:FORMAT",
        "sglang-log": "logs.sglang:FORMAT",
    },
    Family.JSON: {
        "bailian": "bailian:FORMAT",
        "mooncake": "mooncake:FORMAT",
        "kv-events": "kv_events:FORMAT",
        "lmcache": "lmcache:FORMAT",
        "litellm": "logs.litellm:FORMAT",
        "otel": "logs.otel:FORMAT",
        "langfuse": "logs.langfuse:FORMAT",
        "helicone": "logs.helicone:FORMAT",
        "portkey": "logs.portkey:FORMAT",
        "envoy": "logs.envoy:FORMAT",
        "nginx": "logs.nginx:FORMAT",
        "bedrock": "logs.bedrock:FORMAT",
        "vertex": "logs.vertex:FORMAT",
        "anthropic": "logs.anthropic:FORMAT",
        "batch": "logs.batch:FORMAT",
        "openai": "openai_log:FORMAT",
        "jsonl": "native_jsonl:FORMAT",
    },
}
_BUILT_IN = {name: home for homes in _HOMES.values() for name, home in homes.items()}
_registered: dict[str, Format] = {}


def register(new: Format) -> Format:
    """Add a format: from now on every function and command reads it like our own.

    It is asked before ours whether a file is its own.

    Parameters
    ----------
    new : Format

    Returns
    -------
    Format
        The same.

    Raises
    ------
    InputError
        If its name is taken or no name.
    """
    name = new.name
    if not name or not all(part.isalnum() and part == part.lower() for part in name.split("-")):
        msg = f"trace format {name!r}: a name is lower-case words joined by hyphens"
        raise InputError(msg)
    if name in _BUILT_IN or name in _registered:
        msg = f"trace format {name!r} is there already, give it another name"
        raise InputError(msg)
    _registered[name] = new
    return new


def format_names() -> list[str]:
    """Return the names that ``--format`` takes."""
    return [*_BUILT_IN, *_registered]


def load_format(name: str) -> Format:
    """Return a format.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    if name in _registered:
        return _registered[name]
    if name not in _BUILT_IN:
        msg = f"unknown trace format {name!r}, choose one of {', '.join(format_names())}"
        raise InputError(msg)
    module, attribute = _BUILT_IN[name].split(":")
    chosen: Format = getattr(import_module(f"prefixsim.formats.{module}"), attribute)
    return chosen


def formats() -> Iterator[Format]:
    """Return every format: ours, then those that were registered."""
    return map(load_format, format_names())


def formats_of(family: Family) -> Iterator[Format]:
    """Yield the formats of a family in the order in which they are asked, registered ones first."""
    yield from (each for each in _registered.values() if family in each.family)
    yield from map(load_format, _HOMES[family])
