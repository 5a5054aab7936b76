"""What plans say: fleets that were run, the ones worth having, what DRAM would add."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.stats import distribution
from prefixsim.study.plan_inputs import Level, MachinePrices, Memory
from prefixsim.study.plan_search import Run
from prefixsim.table import html
from prefixsim.trace import Trace
from prefixsim.trace.provenance import provenance, trace_facts

__all__ = ["DramPlan", "Plan", "Plans", "saved_gpu_seconds", "span_of"]


@dataclass(frozen=True, eq=False)
class Plan:
    """One fleet that was run on the trace.

    Attributes
    ----------
    run : Run
        What came of it.
    memory : Memory
        Of each GPU.
    gpu : str
    trace : Trace
    rate : float
        Prompt tokens that a replica computes in a second.
    levels : tuple of Level
    price : Decimal or None
        Of a GPU, in $ an hour.
    command : str
        Runs the same fleet.
    """

    run: Run
    memory: Memory
    gpu: str
    trace: Trace
    rate: float
    levels: tuple[Level, ...]
    price: Decimal | None
    command: str

    @property
    def replicas(self) -> int:
        """Servers."""
        return self.run.replicas

    @property
    def gpus(self) -> int:
        """GPUs of all servers."""
        return self.run.replicas * self.memory.tensor_parallel

    @property
    def meets(self) -> bool:
        """Whether it keeps up and is within the service levels."""
        return self.run.meets(self.levels)

    @property
    def hit_rate(self) -> float:
        """Prompt tokens from a cache over all prompt tokens."""
        return self.run.fleet.token_hit_rate

    def seconds(self, column: str, statistic: str) -> float:
        """Return a statistic (``median``, ``p99``...) of ``ttft_s`` and the like."""
        values = self.run.fleet.times[column]
        found = distribution(values[np.isfinite(values)])[statistic]
        return float("nan") if found is None else float(found)

    @property
    def goodput(self) -> float | None:
        """Requests a second within every bound of the service levels; ``None`` without any."""
        span = span_of(self.trace)
        if not self.levels or span <= 0:
            return None
        good = np.ones(len(self.trace), dtype=bool)
        for level in self.levels:
            values = self.run.fleet.times[level.column]
            good &= ~(values > level.seconds)
        return float(good.sum()) / span

    @property
    def saved_gpu_s_per_hour(self) -> float:
        """GPU-seconds of prefill that hits save in an hour of the trace."""
        hits = int(self.run.fleet.hit_tokens.sum(dtype=np.uint64))
        return saved_gpu_seconds(hits, self.rate, self.memory.tensor_parallel, self.trace)

    @property
    def cost_per_hour(self) -> Decimal | None:
        """In $; ``None`` without a price of the GPU."""
        return None if self.price is None else self.price * self.gpus

    @property
    def cost_per_million(self) -> float | None:
        """In $ per million prompt tokens."""
        cost, span = self.cost_per_hour, span_of(self.trace)
        if cost is None or not self.trace.prompt_tokens:
            return None
        return float(cost) * span / 3600 / (self.trace.prompt_tokens / 1e6)

    def to_dict(self) -> JsonObject:
        """Return the figures under machine-readable names; money as decimal text."""
        over = self.run.overload
        return {
            "gpu": self.gpu,
            "gpus": self.gpus,
            "replicas": self.replicas,
            "router": self.run.router,
            "memory": self.memory.to_dict(),
            "token_hit_rate": self.hit_rate,
            "ttft_s": {s: self.seconds("ttft_s", s) for s in ("median", "p99")},
            "tpot_s": {s: self.seconds("tpot_s", s) for s in ("median", "p99")},
            "overload": None if over is None else over.to_dict(),
            "meets_slo": self.meets,
            "goodput_per_s": self.goodput,
            "prefill_gpu_s_saved_per_hour": self.saved_gpu_s_per_hour,
            "cost_per_hour": None if self.cost_per_hour is None else str(self.cost_per_hour),
            "cost_per_million_prompt_tokens": self.cost_per_million,
            "command": self.command,
        }


@dataclass(frozen=True)
class DramPlan:
    """DRAM below the GPUs of a plan: what each replica's cache would hit with it.

    Requests go one after the other, without time; a cache of HBM and DRAM that share nothing
    (exclusive) hits what one LRU cache of both sizes does.

    Attributes
    ----------
    gib : float
        Of each replica; 0: none.
    num_blocks : int
        Blocks of HBM and DRAM together.
    hit_rate : float
    saved_gpu_s_per_hour : float
        GPU-seconds of prefill an hour that its hits save beyond those of HBM alone.
    cost_per_hour : Decimal or None
        Of the DRAM of all replicas, in $.
    command : str
    """

    gib: float
    num_blocks: int
    hit_rate: float
    saved_gpu_s_per_hour: float
    cost_per_hour: Decimal | None
    command: str

    def to_dict(self) -> JsonObject:
        """Return the figures under machine-readable names; money as decimal text."""
        cost = None if self.cost_per_hour is None else str(self.cost_per_hour)
        return {**vars(self), "cost_per_hour": cost, "estimate": True}


@dataclass(frozen=True, eq=False)
class Plans:
    """Plans for a trace and a model.

    Attributes
    ----------
    trace : Trace
    model : str
    latency : dict
        What the times come from; ``estimate`` if it is a roofline.
    levels : tuple of Level
    runs : list of Plan
        Every fleet that was run, by GPUs.
    dram : list of DramPlan
        What DRAM would add to the first plan worth having; the first has none.
    config : dict
        What was asked for.
    prices : MachinePrices
    """

    trace: Trace
    model: str
    latency: JsonObject
    levels: tuple[Level, ...]
    runs: list[Plan]
    dram: list[DramPlan]
    config: JsonObject
    prices: MachinePrices

    @property
    def estimate(self) -> bool:
        """Whether times come from a roofline."""
        return bool(self.latency.get("estimate"))

    @property
    def worth_having(self) -> list[Plan]:
        """Plans that keep up and that no other one beats in GPUs, TTFT P99 and hit rate."""
        stable = [p for p in self.runs if p.run.overload is None]

        def beaten(one: Plan, other: Plan) -> bool:
            a = (one.gpus, one.seconds("ttft_s", "p99"), -one.hit_rate)
            b = (other.gpus, other.seconds("ttft_s", "p99"), -other.hit_rate)
            return all(y <= x for x, y in zip(a, b, strict=True)) and a != b

        return [p for p in stable if not any(beaten(p, other) for other in stable)]

    @property
    def best(self) -> Plan | None:
        """The fewest GPUs that keep up, within the service levels if any plan is."""
        good = [p for p in self.worth_having if p.meets] or self.worth_having
        return min(good, key=lambda p: (p.gpus, -p.hit_rate), default=None)

    def step(self, plan: Plan, up: bool) -> Plan | None:
        """Return the next fleet that was run with more GPUs, or with fewer."""
        others = [p for p in self.runs if (p.gpus > plan.gpus if up else p.gpus < plan.gpus)]
        same = [p for p in others if p.run.router == plan.run.router] or others
        return (min if up else max)(same, key=lambda p: p.gpus, default=None)

    def to_dict(self) -> JsonObject:
        """Return trace, provenance, plans and runs; plain values."""
        origin = provenance(self.trace, self.config)
        best = self.best
        return {
            "trace": trace_facts(self.trace, origin["digest"]),
            "provenance": origin,
            "model": self.model,
            "latency": self.latency,
            "estimate": self.estimate,
            "slo": {level.name: level.seconds for level in self.levels},
            "prices": self.prices.source or None,
            "best": None if best is None else best.command,
            "plans": [p.to_dict() for p in self.worth_having],
            "runs": [p.to_dict() for p in self.runs],
            "dram": [d.to_dict() for d in self.dram],
        }

    def _repr_html_(self) -> str:
        from prefixsim.study.plan_tables import plan_tables

        return html(plan_tables(self))


def span_of(trace: Trace) -> float:
    """Return the seconds from the first arrival to the last."""
    return float(trace.timestamp[-1] - trace.timestamp[0]) if len(trace) > 1 else 0.0


def saved_gpu_seconds(tokens: int, rate: float, gpus: int, trace: Trace) -> float:
    """Return the GPU-seconds that computing tokens takes, in an hour of the trace."""
    span = span_of(trace)
    return tokens / rate * gpus / span * 3600 if span > 0 else 0.0
