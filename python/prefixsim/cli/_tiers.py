"""Options of tiers of memory, and how a surface is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim.cli._options import comma_list
from prefixsim.settings import setting
from prefixsim.sizes import Size

if TYPE_CHECKING:
    from prefixsim.study.tier_surface import Surface

__all__ = ["TierSizes", "write_surface"]

_ADVICE = "give blocks like 5000, 20k, or bytes like 40GB, 64GiB; several with commas"


def _read_sizes(text: object) -> tuple[Size, ...]:
    from prefixsim.errors import InputError
    from prefixsim.sizes import parse_size

    try:
        return tuple(
            Size(part, int(part)) if part.isdecimal() else parse_size(part)
            for part in comma_list(str(text))
        )
    except InputError:
        raise ValueError(_ADVICE) from None


def _read_prices(text: object) -> tuple[tuple[str, float], ...]:
    prices = []
    for part in comma_list(str(text)):
        tier, equals, price = part.partition("=")
        try:
            prices.append((tier.strip(), float(price)))
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError("give what a GiB of each tier costs, like dram=4,disk=0.1")
    return tuple(prices)


def _tier_sizes(tier: str, default: str) -> tuple[Size, ...] | None:
    return setting(
        None,
        help=f"Sizes of {tier}, per GPU: blocks, or bytes like 64GiB; several with commas.",
        metavar="SIZE,...",
        read=_read_sizes,
        shown_default=default,
    )


@dataclass(frozen=True)
class TierSizes:
    """Tiers of memory

    Attributes
    ----------
    tiers : bool
        The hit rate for every size of every tier.
    hbm, dram, disk : tuple of Size or None
    prices : tuple of (str, float)
        What a GiB of a tier costs.
    """  # noqa: D400 - the title of a panel of the help

    tiers: bool = setting(
        False, help="The hit rate for every size of HBM, DRAM and disk; implied by their sizes."
    )
    hbm: tuple[Size, ...] | None = _tier_sizes("HBM", "round sizes")
    dram: tuple[Size, ...] | None = _tier_sizes("DRAM", "round sizes")
    disk: tuple[Size, ...] | None = _tier_sizes("disk", "no such tier")
    prices: tuple[tuple[str, float], ...] = setting(
        (),
        help="What a GiB of each tier costs, like dram=4,disk=0.1; needs the bytes of a token.",
        metavar="TIER=PRICE,...",
        read=_read_prices,
    )

    @property
    def asks_for_tiers(self) -> bool:
        """Whether any of these options was given."""
        return self.tiers or bool(self.hbm or self.dram or self.disk or self.prices)

    @property
    def price_of(self) -> dict[str, float]:
        """Price of a GiB by tier."""
        return dict(self.prices)


def write_surface(surface: Surface, path: Path) -> None:
    """Write a surface in the format that the ending of the file names."""
    from prefixsim._files import atomic_write

    if path.suffix == ".json":
        atomic_write(path, surface.to_json())
    elif path.suffix in (".csv", ".parquet"):
        from prefixsim._arrow_files import write_table

        write_table(surface.to_arrow(), path)
    else:
        from prefixsim.charts import save_as

        save_as(surface.plot(), path)
