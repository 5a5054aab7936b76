"""Options of tiers of memory, and how a surface is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim.cli._options import comma_list
from prefixsim.settings import setting
from prefixsim.sizes import Size

if TYPE_CHECKING:
    from prefixsim.study.tier_costs import Machine
    from prefixsim.study.tier_surface import Surface

__all__ = ["MOST_COSTED", "TierSizes", "machine_of", "write_surface"]

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


def _read_links(text: object) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in comma_list(text)]
    if not all(equals and link for _, equals, link in pairs):
        raise ValueError("give how each tier is reached, like dram=pcie5,disk=6GB")
    return tuple((tier.strip(), link) for tier, _, link in pairs)


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

    latency: str | None = setting(
        None,
        help="What computing costs: a GPU's name (needs --model-config), a .json of coefficients, "
        "a .csv of measured steps. Adds time and traffic of each tier.",
        metavar="MODEL",
        shown_default="no times",
    )
    links: tuple[tuple[str, str], ...] = setting(
        (),
        help="How tiers are reached: bytes per second as measured, like dram=48GB, or a name such "
        "as pcie5, nvme4, rdma400; needs --latency.",
        metavar="TIER=LINK,...",
        read=_read_links,
    )
    drive_writes: float | None = setting(
        None,
        help="Drive writes per day that the disk is rated for over five years; needs --latency.",
        least=0,
        metavar="N",
    )

    @property
    def asks_for_tiers(self) -> bool:
        """Whether any of these options was given."""
        given = (self.hbm, self.dram, self.disk, self.prices, self.latency, self.links)
        return self.tiers or self.drive_writes is not None or any(given)

    @property
    def price_of(self) -> dict[str, float]:
        """Price of a GiB by tier."""
        return dict(self.prices)


MOST_COSTED = 6
"""Points beyond which costs are not printed."""


def machine_of(
    options: TierSizes, model: Path | None, dtype: str | None, gpus: int
) -> Machine | None:
    """Return what computes and loads; ``None`` if nobody says what computing costs.

    Raises
    ------
    InputError
        If an option needs another one.
    """
    from prefixsim.errors import InputError
    from prefixsim.hardware.gpus import Model
    from prefixsim.hardware.latency import parse_latency
    from prefixsim.hardware.links import read_link
    from prefixsim.study.tier_costs import Machine

    if options.latency is None:
        if options.links or options.drive_writes is not None:
            flag = "--links" if options.links else "--drive-writes"
            msg = f"{flag}: needs --latency, what computing costs"
            raise InputError(msg)
        return None
    known = None if model is None else Model.read(model, kv_dtype=dtype)
    latency = parse_latency(options.latency, known, gpus)
    links = {tier: read_link(link) for tier, link in options.links}
    return Machine(latency, links, options.drive_writes, gpus)


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
