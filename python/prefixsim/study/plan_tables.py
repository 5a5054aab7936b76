"""Tables of plans: a verdict, the plans worth having, what a step up or down changes."""

from __future__ import annotations

from prefixsim.study.overload import people_seconds
from prefixsim.study.plan_inputs import GIB
from prefixsim.study.plan_result import Plan, Plans
from prefixsim.table import Table, written

__all__ = ["plan_tables", "verdict"]


def plan_tables(plans: Plans) -> list[Table]:
    """Return the verdict and plans, steps, DRAM, what was taken as given, and the commands."""
    shown = plans.worth_having
    tables = [_plans(plans, shown)]
    if shown:
        tables.append(_steps(plans, shown))
    if len(plans.dram) > 1:
        tables.append(_dram(plans))
    tables.append(Table("", ["taken as given", ""], _given(plans), words=2))
    rows = [[_name(p), p.command] for p in shown]
    rows += [[f"{d.gib:,.0f} GiB DRAM", d.command] for d in plans.dram]
    return [*tables, Table("", ["the same again", ""], rows, words=2)]


def verdict(plans: Plans) -> str:
    """Say in one or two sentences what to take, and what it gives."""
    best, trace = plans.best, plans.trace
    span = float(trace.timestamp[-1] - trace.timestamp[0]) if len(trace) > 1 else 0.0
    rate = f"{len(trace) / span:.3g} requests/s" if span > 0 else f"{len(trace):,} requests"
    if best is None:
        most = plans.runs[-1]
        return f"No fleet that was run keeps up with {rate}. {_name(most)}: {most.run.overload}."
    level = ", ".join(f"{lv.name} {people_seconds(lv.seconds)}" for lv in plans.levels)
    told = (
        f"{_name(best)} keep up with {rate}: TTFT {_time(plans, best, 'ttft_s', 'median')} "
        f"(P99 {_time(plans, best, 'ttft_s', 'p99')}), {written(best.hit_rate, 'rate')} of the "
        "prompt tokens from cache."
    )
    if plans.levels and not best.meets:
        return f"No fleet that was run is within {level}. {told}"
    return f"{told} It is within {level}." if plans.levels else told


def _name(plan: Plan) -> str:
    each = plan.memory.tensor_parallel
    servers = f"{plan.replicas} x {each}" if each > 1 else f"{plan.replicas}"
    return f"{servers} {plan.gpu}, {plan.run.router}"


def _time(plans: Plans, plan: Plan, column: str, statistic: str) -> str:
    mark = "~" if plans.estimate else ""
    return mark + people_seconds(plan.seconds(column, statistic))


def _dollars(value: float | None) -> str:
    if value is None:
        return "-"
    return f"${value:,.2f}" if value >= 1 else f"${value:,.4f}"


def _plans(plans: Plans, shown: list[Plan]) -> Table:
    rows, notes = [], []
    for p in shown:
        cost = p.cost_per_hour
        rows.append(
            [
                _name(p),
                f"{p.gpus:,}",
                f"{p.memory.kv / GIB:,.1f}",
                written(p.hit_rate, "rate"),
                *(_time(plans, p, "ttft_s", s) for s in ("median", "p99")),
                _time(plans, p, "tpot_s", "median"),
                written(p.goodput, "number"),
                f"{p.saved_gpu_s_per_hour:,.0f}",
                _dollars(None if cost is None else float(cost)),
                _dollars(p.cost_per_million),
            ]
        )
        notes.append(("within the levels" if p.meets else "beyond them") if plans.levels else "")
    header = [
        "plan", "GPUs", "KV GiB/GPU", "hit rate", "TTFT P50", "P99", "TPOT P50", "goodput/s",
        "GPU-s saved/h", "$/h", "$/M prompt",
    ]  # fmt: skip
    kind = " (~ is an estimate)" if plans.estimate else ""
    title = f"{plans.trace.name}, {plans.model}{kind}\n{verdict(plans)}"
    return Table(title, header, rows, notes if any(notes) else ())


def _steps(plans: Plans, shown: list[Plan]) -> Table:
    rows = []
    for p in shown:
        for up in (False, True):
            other = plans.step(p, up)
            if other is not None:
                rows.append(
                    [_name(p), "up" if up else "down", _name(other), _change(plans, p, other)]
                )
    return Table("", ["plan", "step", "to", "what changes"], rows, words=4)


def _change(plans: Plans, plan: Plan, other: Plan) -> str:
    if other.run.overload is not None:
        return str(other.run.overload)
    told = [
        f"TTFT P99 {_time(plans, plan, 'ttft_s', 'p99')} to {_time(plans, other, 'ttft_s', 'p99')}",
        f"hit rate {written(plan.hit_rate, 'rate')} to {written(other.hit_rate, 'rate')}",
    ]
    a, b = plan.cost_per_hour, other.cost_per_hour
    if a is not None and b is not None:
        told.append(f"{'+' if b >= a else '-'}{_dollars(float(abs(b - a)))} an hour")
    return ", ".join(told)


def _dram(plans: Plans) -> Table:
    best = plans.best
    assert best is not None
    gpu = best.price
    rows, notes = [], []
    for d in plans.dram:
        worth = None if gpu is None else float(gpu) * d.saved_gpu_s_per_hour / 3600
        cost = None if d.cost_per_hour is None else float(d.cost_per_hour)
        rows.append(
            [f"{d.gib:,.0f} GiB", f"{d.num_blocks:,}", written(d.hit_rate, "rate"),
             f"~{d.saved_gpu_s_per_hour:,.0f}", _dollars(worth), _dollars(cost)]
        )  # fmt: skip
        pays = worth is not None and cost is not None and d.gib > 0
        notes.append(("pays" if (worth or 0) > (cost or 0) else "does not pay") if pays else "")
    header = ["DRAM per replica", "blocks", "hit rate", "GPU-s saved/h", "worth $/h", "costs $/h"]
    title = (
        f"DRAM below {_name(best)}: hits of prompts without time, exclusive; GPU-seconds beyond "
        "those that HBM alone saves, loading not counted"
    )
    return Table(title, header, rows, notes if any(notes) else ())


def _given(plans: Plans) -> list[list[str]]:
    found = []
    for p in {p.memory.tensor_parallel: p for p in plans.runs}.values():
        m = p.memory
        found.append(
            [f"memory of each {p.gpu}",
             f"estimate: {m.weights / GIB:,.1f} GiB weights, {m.overhead / GIB:,.1f} GiB for "
             f"activations, graphs and communication, {m.kv / GIB:,.1f} GiB KV of 90 % of the GPU; "
             f"{m.tensor_parallel} GPUs a replica"]
        )  # fmt: skip
    latency = plans.latency
    if plans.estimate:
        told = (
            f"estimate: a roofline that reaches {latency['compute_efficiency']:.0%} of the peak "
            f"FLOP/s, {latency['memory_efficiency']:.0%} of the bandwidth, and "
            f"{latency['overhead'] * 1000:g} ms a step; --calibrate fits it to measured steps"
        ).replace("%", " %")
    else:
        quality = latency.get("r_squared")
        known = "" if quality is None else f", R² {quality:.3f}"
        told = f"fitted to {latency.get('steps', 0):,} measured steps{known}"
    found.append(["times", told])
    if plans.prices.source:
        found.append(["prices", f"{plans.prices.source}, $ an hour"])
    return found
