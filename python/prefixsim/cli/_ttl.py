"""Curves over the time to live, as ``prefixsim curve --policy ttl`` prints and writes them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim import _json
from prefixsim.cli._options import comma_list
from prefixsim.errors import InputError
from prefixsim.own_policies import Policy, read_policy
from prefixsim.sizes import parse_seconds

if TYPE_CHECKING:
    from prefixsim.forest import Forest
    from prefixsim.study.ttl_curve import TtlCurve

__all__ = [
    "OverTime",
    "print_ttl_curves",
    "read_policies",
    "read_times",
    "ttl_curves",
    "write_ttl_curves",
]

_RENEW = {"ttl": True, "ttl:renew=true": True, "ttl:renew=false": False}

_DRAWN_REPLAYS = 24


@dataclass(frozen=True)
class OverTime:
    """A policy that was named without its seconds: a curve over them.

    Attributes
    ----------
    renew : bool
        Whether every use begins the time anew.
    """

    renew: bool


def read_policies(text: object) -> tuple[str | Policy, ...] | tuple[OverTime, ...]:
    """Return policies from a list with commas."""
    names = comma_list(text)
    over_time = tuple(OverTime(_RENEW[name]) for name in names if name in _RENEW)
    if not over_time:
        return tuple(read_policy(name) for name in names)
    if len(over_time) == len(names):
        return over_time
    raise ValueError(
        "a curve over the time to live has no capacities: give 'ttl' alone, or with its seconds, "
        "as ttl:seconds=300, for a curve over capacities"
    )


def read_times(text: object) -> tuple[float, ...]:
    """Return times to live from a list with commas."""
    try:
        return tuple(parse_seconds(part) for part in comma_list(text))
    except InputError as error:
        raise ValueError(str(error)) from None


def ttl_curves(
    forest: Forest,
    policies: Sequence[OverTime],
    block_sizes: Sequence[int | None],
    times: Sequence[float] | None,
    *,
    last_token_rule: bool,
) -> list[TtlCurve]:
    """Compute a curve for each block size and policy."""
    from prefixsim.study.ttl_curve import ttl_curve

    return [
        ttl_curve(forest, block_size=size, ttl=times, renew=renew, last_token_rule=last_token_rule)
        for size in dict.fromkeys(block_sizes)
        for renew in dict.fromkeys(policy.renew for policy in policies)
    ]


def print_ttl_curves(curves: Sequence[TtlCurve], *, as_json: bool) -> None:
    """Print curves as JSON, or as tables below a drawing if a person looks on."""
    from prefixsim.cli._terminal import print_tables
    from prefixsim.study.ttl_tables import ttl_dict, ttl_tables

    if as_json:
        sys.stdout.write(_json.dumps(ttl_dict(curves)))
        return
    if sys.stdout.isatty():
        _draw(curves)
    print_tables(ttl_tables(curves))


def write_ttl_curves(curves: Sequence[TtlCurve], path: Path) -> None:
    """Write curves to a file, in the format of its ending."""
    from prefixsim._files import atomic_write
    from prefixsim.study.ttl_tables import ttl_dict, ttl_points_table

    if path.suffix == ".json":
        atomic_write(path, _json.dumps(ttl_dict(curves)))
    elif path.suffix in (".csv", ".parquet"):
        from prefixsim._arrow_files import write_table

        write_table(ttl_points_table(curves), path)
    else:
        from prefixsim.charts import save_as
        from prefixsim.charts.ttl import draw

        save_as(draw(curves), path)


def _draw(curves: Sequence[TtlCurve]) -> None:
    """Draw each curve in characters, over a logarithmic time."""
    from prefixsim.cli._drawn import draw_rates, drawing_width

    for curve in curves:
        points = curve.sampled(2 * drawing_width() if curve.renew else _DRAWN_REPLAYS)
        rates = [p.token_hit_rate for p in points]
        draw_rates(curve.label, [p.ttl_s for p in points], rates, "time to live (s)")
