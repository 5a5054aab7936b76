"""Prices of tokens, dated: from the package genai-prices, or from a file of the user's."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from prefixsim._extras import require
from prefixsim._json import JsonFields, JsonObject
from prefixsim.billing.rules import Provider, read_ttl
from prefixsim.errors import InputError
from prefixsim.settings import nearest

__all__ = ["Band", "PriceFile", "Prices", "money", "prices_of"]

_MILLION = Decimal(1_000_000)
_KEYS = ("input", "read", "write", "output", "storage", "above", "longer", "minimum")


@dataclass(frozen=True)
class Band:
    """Prices of requests whose prompts are longer than some length, in $ per million tokens.

    Attributes
    ----------
    above : int
        The band holds for prompts of more tokens, and for all of their tokens.
    input, output : Decimal
    read : Decimal or None
        Tokens read from the cache. ``None``: as ``input``.
    write : mapping of float to Decimal
        Tokens written, by the seconds they are kept. Empty: as ``input``.
    storage : Decimal or None
        Per million tokens and hour.
    """

    above: int
    input: Decimal
    output: Decimal
    read: Decimal | None = None
    write: Mapping[float, Decimal] = field(default_factory=dict)
    storage: Decimal | None = None

    def of_write(self, ttl_s: float) -> Decimal:
        """Price of a million tokens written, to be kept so long."""
        if not self.write:
            return self.input
        return self.write.get(ttl_s, next(iter(self.write.values())))

    @property
    def of_read(self) -> Decimal:
        """Price of a million tokens read."""
        return self.input if self.read is None else self.read

    def break_even(self, ttl_s: float) -> Decimal | None:
        """How often a token that is written has to be read for caching to pay.

        ``None``: reads are no cheaper than input, it never pays.
        """
        gain = self.input - self.of_read
        if gain <= 0:
            return None
        return max(Decimal(0), self.of_write(ttl_s) - self.input) / gain

    def to_dict(self, ttl_s: float) -> JsonObject:
        """Return the prices under their machine-readable names; money as decimal text."""
        storage = None if self.storage is None else str(self.storage)
        return {
            "above_tokens": self.above,
            "input": str(self.input),
            "read": str(self.of_read),
            "write": str(self.of_write(ttl_s)),
            "output": str(self.output),
            "storage_per_hour": storage,
        }


@dataclass(frozen=True)
class Prices:
    """Prices of one model.

    Attributes
    ----------
    provider, model : str
    bands : tuple of Band
        By the length of prompts, ascending; the first holds from 0 on.
    source : str
        Where they are from, with a version.
    date : str
        The day they hold for.
    minimum : int or None
        The smallest prefix that is cached, where a file states it.
    """

    provider: str
    model: str
    bands: tuple[Band, ...]
    source: str
    date: str
    minimum: int | None = None

    @property
    def writes_cost(self) -> bool:
        """Whether tokens that are written cost other than input."""
        return any(price != band.input for band in self.bands for price in band.write.values())

    def check_ttl(self, ttl: str) -> None:
        """Refuse a time to live that has no price where others have one."""
        first = self.bands[0]
        if self.writes_cost and len(first.write) > 1 and read_ttl(ttl) not in first.write:
            msg = f"{self.provider} {self.model}: no price of writes kept {ttl}, give --prices"
            raise InputError(msg)


class PriceFile:
    """A TOML file of prices: a table for each provider, with a table for each model.

    Parameters
    ----------
    path : path

    Raises
    ------
    InputError
        If it is missing, is no TOML, or a price is none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self.content = tomllib.load(file, parse_float=Decimal)
        except FileNotFoundError:
            msg = f"{path}: no such file"
            raise InputError(msg) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            msg = f"{path}: no TOML: {error}"
            raise InputError(msg) from None

    @property
    def date(self) -> str:
        """The day the prices hold for."""
        return str(self.content.get("date", "no date"))

    def models(self, provider: str) -> list[str]:
        """Return the models of a provider that the file has prices of."""
        found = self.content.get(provider, {})
        return list(found) if isinstance(found, dict) else []

    def prices(self, provider: str, model: str) -> Prices:
        """Return the prices of a model.

        Raises
        ------
        InputError
            If there are none, or one is no price.
        """
        table = self.content[provider][model]
        where = f"{self.path}: [{provider}.{model}]"
        if not isinstance(table, dict):
            raise InputError(f"{where}: give a table of prices, like input = 3.00")
        bands = [self._band(where, table, 0)]
        bands += [
            self._band(where, {**table, **longer}, int(longer.get("above", 0)))
            for longer in table.get("longer", [])
        ]
        minimum = table.get("minimum")
        if minimum is not None and (not isinstance(minimum, int) or minimum < 1):
            raise InputError(f"{where}: minimum is {minimum}, give tokens")
        bands.sort(key=lambda band: band.above)
        source = self.path.name
        return Prices(provider, model, tuple(bands), source, self.date, minimum)

    def _band(self, where: str, table: JsonFields, above: int) -> Band:
        unknown = next((key for key in table if key not in _KEYS), None)
        if unknown is not None:
            close = nearest(unknown, _KEYS)
            hint = f", did you mean {close}?" if close else f": it knows {', '.join(_KEYS)}"
            raise InputError(f"{where}: no price {unknown!r}{hint}")
        if "input" not in table:
            raise InputError(f"{where}: no price of input tokens, give input = ...")
        write = table.get("write", {})
        by_ttl = write if isinstance(write, dict) else {"5m": write}
        return Band(
            above=above,
            input=_price(where, "input", table["input"]),
            output=_price(where, "output", table.get("output", 0)),
            read=_price(where, "read", table["read"]) if "read" in table else None,
            write={read_ttl(ttl): _price(where, f"write {ttl}", p) for ttl, p in by_ttl.items()},
            storage=_price(where, "storage", table["storage"]) if "storage" in table else None,
        )


def _price(where: str, name: str, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not value >= 0:
        raise InputError(f"{where}: {name} is {value}, give $ per million tokens")
    return Decimal(value)


class _Tier(Protocol):
    start: int
    price: Decimal


class _Tiered(Protocol):
    """A price of the package that depends on the length of the prompt."""

    base: Decimal
    tiers: Sequence[_Tier]


def prices_of(provider: Provider, file: PriceFile | None, day: date) -> Prices:
    """Return the prices of a provider's model: the file's if it has them, else the package's.

    Parameters
    ----------
    provider : Provider
    file : PriceFile or None
    day : date
        Of the package's prices.

    Raises
    ------
    InputError
        If the model is not known.
    MissingExtraError
        If the package is needed and not installed.
    """
    if file is not None and provider.model in file.models(provider.name):
        return file.prices(provider.name, provider.model)
    if file is not None and file.models(provider.name):
        msg = f"{file.path}: [{provider.name}] has no {provider.model!r}, only "
        raise InputError(msg + ", ".join(file.models(provider.name)))
    snapshot = require("genai_prices.data_snapshot", extra="bill").get_snapshot()
    version = require("genai_prices", extra="bill").__version__
    known = next(p for p in snapshot.providers if p.id == provider.prices)
    model = known.find_model(provider.model)
    if model is None:
        close = nearest(provider.model, [m.id for m in known.models])
        hint = f", did you mean {close}?" if close else ""
        msg = f"{provider.name}: no prices of {provider.model!r}{hint} (genai-prices {version})"
        raise InputError(msg)
    at = model.get_prices(datetime(day.year, day.month, day.day, tzinfo=UTC))
    source = f"genai-prices {version}"
    return Prices(provider.name, str(model.id), _bands(at), source, day.isoformat())


def _bands(at: object) -> tuple[Band, ...]:
    fields = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
    given: dict[str, Decimal | _Tiered | None] = {
        name: getattr(at, f"{name}_mtok", None) for name in fields
    }
    starts = {0}
    for tiered in given.values():
        starts |= {int(tier.start) for tier in getattr(tiered, "tiers", ())}
    bands = []
    for start in sorted(starts):
        price = {name: _at(value, start) for name, value in given.items()}
        write = {}
        if price["cache_write"] is not None:
            write[300.0] = price["cache_write"]
        if price["cache_write_1h"] is not None:
            write[3600.0] = price["cache_write_1h"]
        bands.append(
            Band(
                above=start,
                input=price["input"] or Decimal(0),
                output=price["output"] or Decimal(0),
                read=price["cache_read"],
                write=write,
            )
        )
    return tuple(bands)


def _at(price: Decimal | _Tiered | None, start: int) -> Decimal | None:
    """Return what a price is for prompts of more tokens than ``start``."""
    if price is None or isinstance(price, Decimal):
        return price
    found: Decimal = price.base
    for tier in price.tiers:
        if tier.start <= start and start > 0:
            found = tier.price
    return found


def money(tokens: int, price: Decimal) -> Decimal:
    """Return what tokens cost at a price per million, exactly."""
    return Decimal(tokens) * price / _MILLION
