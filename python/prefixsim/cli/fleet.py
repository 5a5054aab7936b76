"""``prefixsim fleet``: routers side by side on one trace."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import ManyRuns, Output, Reading
from prefixsim.cli._options import REQUIRED, Command, EngineChoice, comma_list
from prefixsim.errors import InputError
from prefixsim.routing import router_names
from prefixsim.routing.durations import read_scaling
from prefixsim.settings import argument, setting
from prefixsim.study.fleets import DEFAULT_ROUTERS

__all__ = ["COMMAND", "FleetOptions", "fleet_command"]

CHARTS = (".png", ".svg")


def _read_replicas(value: object) -> tuple[int, ...]:
    parts = comma_list(value)
    if not all(part.isdecimal() and 1 <= int(part) <= 64 for part in parts):
        raise ValueError("give 1 to 64 replicas, several with commas")
    return tuple(int(part) for part in parts)


def _read_routers(value: object) -> tuple[str, ...]:
    names = [part for part in comma_list(value) if part]
    if not names:
        raise ValueError("give the name of a router, several with commas")
    return tuple(router_names() if names == ["all"] else names)


@dataclass(frozen=True)
class FleetOptions(Reading, ManyRuns, Output):
    """Options of ``prefixsim fleet``."""

    trace: Path = argument(REQUIRED, help="A trace file.", metavar="TRACE")
    replicas: tuple[int, ...] = setting(
        (4,),
        help="Replicas; several with commas.",
        metavar="N,...",
        read=_read_replicas,
        shown_default="4",
    )
    router: tuple[str, ...] = setting(
        DEFAULT_ROUTERS,
        help=f"Routers: {', '.join(router_names())}; several with commas, or 'all'.",
        metavar="NAME,...",
        read=_read_routers,
        shown_default=",".join(DEFAULT_ROUTERS),
    )
    hold: str | None = setting(
        None,
        help="How many requests arrive while one is in flight, or the time of an output token, "
        "like 20ms; with engines, they say.",
        metavar="N|TIME",
        shown_default="one for every 16 output tokens, 32 at most",
    )
    scale: tuple[tuple[float, int], ...] = setting(
        (),
        help="Add or take away replicas during the trace, like 600s:+2; several with commas.",
        metavar="TIME:+N,...",
        read=read_scaling,
    )
    event_delay: str = setting(
        "0",
        help="How late routers hear of changes of caches: requests, or a time with engines.",
        metavar="N|TIME",
    )
    decode_replicas: int | None = setting(
        None,
        help="Prefill and decode apart: --replicas compute prompts, so many decode.",
        unit="replicas",
        least=1,
        most=64,
    )
    decode_router: str = setting(
        "round-robin", help="Who picks the decode replica.", metavar="NAME"
    )
    decider: str = setting(
        "always",
        help="When a prompt goes to the prefill pool: 'always', 'isl_bounding' (Dynamo), or the "
        "tokens that must be uncached where it is decoded (llm-d).",
        metavar="RULE",
    )
    total_blocks: int | None = setting(
        None,
        help="Blocks of all replicas together, in the place of --num-blocks.",
        unit="blocks",
        least=64,
        most=2**32 - 2,
    )
    seed: int = setting(0, help="Seed of everything that is drawn.", least=0, most=2**64 - 1)
    characters_per_token: int = setting(
        4,
        help="For routers that count characters, where the trace has no text.",
        unit="characters",
        least=1,
        most=1000,
    )
    output_dir: Path | None = setting(
        None, help="Write every chart here, as PNG and SVG.", metavar="DIR"
    )


def fleet_command(options: FleetOptions, choice: EngineChoice) -> None:
    """Route the trace, and print or write what came of it."""
    from prefixsim._files import atomic_write, check_writable
    from prefixsim.cli._terminal import counting, print_tables
    from prefixsim.study.fleets import fleet

    if choice.records:
        name = next(iter(choice.records))
        msg = f"{choice.typed[name]}: a fleet keeps no records of its engines"
        raise InputError(msg)
    for path in options.output:
        check_writable(path)
    trace = options.read(options.trace)
    with counting(f"routing {trace.name}") as progress:
        found = fleet(
            trace,
            replicas=options.replicas,
            router=options.router,
            engine=choice.name,
            hold=options.hold,
            scale=options.scale or None,
            event_delay=options.event_delay,
            decode_replicas=options.decode_replicas,
            decode_router=options.decode_router,
            decider=options.decider,
            total_blocks=options.total_blocks,
            seed=options.seed,
            characters_per_token=options.characters_per_token,
            model=options.model,
            cache_dir=options.cache_dir,
            ray=options.ray,
            resume=options.resume,
            progress=progress,
            **choice.given,
            **choice.routed,
        )
    for path in options.output:
        if path.suffix in CHARTS:
            from prefixsim.charts import save_as

            save_as(found.plot(), path)
        elif path.suffix == ".html":
            from prefixsim.reports.fleet import write_fleet_report

            write_fleet_report(found, path)
        else:
            atomic_write(path, found.to_json())
    if options.output_dir is not None:
        from prefixsim.charts import save

        options.output_dir.mkdir(parents=True, exist_ok=True)
        for name, chart in found.charts().items():
            save(chart, options.output_dir / name)
    if options.as_json:
        sys.stdout.write(found.to_json())
        return
    print_tables(found.tables())
    sys.stdout.write(f"\n{found.advice}\n")


COMMAND = Command(
    "fleet", COMMANDS["fleet"], FleetOptions, fleet_command, engines="one", routers=True
)
