"""``prefixsim curve``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from prefixsim.cli import app
from prefixsim.cli._remote_code import TrustRemoteCode
from prefixsim.errors import InputError

if TYPE_CHECKING:
    from prefixsim.study.curves import Axis, Curve, Curves, Policy
    from prefixsim.table import Table

ENDINGS = (".json", ".csv", ".parquet", ".png", ".svg", ".html")
_DRAWN_REPLAYS = 24
SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)
_BYTES = {"gib": 2**30, "tib": 2**40, "gb": 10**9, "tb": 10**12}
_COUNTS = {"k": 10**3, "m": 10**6}


@app.command("curve", no_args_is_help=True)
def curve_command(  # noqa: PLR0917 - the parser passes options by name
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file.")],
    trace_format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="Format of the trace; default: found."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Tokenizer for text traces: hub name, local folder, or 'demo'."
        ),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    block_size: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS,...", help="Default: 16; for hash ids, the tokens each stands for."
        ),
    ] = None,
    policy: Annotated[
        str, typer.Option(metavar="NAME,...", help="'lru', 'clairvoyant' or both.")
    ] = "lru",
    capacity: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE,...",
            help="In blocks (5000, 20k, 3M) or, with bytes per token known, as 40GB or 40GiB. "
            "Default: round numbers.",
        ),
    ] = None,
    bytes_per_token: Annotated[
        float | None,
        typer.Option(metavar="N", help="KV cache bytes of a token; adds sizes in GB."),
    ] = None,
    model_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Hugging Face config.json to compute the bytes per token from."
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the KV cache, like 'fp8'; default: the model's."),
    ] = None,
    tensor_parallel: Annotated[
        int, typer.Option(metavar="GPUS", help="GPUs that share the KV heads; sizes are per GPU.")
    ] = 1,
    last_token_rule: Annotated[
        bool,
        typer.Option(
            "--last-token-rule/--whole-prompt-hits",
            help="Compute at least the last token of every prompt, or let whole prompts hit.",
        ),
    ] = True,
    cache_outputs: Annotated[
        bool, typer.Option("--cache-outputs", help="Generated tokens stay in the cache.")
    ] = False,
    cache_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep compiled traces here, by content."),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help=f"Write {', '.join(ENDINGS)}; may be repeated."),
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option(metavar="UNIT", help="Of the chart's capacity: blocks, tokens or GB."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave bad rows out and count them.")
    ] = False,
    sort: Annotated[
        bool, typer.Option("--sort", help="Sort rows by timestamp instead of refusing them.")
    ] = False,
) -> None:
    """Hit rates of a cache of every size, exactly: LRU, and the best any policy could do."""
    from prefixsim.cli._terminal import (  # noqa: PLC0415
        check_choice,
        print_tables,
        reading,
        report_skipped,
        working,
    )

    _check_outputs(output or [])
    if axis is not None:
        check_choice("--axis", axis, ("blocks", "tokens", "GB"))
    policies = [name.strip() for name in policy.split(",")]
    for name in policies:
        check_choice("--policy", name, ("lru", "clairvoyant"))
    sizes = None if block_size is None else whole_numbers("--block-size", block_size)
    per_token = _bytes_per_token(bytes_per_token, model_config, dtype, tensor_parallel)
    wanted = None if capacity is None else [Capacity(text) for text in capacity.split(",")]

    from dataclasses import replace  # noqa: PLC0415

    from prefixsim.forest import load_or_compile  # noqa: PLC0415
    from prefixsim.formats import read_trace  # noqa: PLC0415
    from prefixsim.study.curves import Curves, curve  # noqa: PLC0415
    from prefixsim.study.replay import block_size_for, with_tokens  # noqa: PLC0415

    with reading(trace) as progress:
        read = read_trace(
            trace, format=trace_format, sort=sort, skip_bad_rows=skip_bad_rows, progress=progress
        )
    report_skipped(trace, read.meta)
    with working(f"compiling {read.name}"):
        read = with_tokens(read, model)
        forest = load_or_compile(read, cache_dir, outputs=cache_outputs)
    with working(f"computing curves of {read.name}"):
        curves = curve(
            forest,
            block_size=[block_size_for(read, None)] if sizes is None else sizes,
            policy=cast("list[Policy]", policies),
            last_token_rule=last_token_rule,
        )
        if wanted is not None:
            curves = Curves(
                replace(x, capacities=[c.blocks(x.block_size, per_token) for c in wanted])
                for x in curves
            )
        tables = None if as_json else _tables(curves, per_token, wanted)
    with working("writing"):
        for path in output or []:
            _write(curves, path, cast("Axis | None", axis), per_token)
    if tables is None:
        sys.stdout.write(curves.to_json())
    else:
        if sys.stdout.isatty():
            _draw(curves)
        print_tables(tables)


def _draw(curves: Curves) -> None:
    """Draw each curve in characters, over a logarithmic capacity in blocks."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from prefixsim.charts.curve import label  # noqa: PLC0415
    from prefixsim.reports.draw import curve as drawn  # noqa: PLC0415

    console = Console()
    width = max(20, min(96, console.width - 10))
    for found in curves:
        points = found.sampled(2 * width if found.policy == "lru" else _DRAWN_REPLAYS)
        console.print(Text(f"\n{label(found)}: token hit rate", "bold"))
        lines = drawn(
            [p.capacity_blocks for p in points],
            [p.token_hit_rate for p in points],
            width=width,
            x_label="capacity (blocks)",
        )
        for line in lines:
            text = Text(line[:7], "dim")
            console.print(text.append(line[7:], "blue"))


def whole_numbers(option: str, text: str) -> list[int]:
    """Read positive integers separated by commas."""
    numbers = []
    for part in text.split(","):
        if not part.strip().isdecimal() or int(part) < 1:
            msg = f"{option} {text}: whole numbers of at least 1 needed, separated by commas"
            raise InputError(msg)
        numbers.append(int(part))
    return numbers


class Capacity:
    """A capacity as it is written on the command line."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        lower = self.text.lower()
        self.is_bytes = False
        factor = 1
        for suffix, size in {**_BYTES, **_COUNTS}.items():
            if lower.endswith(suffix):
                lower, factor = lower.removesuffix(suffix), size
                self.is_bytes = suffix in _BYTES
                break
        try:
            number = float(lower.replace("_", ""))
        except ValueError:
            number = 0.0
        if not (0 < number < float("inf")) or (factor == 1 and not number.is_integer()):
            msg = (
                f"--capacity {self.text}: give blocks like 5000, 20k, 3M or bytes like 40GB, 40GiB"
            )
            raise InputError(msg)
        self.amount = number * factor

    def blocks(self, block_size: int, bytes_per_token: float | None) -> int:
        """Return the capacity in blocks."""
        if not self.is_bytes:
            return int(self.amount)
        if bytes_per_token is None:
            msg = f"--capacity {self.text}: needs --bytes-per-token or --model-config"
            raise InputError(msg)
        blocks = int(self.amount // (block_size * bytes_per_token))
        if blocks < 1:
            msg = f"--capacity {self.text}: less than one block of {block_size} tokens"
            raise InputError(msg)
        return blocks


def _check_outputs(paths: list[Path]) -> None:
    from prefixsim._files import check_writable  # noqa: PLC0415

    for path in paths:
        if path.suffix not in ENDINGS:
            msg = f"{path}: the ending says no format, use one of {', '.join(ENDINGS)}"
            raise InputError(msg)
        check_writable(path)


def _bytes_per_token(
    given: float | None, config: Path | None, dtype: str | None, tensor_parallel: int
) -> float | None:
    if given is not None:
        if config is not None:
            msg = "--bytes-per-token and --model-config: give one of them"
            raise InputError(msg)
        if not given > 0:
            msg = f"--bytes-per-token {given:g}: must be above 0"
            raise InputError(msg)
        return given
    if config is None:
        return None
    from prefixsim.hardware.kv_bytes import kv_bytes_per_token  # noqa: PLC0415

    return kv_bytes_per_token(config, dtype=dtype, tensor_parallel=tensor_parallel).per_token


def _write(curves: Curves, path: Path, axis: Axis | None, bytes_per_token: float | None) -> None:
    from prefixsim._files import atomic_write  # noqa: PLC0415

    if path.suffix == ".json":
        atomic_write(path, curves.to_json())
    elif path.suffix in (".csv", ".parquet"):
        from prefixsim.study.request_table import write_requests  # noqa: PLC0415

        write_requests(curves.to_arrow(bytes_per_token=bytes_per_token), path)
    else:
        from prefixsim.charts import save  # noqa: PLC0415

        chart = curves.plot(axis=axis, bytes_per_token=bytes_per_token)
        save(chart, path.with_suffix(""), [path.suffix[1:]])  # type: ignore[list-item]


def _tables(
    curves: Curves, bytes_per_token: float | None, wanted: list[Capacity] | None
) -> list[Table]:
    from prefixsim.charts.curve import label  # noqa: PLC0415
    from prefixsim.table import Table  # noqa: PLC0415

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
    curves: Curves, bytes_per_token: float | None, wanted: list[Capacity] | None
) -> tuple[list[str], list[list[str]]]:
    """Return a row per capacity: as asked for, or in tokens where block sizes are compared."""
    from prefixsim.study.curves import round_capacities  # noqa: PLC0415

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
    from prefixsim.table import written  # noqa: PLC0415

    return written(rate, "rate")
