"""The search for plans: fleets of servers run on a trace until they keep up, and some more."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil

import numpy as np

from prefixsim.hardware.latency import Latency
from prefixsim.hardware.load_costs import prefill_seconds
from prefixsim.routing import load_router
from prefixsim.settings import build
from prefixsim.study.fleet_plan import Plan as FleetPlan
from prefixsim.study.fleet_plan import run_all
from prefixsim.study.fleet_runs import FleetRun
from prefixsim.study.overload import Overload, overload_of
from prefixsim.study.plan_inputs import Level

__all__ = ["MOST_REPLICAS", "Run", "search"]

MOST_REPLICAS = 64
_ROUNDS = 6


@dataclass(frozen=True, eq=False)
class Run:
    """One fleet on the trace.

    Attributes
    ----------
    replicas : int
    router : str
    fleet : FleetRun
    overload : Overload or None
    """

    replicas: int
    router: str
    fleet: FleetRun
    overload: Overload | None

    def meets(self, levels: Sequence[Level]) -> bool:
        """Whether it keeps up, and within every bound."""
        times = self.fleet.times
        return self.overload is None and all(
            level.reached(times) <= level.seconds for level in levels
        )


class _Fleets:
    """Fleets of one kind of server, each run once."""

    def __init__(self, plan: FleetPlan) -> None:
        self.plan = plan
        self.runs: dict[tuple[int, str], Run] = {}

    def get(self, wanted: Sequence[tuple[int, str]]) -> list[Run]:
        """Run what was not run yet, side by side, and return all."""
        new = [key for key in dict.fromkeys(wanted) if key not in self.runs]
        with ThreadPoolExecutor(max_workers=2) as pool:
            for key, run in zip(new, pool.map(lambda key: self._run(*key), new), strict=True):
                self.runs[key] = run
        return [self.runs[key] for key in wanted]

    def _run(self, replicas: int, router: str) -> Run:
        chosen = load_router(router)
        (found,) = run_all(self.plan, replicas, [(chosen, build(chosen.settings, {}), {})])
        over = overload_of(self.plan.trace.timestamp, found.times, replicas)
        return Run(replicas, router, found, over)


def search(
    plan: FleetPlan, latency: Latency, routers: Sequence[str], levels: Sequence[Level]
) -> list[Run]:
    """Find the fewest replicas that keep up (and within the bounds), and run some beside them.

    Parameters
    ----------
    plan : FleetPlan
        The servers and the trace.
    latency : Latency
    routers : sequence of str
    levels : sequence of Level

    Returns
    -------
    list of Run
        By replicas. Also the ones that do not keep up, which say what a step down would do.
    """
    fleets = _Fleets(plan)
    count = _first(plan, latency)
    best = routers[0]
    for _ in range(_ROUNDS):
        tried = routers if count > 1 else routers[:1]  # one replica is one replica
        runs = fleets.get([(count, router) for router in tried])
        runs.sort(key=lambda run: (run.overload is not None, -run.fleet.token_hit_rate))
        best = runs[0].router
        if runs[0].meets(levels) or count == MOST_REPLICAS:
            break
        over = runs[0].overload
        more = over.stable_from if over is not None else ceil(count * 1.5)
        count = min(MOST_REPLICAS, max(more, count + 1))
    while count > 1:
        (below,) = fleets.get([(count - 1, best)])
        if not below.meets(levels):
            break
        count -= 1
    up = sorted({min(MOST_REPLICAS, n) for n in (ceil(count * 1.5), count * 2)} - {count})
    fleets.get([(count, best), *((n, best) for n in up)])
    return sorted(fleets.runs.values(), key=lambda run: (run.replicas, run.router))


def _first(plan: FleetPlan, latency: Latency) -> int:
    """Guess how many replicas computing the prompts takes, without any hit."""
    trace = plan.trace
    span = float(trace.timestamp[-1] - trace.timestamp[0]) if len(trace) > 1 else 0.0
    if span <= 0:
        return 1
    lengths = np.quantile(trace.prompt_len, np.linspace(0.05, 0.95, 10)).astype(int)
    each = float(np.mean([prefill_seconds(latency, 0, int(n)) for n in lengths]))
    return int(np.clip(ceil(each * len(trace) / span), 1, MOST_REPLICAS))
