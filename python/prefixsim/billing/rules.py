"""The rules of providers' prompt caches, read from a dated table."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Literal

from prefixsim._json import JsonFields
from prefixsim.errors import InputError
from prefixsim.settings import nearest

__all__ = ["Provider", "provider_named", "provider_names", "read_ttl", "rules_date", "written_ttl"]

Rule = Literal["prefix", "entries", "units", "stored"]

_TTL = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Provider:
    """How one provider caches prompts.

    Attributes
    ----------
    name : str
    rule : {"prefix", "entries", "units", "stored"}
        What can be read: a prefix that any earlier prompt had; entries that end at breakpoints;
        units that end where prompts, outputs and common prefixes end; a prefix the user stores.
    model : str
        The model that is priced.
    prices : str
        The provider's name in genai-prices.
    minimum : int
        Tokens of the smallest prefix.
    granularity : int
        Hits above the minimum are rounded down to so many tokens.
    ttl : str
        How long an entry is kept, as it is typed: ``5m``.
    ttls : tuple of str
        The values there are; empty if any may be tried.
    breakpoints, look_back : int
        Breakpoints of a request, and content blocks that are searched before each.
    renewed : bool
        Whether each use begins the time anew.
    isolation : str
        What a cache belongs to: a salt of the trace.
    source : str
        The page that states the rules.
    assumed : tuple of str
        What it does not state, and what is taken.
    """

    name: str
    rule: Rule
    model: str
    prices: str
    minimum: int
    granularity: int = 1
    ttl: str = "5m"
    ttls: tuple[str, ...] = ()
    breakpoints: int = 0
    look_back: int = 0
    renewed: bool = True
    isolation: str = ""
    source: str = ""
    assumed: tuple[str, ...] = ()

    @property
    def ttl_s(self) -> float:
        """How long an entry is kept, in seconds."""
        return read_ttl(self.ttl)

    def kept(self, ttl: str) -> Provider:
        """Return the provider with another time to live.

        Raises
        ------
        InputError
            If the provider does not offer it.
        """
        seconds = read_ttl(ttl)
        if seconds == self.ttl_s:
            return self
        if self.ttls and seconds not in map(read_ttl, self.ttls):
            msg = f"ttl {ttl}: {self.name} keeps entries for {' or '.join(self.ttls)}"
            raise InputError(msg)
        assumed = tuple(told for told in self.assumed if not told.startswith("kept "))
        if not self.ttls and self.rule != "stored":
            told = f"kept {written_ttl(seconds)} after the last use, as given"
            assumed = (told, *assumed)
        return replace(self, ttl=written_ttl(seconds), assumed=assumed)


def read_ttl(text: str) -> float:
    """Return the seconds of a time to live such as ``5m``, ``1h`` or ``24h``.

    Examples
    --------
    >>> read_ttl("5m"), read_ttl("1h")
    (300.0, 3600.0)
    """
    match = _TTL.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        msg = f"ttl {text!r}: give a time above 0 like 5m, 1h or 300s"
        raise InputError(msg)
    return float(match[1]) * _SECONDS[match[2]]


def written_ttl(seconds: float) -> str:
    """Write a time to live as people do: ``5m``, ``24h``."""
    for unit, length in (("h", 3600.0), ("m", 60.0)):
        if seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


@cache
def _table() -> JsonFields:
    text = (files("prefixsim.billing") / "rules.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def rules_date() -> str:
    """Return the date of the rules."""
    return str(_table()["date"])


def provider_names() -> tuple[str, ...]:
    """Return the providers whose rules are known."""
    return tuple(name for name in _table() if name != "date")


def provider_named(name: str, model: str | None = None) -> Provider:
    """Return the rules of a provider for a model.

    Parameters
    ----------
    name : str
    model : str, optional
        Default: one that the table names.

    Raises
    ------
    InputError
        If the provider is not known.
    """
    names = provider_names()
    if name not in names:
        close = nearest(name, names)
        hint = f", did you mean {close}?" if close else ""
        msg = f"no provider {name!r}{hint} (there are {', '.join(names)})"
        raise InputError(msg)
    about = dict(_table()[name])
    minima = about.pop("minima", {})
    priced = model or str(about.pop("model"))
    about.pop("model", None)
    begins = [start for start in minima if priced.startswith(start)]
    assumed = list(about.pop("assumed", ()))
    if begins:
        about["minimum"] = minima[max(begins, key=len)]
    elif minima:
        told = f"the smallest prefix of {priced} is {about['minimum']:,} tokens: not in the table"
        assumed.append(told)
    about["ttls"] = tuple(about.get("ttls", ()))
    return Provider(name=name, model=priced, assumed=tuple(assumed), **about)
