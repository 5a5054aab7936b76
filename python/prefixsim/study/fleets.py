"""A fleet of replicas behind a router: which router, how many replicas, and what routing costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from prefixsim._json import JsonObject
from prefixsim.engines import Engine, choose
from prefixsim.errors import InputError, SettingError
from prefixsim.formats import read_trace
from prefixsim.routing import Router, RouterSettings, load_router
from prefixsim.study.fleet_choice import (
    MOST_REPLICAS,
    Asked,
    combinations,
    listed,
    pools_of,
    split_options,
)
from prefixsim.study.fleet_plan import Plan, plan_of, run_all
from prefixsim.study.fleet_result import FleetResult
from prefixsim.study.fleet_runs import FleetRun
from prefixsim.study.many import Grid, key_of
from prefixsim.trace import Trace

__all__ = ["MOST_FLEETS", "fleet"]

MOST_FLEETS = 1000

Task = tuple[int, tuple[Router, RouterSettings, JsonObject]]
"""A number of replicas, and a router with its settings."""

DEFAULT_ROUTERS = ("round-robin", "least-loaded", "sglang-cache-aware", "dynamo", "llm-d")


def fleet(
    trace: Trace | str | Path,
    *,
    replicas: int | Sequence[int] = 4,
    router: object = DEFAULT_ROUTERS,
    engine: str | Engine | None = None,
    hold: int | str | Sequence[int] | None = None,
    scale: object = None,
    event_delay: int | str = 0,
    decode_replicas: int | None = None,
    decode_router: str = "round-robin",
    decider: str = "always",
    total_blocks: int | None = None,
    seed: int = 0,
    characters_per_token: int = 4,
    model: str | None = None,
    cache_dir: str | Path | None = None,
    ray: str | None = None,
    resume: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> FleetResult:
    """Route a trace over replicas, by one router or several.

    Parameters
    ----------
    trace : Trace or path
    replicas : int or sequence of int, optional
        How many, at most 64; several are gone through.
    router : str, Router, object or sequence of them, optional
        Names (:data:`prefixsim.routing.BUILT_IN`), or objects with ``route(request, view)``, see
        :mod:`prefixsim.routing.contract`.
    engine : str or Engine, optional
        ``ideal`` (default): each replica is an LRU cache, without time. ``vllm`` or ``sglang``:
        each is a whole engine, all on one clock.
    hold : int, str or sequence of int, optional
        Without time: how many requests arrive while one is in flight: a number, one per request, or
        a time per output token like ``"20ms"``. Default: one per 16 output tokens, at most 32.
    scale : str or sequence of (float, int), optional
        When replicas are added or taken away: ``"600s:+2"``, or seconds and how many.
    event_delay : int or str, optional
        How late routers hear of changes of caches: requests, or with engines a time like
        ``"50ms"``.
    decode_replicas : int, optional
        Prefill and decode are apart: ``replicas`` compute prompts, so many decode.
    decode_router : str, optional
    decider : str, optional
        When a prompt goes to the prefill pool: ``always``, ``isl_bounding`` (Dynamo) or a number,
        of tokens uncached where it is decoded (llm-d).
    total_blocks : int, optional
        Blocks of all replicas together, in the place of ``num_blocks``: with several ``replicas``,
        what splitting one memory costs.
    seed : int, optional
        Of everything that is drawn.
    characters_per_token : int, optional
        For routers that count characters, where the trace has no text.
    model, cache_dir : optional
        Tokenizer of a text trace, and where to keep its tokens.
    ray : str, optional
        Address of a Ray cluster that the runs are spread over: ``local``, ``auto``, ``host:port``.
    resume : path, optional
        Results are kept here as they come; those that are there are not made again.
    progress : callable, optional
        Called with the runs done and all runs.
    **options
        Options of the engine (``num_blocks``: of each replica; ``block_size``) and of the routers:
        one value, or a list of values to go through. A router takes those that it has.

    Returns
    -------
    FleetResult

    Raises
    ------
    InputError
        If an option is unknown or unusable, or there are more than :data:`MOST_FLEETS` runs.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(100, 140), range(48)])
    >>> found = prefixsim.fleet(trace, replicas=2, router=["round-robin", "random"], block_size=16)
    >>> [run.router for run in found.runs], found.runs[0].hit_tokens.tolist()
    (['round-robin', 'random'], [0, 0, 32])
    """
    asked = Asked(
        hold=hold,
        scale=scale,
        event_delay=event_delay,
        pools=pools_of(decode_replicas, decode_router, decider),
        total_blocks=total_blocks,
        seed=seed,
        characters_per_token=characters_per_token,
        model=model,
        cache_dir=cache_dir,
    )
    chosen = [load_router(r) for r in listed(router)]
    engine = choose(engine, {})
    own, rest = split_options(options, chosen, engine)
    wanted = combinations(chosen, own)
    counts = _counts(replicas)
    if not counts or not wanted:
        msg = "no router or no replicas, give at least one of each"
        raise InputError(msg)
    if len(counts) * len(wanted) > MOST_FLEETS:
        msg = f"{len(counts) * len(wanted):,} runs are too many, give at most {MOST_FLEETS:,}"
        raise InputError(msg)
    read = trace if isinstance(trace, Trace) else read_trace(trace)
    plan = plan_of(read, engine, rest, asked)
    grid = Grid[Plan, Task, FleetRun](
        kind="fleet",
        shared=plan,
        tasks=[(count, row) for count in counts for row in wanted],
        key=lambda task: key_of(plan.config, task[0], task[1][0].name, task[1][2]),
        work=_runs,
        kept=lambda run: {f.name: getattr(run, f.name) for f in fields(FleetRun)},
        found=lambda kept: FleetRun(**kept),
    )
    runs = grid.run(lambda: plan.trace.digest, ray=ray, resume=resume, progress=progress)
    return FleetResult(plan.trace, plan.config, runs)


def _runs(plan: Plan, tasks: Sequence[Task]) -> Iterator[tuple[int, FleetRun]]:
    """Yield the number and the run of each router on a number of replicas."""
    for count in dict.fromkeys(count for count, _ in tasks):
        at = [i for i, (other, _) in enumerate(tasks) if other == count]
        yield from zip(at, run_all(plan, count, [tasks[i][1] for i in at]), strict=True)


def _counts(replicas: int | Sequence[int]) -> list[int]:
    counts = [replicas] if isinstance(replicas, int) else list(replicas)
    for count in counts:
        if not 1 <= count <= MOST_REPLICAS:
            msg = f"replicas is {count}, give 1 to {MOST_REPLICAS}"
            raise SettingError(msg)
    return counts
