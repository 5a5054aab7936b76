"""``prefixsim plan``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson, Reading
from prefixsim.cli._options import REQUIRED, Command, comma_list, usage_error
from prefixsim.settings import argument, setting

__all__ = ["COMMAND", "PlanOptions", "plan_command"]


def _read_list(value: object) -> tuple[str, ...]:
    return tuple(part for part in comma_list(value) if part and part != "none")


def _read_counts(value: object) -> tuple[int, ...]:
    parts = comma_list(value)
    if not all(part.isdecimal() and 1 <= int(part) <= 64 for part in parts):
        raise ValueError("give 1 to 64 GPUs, several with commas")
    return tuple(int(part) for part in parts)


@dataclass(frozen=True)
class PlanOptions(Reading, AsJson):
    """Options of ``prefixsim plan``."""

    trace: Path = argument(REQUIRED, help="A trace file.", metavar="TRACE")
    model_config: Path | None = setting(
        None, help="The model's config.json or name; needed.", metavar="MODEL"
    )
    gpu: str = setting("h100", help="The GPU, like h100, h200, b200, a100-80gb, l40s, mi300x.")
    slo: str | None = setting(
        None,
        help="Service levels, like ttft_p99=2s,tpot_p50=50ms (ttft, tpot, e2e, queue).",
        metavar="LEVEL,...",
    )
    prices: Path | None = setting(
        None,
        help="A TOML file: [gpu] h100 = 2.50 and [memory] dram = 0.005, $ an hour of a GPU and of "
        "a GiB.",
        metavar="FILE",
    )
    calibrate: Path | None = setting(
        None,
        help="A CSV of measured steps, to which times are fitted in place of the estimate.",
        metavar="FILE",
    )
    tensor_parallel: tuple[int, ...] | None = setting(
        None,
        help="GPUs of a server; several with commas.",
        metavar="N,...",
        read=_read_counts,
        shown_default="the fewest that hold the model",
    )
    router: tuple[str, ...] = setting(
        ("llm-d", "round-robin"),
        help="Routers to try; several with commas.",
        metavar="NAME,...",
        read=_read_list,
        shown_default="llm-d,round-robin",
    )
    dram: tuple[str, ...] = setting(
        ("64GiB", "256GiB", "1TiB"),
        help="DRAM per replica to try, or 'none'.",
        metavar="SIZE,...",
        read=_read_list,
        shown_default="64GiB,256GiB,1TiB",
    )
    overhead: str = setting(
        "4GiB",
        help="Memory of each GPU for activations, graphs and communication.",
        metavar="SIZE",
    )
    block_size: int | None = setting(
        None, help="Tokens of a block.", least=1, shown_default="16, or those of a hash id"
    )


def plan_command(options: PlanOptions) -> None:
    """Search for plans, and print them."""
    from prefixsim._json import dumps
    from prefixsim.cli._terminal import print_tables, working
    from prefixsim.study.plan_tables import plan_tables
    from prefixsim.study.plans import plan

    if options.model_config is None:
        raise usage_error("plan", "no --model-config given, the model's config.json or name")
    trace = options.read_tokens(options.trace)
    with working(f"planning for {trace.name}"):
        found = plan(
            trace,
            options.model_config,
            gpu=options.gpu,
            slo=options.slo,
            prices=options.prices,
            calibrate=options.calibrate,
            tensor_parallel=options.tensor_parallel,
            router=options.router,
            dram=options.dram,
            overhead=options.overhead,
            block_size=options.block_size,
            path=str(options.trace),
        )
    if options.as_json:
        sys.stdout.write(dumps(found.to_dict()))
    else:
        print_tables(plan_tables(found))


COMMAND = Command("plan", COMMANDS["plan"], PlanOptions, plan_command)
