"""Running fleets: what all runs of one call share, and each router on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from prefixsim import _core
from prefixsim._json import JsonObject
from prefixsim.engines import Engine, EngineSettings, engines
from prefixsim.errors import InputError, SettingError
from prefixsim.forest import Forest
from prefixsim.routing import Router, RouterSettings, RoutingRule, load_router
from prefixsim.routing.contract import Spec
from prefixsim.routing.traffic import compile_traffic, holds
from prefixsim.settings import build
from prefixsim.study.fleet_choice import Asked
from prefixsim.study.fleet_runs import FleetRun
from prefixsim.study.replay import forest_for, settled, with_tokens
from prefixsim.trace import Trace

__all__ = ["Plan", "plan_of", "run_all"]


@dataclass(frozen=True)
class Plan:
    """What all runs of one call share."""

    trace: Trace
    read: Trace
    forest: Forest
    traffic: _core.FleetTraffic
    engine: Engine
    settings: EngineSettings
    asked: Asked
    config: JsonObject
    late: tuple[int, int]
    scale: tuple[tuple[float, int], ...]

    def __getstate__(self) -> JsonObject:
        """Return what a pickle keeps, of which the traffic is made again."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "traffic"}

    def __setstate__(self, state: JsonObject) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        traffic = _traffic(self.trace, self.read, self.forest, self.engine, self.asked)
        object.__setattr__(self, "traffic", traffic)

    @property
    def pools(self) -> JsonObject:
        """What is said of a decode pool; nothing if there is none."""
        return self.asked.pools

    def blocks(self, replicas: int) -> int | None:
        """Return the blocks of each replica."""
        total = self.asked.total_blocks
        return self.settings.blocks if total is None else total // replicas

    def most_at_once(self, replicas: int) -> int:
        """Return the most replicas there are at one time, those of a decode pool counted."""
        counts = accumulate((change for _, change in self.scale), initial=replicas)
        most: int = max(counts) + self.pools.get("decode_replicas", 0)
        return most

    def fleet(self, replicas: int, *, scaled: bool = True) -> JsonObject:
        """Return the settings of a fleet as the core takes them."""
        return {
            "replicas": replicas,
            "capacity": self.blocks(replicas),
            "block_size": self.settings.tokens_per_block,
            "seed": self.asked.seed,
            "ties": "random",
            "event_delay": self.late[0],
            "scaling": list(self.scale) if scaled else [],
            "seen": False,
            "index_after": [],
            "validate": False,
            "choices": None,
        }


def plan_of(read: Trace, engine: Engine, options: Mapping[str, object], asked: Asked) -> Plan:
    """Compile a trace for all runs of one call.

    Raises
    ------
    InputError
        If something asked for is not usable, or the engine can be no replica.
    """
    trace = with_tokens(read, asked.model, asked.cache_dir)
    settings = settled(trace, engine, options)
    if asked.total_blocks is not None and settings.blocks is not None:
        msg = f"total_blocks is {asked.total_blocks}, and no num_blocks beside it"
        raise SettingError(msg)
    timed = engine.fleet is not None
    if timed and getattr(settings, "arrivals", "trace") != "trace":
        msg = "arrivals: replicas of a fleet take those of the trace"
        raise SettingError(msg)
    if not timed and not _plain(settings):
        able = [e.name for e in engines().values() if e.fleet is not None]
        msg = (
            f"engine {engine.name!r} with these options is no replica: one without time is an LRU "
            f"cache of prompts, one with time is {' or '.join(able)}"
        )
        raise InputError(msg)
    changes, late = asked.changes(), asked.delays(timed=timed)
    if asked.pools and (timed or changes or any(late)):
        msg = "prefill and decode apart: without engines, scale and event_delay only"
        raise InputError(msg)
    forest = forest_for(trace, EngineSettings(cache_outputs=False))
    traffic = _traffic(trace, read, forest, engine, asked)
    config = {
        "engine": engine.name,
        "block_size": settings.tokens_per_block,
        "num_blocks": settings.blocks,
        **asked.config(),
        "sessions": "inferred" if trace.session is None else "trace",
    }
    if read.kind != "text":
        config["characters_per_token"] = asked.characters_per_token
    start = float(trace.timestamp[0]) if len(trace) else 0.0
    changes = tuple((start + time, change) for time, change in changes)
    return Plan(trace, read, forest, traffic, engine, settings, asked, config, late, changes)


def _traffic(
    trace: Trace, read: Trace, forest: Forest, engine: Engine, asked: Asked
) -> _core.FleetTraffic:
    """Return the traffic as routers see it."""
    return compile_traffic(
        forest,
        holds(trace, 0 if engine.fleet is not None else asked.hold),
        texts=read.texts if read.kind == "text" else None,
        characters_per_token=asked.characters_per_token,
    )


def _plain(settings: EngineSettings) -> bool:
    """Whether an engine without time is, with these settings, the LRU cache that replicas are."""
    odd = not getattr(settings, "last_token_rule", True) or getattr(
        settings, "partial_blocks", False
    )
    lru = settings.follows_lru_curve and settings.enable_caching and not settings.cache_outputs
    return lru and not odd


def run_all(
    plan: Plan, replicas: int, wanted: Sequence[tuple[Router, RouterSettings, JsonObject]]
) -> list[FleetRun]:
    """Run every router on so many replicas."""
    most = replicas + sum(max(change, 0) for _, change in plan.scale)
    specs = [router.spec(settings, most) for router, settings, _ in wanted]
    try:
        whole = plan.fleet(replicas, scaled=False)
        whole["replicas"] = plan.most_at_once(replicas)
        pooled: JsonObject = {**plan.traffic.pooled(whole)}
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


def _is_pooled(spec: Spec | RoutingRule) -> bool:
    return isinstance(spec, dict) and spec["rule"] == "pooled"


def _routed(
    plan: Plan, replicas: int, specs: Sequence[Spec | RoutingRule], pooled: JsonObject
) -> list[JsonObject]:
    """Route over caches: rules of the core on all cores, others one after the other."""
    settings = plan.fleet(replicas)
    ours = [spec for spec in specs if isinstance(spec, dict) and not _is_pooled(spec)]
    done = iter(plan.traffic.route(ours, settings))
    still: Iterator[JsonObject] = iter(())
    if plan.scale:
        unscaled = plan.traffic.route(ours, plan.fleet(replicas, scaled=False))
        still = iter([{**run} for run in unscaled])
    found: list[JsonObject] = []
    for spec in specs:
        if _is_pooled(spec):
            found.append(dict(pooled))
        elif isinstance(spec, dict):
            raw: JsonObject = dict(next(done))
            if plan.scale:
                raw["more"] = {"scaling": _cost(plan, raw, next(still))}
            found.append({"fleet": raw, "more": raw.pop("more", {})})
        else:
            found.append(dict(plan.traffic.route_by(spec, settings)))
    return found


def _cost(plan: Plan, raw: JsonObject, still: JsonObject) -> list[JsonObject]:
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


def _served(plan: Plan, replicas: int, spec: Spec | RoutingRule, pooled: JsonObject) -> JsonObject:
    """Let engines serve the trace."""
    if _is_pooled(spec):
        return dict(pooled)
    given = {
        "traffic": plan.traffic,
        "router": spec,
        "settings": plan.fleet(replicas),
        "event_delay_ns": plan.late[1],
    }
    settings = replace(plan.settings, num_blocks=plan.blocks(replicas))
    raw, times = plan.engine.serve_fleet(plan.forest, settings, given)
    return {"fleet": raw["fleet"], "served": raw["requests"], "times": times}


def _in_pools(plan: Plan, replicas: int, spec: Spec | RoutingRule) -> JsonObject:
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
