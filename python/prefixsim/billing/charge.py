"""One line of a bill: a trace under one provider's rules and prices."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.billing.places import Breakpoints
from prefixsim.billing.prices import Prices, money
from prefixsim.billing.rules import Provider
from prefixsim.billing.usage import Usage
from prefixsim.trace import Trace

__all__ = ["Amount", "Charge"]

_COLUMNS = ("prompt_tokens", "read_tokens", "written_tokens", "rest_tokens", "output_tokens")


@dataclass(frozen=True)
class Amount:
    """Tokens and money of some requests.

    Attributes
    ----------
    requests, prompt_tokens, read_tokens, written_tokens, rest_tokens, output_tokens : int
    cost, cost_without : Decimal
        In $, with caching and without.
    """

    requests: int
    prompt_tokens: int
    read_tokens: int
    written_tokens: int
    rest_tokens: int
    output_tokens: int
    cost: Decimal
    cost_without: Decimal

    @property
    def saved(self) -> Decimal:
        """What caching saves, in $; negative if it costs more than it saves."""
        return self.cost_without - self.cost

    @property
    def read_share(self) -> float:
        """Prompt tokens read from the cache over all prompt tokens."""
        return self.read_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def saved_share(self) -> float:
        """What caching saves over the cost without it."""
        return float(self.saved / self.cost_without) if self.cost_without else 0.0

    def to_dict(self) -> JsonObject:
        """Return the figures under machine-readable names; money as decimal text."""
        return {
            "requests": self.requests,
            **{name: getattr(self, name) for name in _COLUMNS},
            "read_share": self.read_share,
            "cost": text(self.cost),
            "cost_without_caching": text(self.cost_without),
            "saved": text(self.saved),
            "saved_share": self.saved_share,
        }


@dataclass(frozen=True, eq=False)
class Charge:
    """A trace under one provider's rules and prices.

    Attributes
    ----------
    trace : Trace
    provider : Provider
        The rules, with the time to live that holds.
    breakpoints : {"end", "shared", "shared+end"} or None
        Where entries end; ``None`` for providers without breakpoints.
    prices : Prices
    usage : Usage
        Of each request.
    """

    trace: Trace
    provider: Provider
    breakpoints: Breakpoints | None
    prices: Prices
    usage: Usage

    @property
    def writes_apart(self) -> bool:
        """Whether tokens that are written have a price or a count of their own."""
        return self.prices.writes_cost or self.provider.rule in ("entries", "stored")

    @cached_property
    def _columns(self) -> dict[str, npt.NDArray[np.int64]]:
        use = self.usage
        apart = self.writes_apart
        return {
            "prompt_tokens": self.trace.prompt_len.astype(np.int64),
            "read_tokens": use.read,
            "written_tokens": use.written if apart else np.zeros_like(use.written),
            "rest_tokens": use.rest if apart else self.trace.prompt_len.astype(np.int64) - use.read,
            "output_tokens": self.trace.output_len.astype(np.int64),
        }

    @cached_property
    def _band(self) -> npt.NDArray[np.int64]:
        starts = [band.above for band in self.prices.bands[1:]]
        found: npt.NDArray[np.int64] = np.searchsorted(
            np.asarray(starts, dtype=np.int64), self.trace.prompt_len, side="left"
        ).astype(np.int64)
        return found

    @cached_property
    def total(self) -> Amount:
        """All requests."""
        return self.by(np.zeros(len(self.trace), dtype=np.int64), 1)[0]

    @cached_property
    def token_hours(self) -> float:
        """Tokens kept in the cache times the hours they were kept."""
        return self.usage.token_hours

    @cached_property
    def break_even(self) -> Decimal | None:
        """How often a written token has to be read for caching to pay; ``None``: it never does.

        Of the first band of prices; where the user stores a prefix, storage included.
        """
        band, ttl = self.prices.bands[0], self.provider.ttl_s
        if self.provider.rule != "stored":
            return band.break_even(ttl)
        gain = band.input - band.of_read
        if gain <= 0:
            return None
        return (band.of_write(ttl) + self._storage_of(0)) / gain

    @property
    def reads_per_write(self) -> float | None:
        """How often a token that was kept was read; ``None`` if none was kept."""
        written = int(self.usage.written.sum())
        if not written:
            return None
        return float(self.usage.read.sum()) / written

    @property
    def reread_share(self) -> float | None:
        """Share of the kept tokens that were read again before they were gone."""
        written = int(self.usage.written.sum())
        return self.usage.reread_tokens / written if written else None

    def _storage_of(self, band: int) -> Decimal:
        """Price of storing a million tokens for the time to live."""
        price = self.prices.bands[band].storage
        if self.provider.rule != "stored" or price is None:
            return Decimal(0)
        return price * Decimal(str(self.provider.ttl_s)) / 3600

    def by(self, codes: npt.NDArray[np.generic], groups: int) -> list[Amount]:
        """Return the amounts of groups of requests.

        Parameters
        ----------
        codes : ndarray of int, shape (requests,)
            Group of each request.
        groups : int
        """
        bands = len(self.prices.bands)
        cell = codes.astype(np.int64) * bands + self._band
        sums = {}
        for name, column in {**self._columns, "requests": np.ones(len(cell), np.int64)}.items():
            total = np.zeros(groups * bands, dtype=np.int64)
            np.add.at(total, cell, column)
            sums[name] = total.reshape(groups, bands).tolist()
        return [self._amount({name: rows[g] for name, rows in sums.items()}) for g in range(groups)]

    def _amount(self, sums: dict[str, list[int]]) -> Amount:
        cost = without = Decimal(0)
        ttl = self.provider.ttl_s
        for i, band in enumerate(self.prices.bands):
            output = money(sums["output_tokens"][i], band.output)
            without += money(sums["prompt_tokens"][i], band.input) + output
            cost += money(sums["read_tokens"][i], band.of_read) + output
            cost += money(sums["written_tokens"][i], band.of_write(ttl) + self._storage_of(i))
            cost += money(sums["rest_tokens"][i], band.input)
        whole = {name: sum(of_bands) for name, of_bands in sums.items()}
        return Amount(cost=cost, cost_without=without, **whole)

    def to_dict(self) -> JsonObject:
        """Return the figures under machine-readable names; money as decimal text."""
        ttl = self.provider.ttl_s
        return {
            "provider": self.provider.name,
            "model": self.prices.model,
            "ttl_s": ttl,
            "breakpoints": self.breakpoints,
            "minimum_tokens": self.provider.minimum,
            **self.total.to_dict(),
            "stored_token_hours": self.token_hours,
            "break_even_reads": None if self.break_even is None else float(self.break_even),
            "reads_per_written_token": self.reads_per_write,
            "reread_share": self.reread_share,
            "prices": {
                "source": self.prices.source,
                "date": self.prices.date,
                "bands": [band.to_dict(ttl) for band in self.prices.bands],
            },
        }


def text(amount: Decimal) -> str:
    """Return an amount of money as decimal text, without an exponent."""
    return format(amount.normalize() if amount else Decimal(0), "f")
