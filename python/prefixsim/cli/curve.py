"""``prefixsim curve``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from prefixsim import _json
from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import Output, Reading
from prefixsim.cli._options import REQUIRED, Command, comma_list
from prefixsim.cli._sample import Sampling, sampled, show_sampled
from prefixsim.cli._tiers import MOST_COSTED, TierSizes, machine_of, write_surface
from prefixsim.cli._ttl import (
    OverTime,
    print_ttl_curves,
    read_policies,
    read_times,
    ttl_curves,
    write_ttl_curves,
)
from prefixsim.engines.contract import CacheBytes
from prefixsim.errors import InputError
from prefixsim.own_policies import Policy
from prefixsim.settings import argument, setting
from prefixsim.sizes import Size, parse_size

if TYPE_CHECKING:
    from prefixsim.study.curves import Axis, Curve, Curves

__all__ = ["COMMAND", "CurveOptions", "curve_command"]

ENDINGS = (".json", ".csv", ".parquet", ".png", ".svg", ".html")
_DRAWN_REPLAYS = 24
_AXES = ("blocks", "tokens", "GB")


def _read_sizes(text: object) -> tuple[Size, ...]:
    try:
        # A curve ends at no capacity: whole numbers may be of any size.
        return tuple(
            Size(part, int(part)) if part.isdecimal() and int(part) else parse_size(part)
            for part in comma_list(text)
        )
    except InputError as error:
        raise ValueError(str(error)) from None


def _read_numbers(text: object) -> tuple[int, ...]:
    parts = comma_list(text)
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise ValueError("whole numbers of at least 1 needed, separated by commas")
    return tuple(int(part) for part in parts)


def _read_axis(text: object) -> str:
    named = next((axis for axis in _AXES if axis.lower() == str(text).lower()), None)
    if named is None:
        raise ValueError(f"choose one of {', '.join(_AXES)}")
    return named


@dataclass(frozen=True)
class CurveOptions(Sampling, TierSizes, CacheBytes, Reading, Output):
    """Options of ``prefixsim curve``."""

    trace: Path = argument(REQUIRED, help="A trace file.", metavar="TRACE")
    block_size: tuple[int, ...] | None = setting(
        None,
        help="Tokens per block; several with commas.",
        metavar="TOKENS,...",
        read=_read_numbers,
        shown_default="16; for hash ids, the tokens each stands for",
    )
    policy: tuple[str | Policy, ...] | tuple[OverTime, ...] = setting(
        ("lru",),
        help="Orders of eviction, or module:Class of your own; 'lru' and 'clairvoyant' are exact "
        "at every capacity. 'ttl' and 'ttl:renew=false': the curve over the time to live of an "
        "unlimited cache.",
        metavar="NAME,...",
        read=read_policies,
        shown_default="lru",
    )
    ttl: tuple[float, ...] | None = setting(
        None,
        help="Times to live in the table of --policy ttl: seconds, or 5m, 1h, 2d, inf; several "
        "with commas.",
        metavar="TIME,...",
        read=read_times,
        shown_default="round times",
    )
    capacity: tuple[Size, ...] | None = setting(
        None,
        help="Usable blocks (5000, 20k), with the bytes of a token known sizes like 40GB, or "
        "'inf'; several with commas.",
        metavar="SIZE,...",
        read=_read_sizes,
        shown_default="round numbers",
    )
    points: int | None = setting(
        None,
        help="So many capacities, evenly spaced on a logarithmic scale, instead.",
        least=2,
        most=100_000,
        metavar="K",
        shown_default="round numbers",
    )
    last_token_rule: bool = setting(
        True,
        help="Compute at least the last token of every prompt, or let whole prompts hit.",
        off="--whole-prompt-hits",
    )
    cache_outputs: bool = setting(False, help="Generated tokens stay in the cache.")
    axis: str | None = setting(
        None,
        help="Capacity in the chart: blocks, tokens or GB; with --output.",
        metavar="UNIT",
        read=_read_axis,
    )


def curve_command(options: CurveOptions) -> None:
    """Compute curves, and print or write them."""
    from prefixsim.cli._terminal import print_tables, working
    from prefixsim.engines.cache_size import block_size_for
    from prefixsim.forest import load_or_compile
    from prefixsim.study.curves import Curves, curve
    from prefixsim.study.hit_curve import curve_tables

    _check_outputs(options)
    if options.asks_for_tiers:
        _surface(options)
        return
    over_time = [policy for policy in options.policy if isinstance(policy, OverTime)]
    if over_time:
        _over_time(options, over_time)
        return
    if options.points is not None and options.capacity is not None:
        msg = f"--points {options.points}: not with --capacity, which says where they are"
        raise InputError(msg)
    if options.sample is not None:
        _sampled(options, options.sample)
        return
    if options.ttl is not None:
        msg = "--ttl: belongs to the curve over the time to live, give --policy ttl as well"
        raise InputError(msg)
    wanted = options.capacity
    per_token = options.token_bytes
    if per_token is None and any(size.in_bytes for size in wanted or ()):
        text = next(size.text for size in wanted or () if size.in_bytes)
        msg = f"--capacity {text}: needs --bytes-per-token or --model-config"
        raise InputError(msg)
    trace = options.read_tokens(options.trace)
    with working(f"compiling {trace.name}"):
        forest = load_or_compile(trace, options.cache_dir, outputs=options.cache_outputs)
    with working(f"computing curves of {trace.name}"):
        curves = curve(
            forest,
            block_size=list(options.block_size or [block_size_for(trace, None)]),
            policy=[policy for policy in options.policy if not isinstance(policy, OverTime)],
            last_token_rule=options.last_token_rule,
        )
        curves = Curves(_at_capacities(x, options, per_token) for x in curves)
        texts = None if wanted is None else [size.text for size in wanted]
        tables = None if options.as_json else curve_tables(curves, per_token, texts)
    with working("writing"):
        for path in options.output:
            _write(curves, path, cast("Axis | None", options.axis), per_token)
    if tables is None:
        sys.stdout.write(curves.to_json())
    else:
        if sys.stdout.isatty():
            _draw(curves)
        print_tables(tables)


def _at_capacities(curve: Curve, options: CurveOptions, per_token: float | None) -> Curve:
    """Return a curve with its points where they were asked for."""
    from prefixsim.study.capacities import spaced_capacities

    if options.capacity is not None:
        sizes = [_blocks(size, curve, per_token) for size in options.capacity]
        return replace(curve, capacities=sizes)
    if options.points is not None:
        return replace(curve, capacities=spaced_capacities(curve.unique_blocks, options.points))
    return curve


def _sampled(options: CurveOptions, rate: float) -> None:
    """Estimate a curve from samples, and print or write it."""
    from prefixsim.cli._terminal import working
    from prefixsim.engines.cache_size import block_size_for
    from prefixsim.forest import load_or_compile
    from prefixsim.study.capacities import spaced_capacities

    refused = {
        "--ttl": options.ttl is not None,
        "--axis": options.axis is not None,
        "--cache-outputs": options.cache_outputs,
        "several --block-size": len(options.block_size or ()) > 1,
    }
    for flag in (flag for flag, given in refused.items() if given):
        msg = f"{flag}: not with --sample"
        raise InputError(msg)
    trace = options.read_tokens(options.trace)
    size = block_size_for(trace, (options.block_size or (None,))[0])
    capacity: list[int] | None = None
    if options.capacity is not None or options.points is not None:
        unique = load_or_compile(trace, options.cache_dir).unique_blocks(size)
        if options.points is not None:
            capacity = spaced_capacities(unique, options.points)
        else:
            sizes = [c.blocks(size, options.token_bytes) for c in options.capacity or ()]
            capacity = [unique if blocks is None else blocks for blocks in sizes]
    with working(f"replaying samples of {trace.name}"):
        found = sampled(
            options,
            trace,
            rate,
            policy=[policy for policy in options.policy if not isinstance(policy, OverTime)],
            block_size=size,
            capacity=capacity,
            last_token_rule=options.last_token_rule,
        )
    show_sampled(found, options.output, as_json=options.as_json)


def _over_time(options: CurveOptions, policies: list[OverTime]) -> None:
    """Compute curves over the time to live, and print or write them."""
    from prefixsim.cli._terminal import working
    from prefixsim.forest import load_or_compile

    refused = {
        "--capacity": options.capacity is not None,
        "--points": options.points is not None,
        "--sample": options.sample is not None,
        "--axis": options.axis is not None,
        "--bytes-per-token": options.bytes_per_token is not None,
        "--model-config": options.model_config is not None,
    }
    for flag in (flag for flag, given in refused.items() if given):
        msg = (
            f"{flag}: not with --policy ttl, whose cache is unlimited; ttl:seconds=300 is a curve "
            "over capacities"
        )
        raise InputError(msg)
    trace = options.read_tokens(options.trace)
    with working(f"compiling {trace.name}"):
        forest = load_or_compile(trace, options.cache_dir, outputs=options.cache_outputs)
    with working(f"computing curves of {trace.name}"):
        curves = ttl_curves(
            forest,
            policies,
            options.block_size or [None],
            options.ttl,
            last_token_rule=options.last_token_rule,
        )
    with working("writing"):
        for path in options.output:
            write_ttl_curves(curves, path)
    print_ttl_curves(curves, as_json=options.as_json)


def _surface(options: CurveOptions) -> None:
    """Compute the surface of all sizes of tiers, and print or write it."""
    from prefixsim.cli._terminal import print_tables, working
    from prefixsim.forest import load_or_compile
    from prefixsim.study.surface import surface
    from prefixsim.study.surface_tables import surface_tables
    from prefixsim.study.tier_costs import cost_table, tier_costs

    refused = {
        "--policy": options.policy != ("lru",),
        "--capacity": options.capacity is not None,
        "--ttl": options.ttl is not None,
        "--points": options.points is not None,
        "--sample": options.sample is not None,
        "--axis": options.axis is not None,
        "several --block-size": len(options.block_size or ()) > 1,
    }
    for flag in (flag for flag, given in refused.items() if given):
        msg = f"{flag}: not with --tiers, which takes --hbm, --dram and --disk, one block size, LRU"
        raise InputError(msg)
    machine = machine_of(
        options, options.model_config, options.kv_cache_dtype, options.tensor_parallel
    )
    trace = options.read_tokens(options.trace)
    with working(f"compiling {trace.name}"):
        forest = load_or_compile(trace, options.cache_dir, outputs=options.cache_outputs)
    found = surface(
        forest,
        hbm=options.hbm,
        dram=options.dram,
        disk=options.disk,
        block_size=(options.block_size or (None,))[0],
        bytes_per_token=options.token_bytes,
        prices=options.price_of,
        last_token_rule=options.last_token_rule,
    )
    for path in options.output:
        with working("writing"):
            write_surface(found, path)
    costed = [] if machine is None else found.points
    if options.as_json:
        whole = found.to_dict()
        if machine is not None:
            whole["costs"] = [
                {**point.blocks, "tiers": [c.to_dict() for c in tier_costs(found, machine, point)]}
                for point in costed
            ]
        sys.stdout.write(_json.dumps(whole))
        return
    print_tables(surface_tables(found))
    if len(costed) > MOST_COSTED:
        msg = f"time and traffic: for at most {MOST_COSTED} points; --json has those of all"
        sys.stdout.write(f"\n{msg}\n")
    elif machine is not None:
        sys.stdout.write("\n")
        print_tables([cost_table(found, machine, point) for point in costed])


def _blocks(size: Size, curve: Curve, per_token: float | None) -> int:
    """Return a capacity in blocks; without limit, as many as there are."""
    try:
        blocks = size.blocks(curve.block_size, per_token)
    except InputError as error:
        msg = f"--capacity {error}"
        raise InputError(msg) from None
    return max(curve.unique_blocks, 1) if blocks is None else blocks


def _draw(curves: Curves) -> None:
    """Draw each curve in characters, over a logarithmic capacity in blocks."""
    from prefixsim.cli._drawn import draw_rates, drawing_width

    for curve in curves:
        points = curve.sampled(2 * drawing_width() if curve.policy == "lru" else _DRAWN_REPLAYS)
        rates = [p.token_hit_rate for p in points]
        draw_rates(curve.label, [p.capacity_blocks for p in points], rates, "capacity (blocks)")


def _check_outputs(options: CurveOptions) -> None:
    from prefixsim._files import check_writable

    for path in options.output:
        if path.suffix not in ENDINGS:
            msg = f"{path}: the ending says no format, use one of {', '.join(ENDINGS)}"
            raise InputError(msg)
        check_writable(path)
    if options.axis is not None and not any(
        path.suffix in (".png", ".svg", ".html") for path in options.output
    ):
        msg = f"--axis {options.axis}: belongs to a chart, give --output FILE.png as well"
        raise InputError(msg)
    if options.axis == "GB" and options.model_config is None and options.bytes_per_token is None:
        msg = f"--axis {options.axis}: needs --model-config or --bytes-per-token"
        raise InputError(msg)


def _write(curves: Curves, path: Path, axis: Axis | None, bytes_per_token: float | None) -> None:
    from prefixsim._files import atomic_write

    if path.suffix == ".json":
        atomic_write(path, curves.to_json())
    elif path.suffix in (".csv", ".parquet"):
        from prefixsim._arrow_files import write_table

        write_table(curves.to_arrow(bytes_per_token=bytes_per_token), path)
    else:
        from prefixsim.charts import save_as

        chart = curves.plot(axis=axis, bytes_per_token=bytes_per_token)
        save_as(chart, path)


COMMAND = Command("curve", COMMANDS["curve"], CurveOptions, curve_command)
