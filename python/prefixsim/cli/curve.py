"""``prefixsim curve``."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefixsim._screen import paint, styled_output
from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import Output, Reading
from prefixsim.cli._options import REQUIRED, Command
from prefixsim.engines.contract import CacheBytes
from prefixsim.errors import InputError
from prefixsim.settings import argument, setting
from prefixsim.sizes import Size, parse_size

if TYPE_CHECKING:
    from prefixsim.study.curves import Axis, Curve, Curves
    from prefixsim.table import Table

__all__ = ["COMMAND", "CurveOptions", "curve_command"]

ENDINGS = (".json", ".csv", ".parquet", ".png", ".svg", ".html")
_DRAWN_REPLAYS = 24
SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)
_AXES = ("blocks", "tokens", "GB")


def _read_sizes(text: Any) -> tuple[Size, ...]:
    try:
        # A curve ends at no capacity: whole numbers may be of any size.
        return tuple(
            Size(part.strip(), int(part))
            if part.strip().isdecimal() and int(part)
            else parse_size(part)
            for part in str(text).split(",")
        )
    except InputError as error:
        raise ValueError(str(error)) from None


def _read_numbers(text: Any) -> tuple[int, ...]:
    parts = str(text).split(",")
    if not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
        raise ValueError("whole numbers of at least 1 needed, separated by commas")
    return tuple(int(part) for part in parts)


def _read_policies(text: Any) -> tuple[str, ...]:
    from prefixsim.study.curves import POLICIES

    names = tuple(part.strip() for part in str(text).split(","))
    if not set(names) <= set(POLICIES):
        raise ValueError(f"choose one of {', '.join(POLICIES)}")
    return names


def _read_axis(text: Any) -> str:
    named = next((axis for axis in _AXES if axis.lower() == str(text).lower()), None)
    if named is None:
        raise ValueError(f"choose one of {', '.join(_AXES)}")
    return named


@dataclass(frozen=True)
class CurveOptions(CacheBytes, Reading, Output):
    """Options of ``prefixsim curve``."""

    trace: Path = argument(REQUIRED, help="A trace file.", metavar="TRACE")
    block_size: tuple[int, ...] | None = setting(
        None,
        help="Tokens per block; several with commas.",
        metavar="TOKENS,...",
        read=_read_numbers,
        shown_default="16; for hash ids, the tokens each stands for",
    )
    policy: tuple[str, ...] = setting(
        ("lru",),
        help="'lru', 'clairvoyant' or both.",
        metavar="NAME,...",
        read=_read_policies,
        shown_default="lru",
    )
    capacity: tuple[Size, ...] | None = setting(
        None,
        help="Usable blocks (5000, 20k), with the bytes of a token known sizes like 40GB, or "
        "'inf'; several with commas.",
        metavar="SIZE,...",
        read=_read_sizes,
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
    from prefixsim.study.curves import Curves, Policy, curve

    _check_outputs(options)
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
            policy=cast("list[Policy]", list(options.policy)),
            last_token_rule=options.last_token_rule,
        )
        if wanted is not None:
            curves = Curves(
                replace(x, capacities=[_blocks(size, x, per_token) for size in wanted])
                for x in curves
            )
        tables = None if options.as_json else _tables(curves, per_token, wanted)
    with working("writing"):
        for path in options.output:
            _write(curves, path, cast("Axis | None", options.axis), per_token)
    if tables is None:
        sys.stdout.write(curves.to_json())
    else:
        if sys.stdout.isatty():
            _draw(curves)
        print_tables(tables)


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
    from prefixsim.charts.curve import label
    from prefixsim.reports.draw import curve as drawn

    width = max(20, min(96, shutil.get_terminal_size().columns - 10))
    styled = styled_output()
    for found in curves:
        points = found.sampled(2 * width if found.policy == "lru" else _DRAWN_REPLAYS)
        title = paint(f"{label(found)}: token hit rate", "bold", styled=styled)
        sys.stdout.write(f"\n{title}\n")
        lines = drawn(
            [p.capacity_blocks for p in points],
            [p.token_hit_rate for p in points],
            width=width,
            x_label="capacity (blocks)",
        )
        for line in lines:
            edge = paint(line[:7], "faint", styled=styled)
            sys.stdout.write(f"{edge}{paint(line[7:], 'blue', styled=styled)}\n")


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
        from prefixsim.charts import save

        chart = curves.plot(axis=axis, bytes_per_token=bytes_per_token)
        save(chart, path.with_suffix(""), [path.suffix[1:]])  # type: ignore[list-item]


def _tables(
    curves: Curves, bytes_per_token: float | None, wanted: tuple[Size, ...] | None
) -> list[Table]:
    from prefixsim.charts.curve import label
    from prefixsim.table import Table

    name = curves[0].forest.trace.name
    tables = []
    for found in curves:
        top = found.ceiling_point
        tables.append(
            Table(
                f"{name}: {label(found)}: ceiling {_rate(top.token_hit_rate)} of prompt tokens, "
                f"{found.unique_blocks:,} unique blocks",
                ["share of ceiling", "token hit rate", *_size_heads(bytes_per_token)],
                [_share(found, share, bytes_per_token) for share in SHARES],
            )
        )
    heads, rows = _by_capacity(curves, bytes_per_token, wanted)
    heads += [label(found) for found in curves]
    return [*tables, Table("token hit rate by capacity", heads, rows)]


def _share(found: Curve, share: float, bytes_per_token: float | None) -> list[str]:
    target = share * found.ceiling
    blocks = found.capacity_for(target) or 0
    return [
        f"{share:.0%}".replace("%", " %"),
        _rate(target),
        *_sizes(blocks, found, bytes_per_token),
    ]


def _by_capacity(
    curves: Curves, bytes_per_token: float | None, wanted: tuple[Size, ...] | None
) -> tuple[list[str], list[list[str]]]:
    """Return a row per capacity: as asked for, or in tokens where block sizes are compared."""
    from prefixsim.study.curves import round_capacities

    points = [found.points for found in curves]
    rates = [[_rate(point.token_hit_rate) for point in row] for row in zip(*points, strict=False)]
    sizes = [found.block_size for found in curves]
    if wanted is not None:
        texts = [[capacity.text] for capacity in wanted]
        return ["capacity"], [a + b for a, b in zip(texts, rates, strict=True)]
    if len(set(sizes)) == 1:
        blocks = [_sizes(c, curves[0], bytes_per_token) for c in curves[0].capacities]
        return _size_heads(bytes_per_token), [a + b for a, b in zip(blocks, rates, strict=True)]
    rows = []
    for tokens in round_capacities(max(c.unique_blocks * c.block_size for c in curves)):
        if tokens >= max(sizes):
            row = [_rate(found.hit_rate(tokens // found.block_size)) for found in curves]
            rows.append([f"{tokens:,}", *_in_bytes(tokens, bytes_per_token), *row])
    return _size_heads(bytes_per_token)[1:], rows


def _size_heads(bytes_per_token: float | None) -> list[str]:
    return ["blocks", "tokens", *([] if bytes_per_token is None else ["GB"])]


def _sizes(blocks: int, found: Curve, bytes_per_token: float | None) -> list[str]:
    tokens = blocks * found.block_size
    return [f"{blocks:,}", f"{tokens:,}", *_in_bytes(tokens, bytes_per_token)]


def _in_bytes(tokens: int, bytes_per_token: float | None) -> list[str]:
    if bytes_per_token is None:
        return []
    size = tokens * bytes_per_token / 1e9
    return [f"{size:,.3g}" if size < 100 else f"{size:,.0f}"]


def _rate(rate: float) -> str:
    from prefixsim.table import written

    return written(rate, "rate")


COMMAND = Command("curve", COMMANDS["curve"], CurveOptions, curve_command)
