"""A fleet of replicas behind a router: which router, how many replicas, and what routing costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prefixsim import _core
from prefixsim._json import JsonObject
from prefixsim.engines import Engine, EngineSettings, engines, load
from prefixsim.errors import InputError, SettingError
from prefixsim.forest import Forest
from prefixsim.formats import read_trace
from prefixsim.routing import Router, RouterSettings, load_router
from prefixsim.routing.durations import read_scaling
from prefixsim.routing.traffic import compile_traffic, holds
from prefixsim.settings import build
from prefixsim.study.fleet_choice import combinations, delays, listed, pools_of, split_options
from prefixsim.study.fleet_result import FleetResult
from prefixsim.study.fleet_runs import FleetRun
from prefixsim.study.replay import forest_for, settled, with_tokens
from prefixsim.trace import Trace

__all__ = ["MOST_FLEETS", "fleet"]

MOST_FLEETS = 1000
DEFAULT_ROUTERS = ("round-robin", "least-loaded", "sglang-cache-aware", "dynamo", "llm-d")


@dataclass(frozen=True)
class _Plan:
    """What all runs of one call share."""

    trace: Trace
    forest: Forest
    traffic: _core.FleetTraffic
    engine: Engine
    settings: EngineSettings
    seed: int
    event_delay: int
    event_delay_ns: int
    scale: tuple[tuple[float, int], ...]
    pools: JsonObject = field(default_factory=dict)
    total_blocks: int | None = None

    def blocks(self, replicas: int) -> int | None:
        """Return the blocks of each replica."""
        return self.settings.blocks if self.total_blocks is None else self.total_blocks // replicas

    def fleet(self, replicas: int, *, scaled: bool = True) -> dict[str, Any]:
        """Return the settings of a fleet as the core takes them."""
        return {
            "replicas": replicas,
            "capacity": self.blocks(replicas),
            "block_size": self.settings.tokens_per_block,
            "seed": self.seed,
            "ties": "random",
            "event_delay": self.event_delay,
            "scaling": list(self.scale) if scaled else [],
            "seen": False,
            "index_after": [],
            "validate": False,
            "choices": None,
        }


def fleet(
    trace: Trace | str | Path,
    *,
    replicas: int | Sequence[int] = 4,
    router: Any = DEFAULT_ROUTERS,
    engine: str | Engine = "ideal",
    hold: int | str | Sequence[int] | None = None,
    scale: Any = None,
    event_delay: int | str = 0,
    decode_replicas: int | None = None,
    decode_router: str = "round-robin",
    decider: str = "always",
    total_blocks: int | None = None,
    seed: int = 0,
    characters_per_token: int = 4,
    model: str | None = None,
    cache_dir: str | Path | None = None,
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
        ``ideal``: each replica is an LRU cache, without time. ``vllm`` or ``sglang``: each is a
        whole engine, all on one clock.
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
    read = trace if isinstance(trace, Trace) else read_trace(trace)
    chosen = [load_router(r) for r in listed(router)]
    engine = load(engine)
    own, rest = split_options(options, chosen, engine)
    wanted = combinations(chosen, own)
    counts = [int(count) for count in listed(replicas)]
    if not counts or not wanted:
        msg = "no router and no replicas, give at least one of each"
        raise InputError(msg)
    if len(counts) * len(wanted) > MOST_FLEETS:
        msg = f"{len(counts) * len(wanted):,} runs are too many, give at most {MOST_FLEETS:,}"
        raise InputError(msg)
    for count in counts:
        if not 1 <= count <= 64:
            msg = f"replicas is {count}, give 1 to 64"
            raise SettingError(msg)
    pools = pools_of(decode_replicas, decode_router, decider)
    plan = _plan(
        read,
        engine,
        rest,
        hold=hold,
        scale=scale,
        event_delay=event_delay,
        seed=seed,
        characters_per_token=characters_per_token,
        text=(model, cache_dir),
        pools=pools,
        total_blocks=total_blocks,
    )
    runs: list[FleetRun] = []
    for count in counts:
        runs += _run(plan, count, wanted)
    config = {
        "engine": engine.name,
        "block_size": plan.settings.tokens_per_block,
        "num_blocks": plan.settings.blocks,
        "total_blocks": total_blocks,
        "seed": seed,
        "hold": hold if hold is None or isinstance(hold, int | str) else "given",
        "event_delay": event_delay,
        "scale": [list(change) for change in plan.scale],
        "sessions": "inferred" if plan.trace.session is None else "trace",
        **({} if read.kind == "text" else {"characters_per_token": characters_per_token}),
        **pools,
    }
    return FleetResult(plan.trace, config, runs)


def _plan(
    read: Trace,
    engine: Engine,
    options: Mapping[str, Any],
    *,
    hold: Any,
    scale: Any,
    event_delay: int | str,
    seed: int,
    characters_per_token: int,
    text: tuple[str | None, str | Path | None],
    pools: JsonObject,
    total_blocks: int | None,
) -> _Plan:
    trace = with_tokens(read, *text)
    settings = settled(trace, engine, options)
    if total_blocks is not None and (total_blocks < 64 or settings.blocks is not None):
        msg = f"total_blocks is {total_blocks}, give at least 64, and no num_blocks beside it"
        raise SettingError(msg)
    timed = engine.fleet is not None
    plain = settings.follows_lru_curve and settings.enable_caching and not settings.cache_outputs
    plain = plain and getattr(settings, "last_token_rule", True)
    if not timed and not (plain and not getattr(settings, "partial_blocks", False)):
        able = [e.name for e in engines().values() if e.fleet is not None]
        msg = (
            f"engine {engine.name!r} with these options is no replica: one without time is an LRU "
            f"cache of prompts, one with time is {' or '.join(able)}"
        )
        raise InputError(msg)
    forest = forest_for(trace, load("ideal").settings(cache_outputs=False))
    if not 0 <= seed < 2**64:
        msg = f"seed is {seed}, give a number of at least 0"
        raise SettingError(msg)
    if not 1 <= characters_per_token <= 1000:
        msg = f"characters_per_token is {characters_per_token}, give 1 to 1000"
        raise SettingError(msg)
    changes: tuple[tuple[float, int], ...] = ()
    if scale is not None:
        try:
            changes = read_scaling(scale)
        except ValueError as error:
            msg = f"scale is {scale!r}, {error}"
            raise SettingError(msg) from None
    start = float(trace.timestamp[0]) if len(trace) else 0.0
    changes = tuple((start + time, change) for time, change in changes)
    late = delays(event_delay, timed=timed)
    if pools and (timed or changes or any(late)):
        msg = "prefill and decode apart: without engines, scale and event_delay only"
        raise InputError(msg)
    traffic = compile_traffic(
        forest,
        holds(trace, 0 if timed else hold),
        texts=read.texts if read.kind == "text" else None,
        characters_per_token=characters_per_token,
    )
    return _Plan(
        trace, forest, traffic, engine, settings, seed, *late, changes, pools, total_blocks
    )


def _run(
    plan: _Plan, replicas: int, wanted: Sequence[tuple[Router, RouterSettings, JsonObject]]
) -> list[FleetRun]:
    """Run every router on so many replicas."""
    most = replicas + sum(max(change, 0) for _, change in plan.scale)
    specs = [router.spec(settings, most) for router, settings, _ in wanted]
    try:
        pooled = plan.traffic.pooled(plan.fleet(replicas, scaled=False))
        if plan.pools:
            raws = [_in_pools(plan, replicas, spec) for spec in specs]
        elif plan.engine.fleet is not None:
            raws = [_served(plan, replicas, spec, pooled) for spec in specs]
        else:
            raws = _routed(plan, replicas, specs, pooled)
    except InputError:
        raise
    except (ValueError, OverflowError) as error:
        msg = f"{plan.trace.name}: {error}"
        raise InputError(msg) from None
    best = int(pooled["hit_tokens"].sum(dtype=np.uint64))
    return [
        FleetRun(
            router.name,
            given,
            replicas,
            plan.blocks(replicas),
            plan.trace.prompt_tokens,
            raw.pop("fleet", raw),
            best,
            **{name: raw.pop(name) for name in ("times", "served", "more") if name in raw},
        )
        for (router, _, given), raw in zip(wanted, raws, strict=True)
    ]


def _is_pooled(spec: Any) -> bool:
    return isinstance(spec, dict) and spec["rule"] == "pooled"


def _routed(plan: _Plan, replicas: int, specs: Sequence[Any], pooled: Any) -> list[dict[str, Any]]:
    """Route over caches: rules of the core on all cores, others one after the other."""
    settings = plan.fleet(replicas)
    ours = [spec for spec in specs if isinstance(spec, dict) and not _is_pooled(spec)]
    done = iter(plan.traffic.route(ours, settings))
    still: Any = iter(())
    if plan.scale:
        still = iter(plan.traffic.route(ours, plan.fleet(replicas, scaled=False)))
    found: list[dict[str, Any]] = []
    for spec in specs:
        if _is_pooled(spec):
            found.append(dict(pooled))
        elif isinstance(spec, dict):
            raw: dict[str, Any] = dict(next(done))
            if plan.scale:
                raw["more"] = {"scaling": _cost(plan, raw, next(still))}
            found.append({"fleet": raw, "more": raw.pop("more", {})})
        else:
            found.append(dict(plan.traffic.route_by(spec, settings)))
    return found


def _cost(plan: _Plan, raw: Mapping[str, Any], still: Mapping[str, Any]) -> list[JsonObject]:
    """Say what each change of the fleet's size cost: hits against those without any change."""
    times, prompt = plan.trace.timestamp, plan.trace.prompt_len.astype(np.int64)
    ends = [time for time, _ in plan.scale[1:]] + [np.inf]
    start = float(times[0]) if len(times) else 0.0
    found = []
    for (time, change), end in zip(plan.scale, ends, strict=True):
        rows = slice(*np.searchsorted(times, [time, end]).tolist())
        tokens = int(prompt[rows].sum())
        hits, before = (int(r["hit_tokens"][rows].sum(dtype=np.uint64)) for r in (raw, still))
        moved = float(np.mean(raw["replica"][rows] != still["replica"][rows])) if tokens else 0.0
        found.append(
            {
                "time_s": time - start,
                "replicas": change,
                "token_hit_rate": hits / tokens if tokens else None,
                "token_hit_rate_unchanged": before / tokens if tokens else None,
                "hit_tokens_lost": before - hits,
                "requests_elsewhere": moved,
            }
        )
    return found


def _served(plan: _Plan, replicas: int, spec: Any, pooled: Any) -> dict[str, Any]:
    """Let engines serve the trace."""
    if _is_pooled(spec):
        return dict(pooled)
    given = {
        "traffic": plan.traffic,
        "router": spec,
        "settings": plan.fleet(replicas),
        "event_delay_ns": plan.event_delay_ns,
    }
    settings: Any = replace(plan.settings, num_blocks=plan.blocks(replicas))
    if getattr(settings, "arrivals", "trace") != "trace":
        msg = f"arrivals is {settings.arrivals!r}, replicas of a fleet take those of the trace"
        raise SettingError(msg)
    raw, times = plan.engine.serve_fleet(plan.forest, settings, given)
    return {"fleet": raw["fleet"], "served": raw["requests"], "times": times}


def _in_pools(plan: _Plan, replicas: int, spec: Any) -> dict[str, Any]:
    """Route over a prefill and a decode pool."""
    pools = plan.pools
    if not isinstance(spec, dict) or _is_pooled(spec):
        msg = "prefill and decode apart: with routers of the core only"
        raise InputError(msg)
    decode = load_router(pools["decode_router"])
    count = pools["decode_replicas"]
    to = decode.spec(build(decode.settings, {}), count)
    if not isinstance(to, dict):
        msg = "prefill and decode apart: with routers of the core only"
        raise InputError(msg)
    done = plan.traffic.disaggregate(
        spec, to, plan.fleet(replicas), plan.fleet(count), pools["decider"]
    )
    remote = np.asarray(done["remote"], np.bool_)
    hits: npt.NDArray[np.uint32] = done["hit_tokens"]
    raw = dict(done["prefill"])
    return {
        "fleet": raw,
        "served": {"hit_tokens": hits},
        "more": {
            "remote_requests": int(remote.sum()),
            "decode_requests_per_replica": done["decode_requests"],
            "decode_computed_tokens_per_replica": done["decode_computed_tokens"],
        },
    }
