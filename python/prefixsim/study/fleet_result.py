"""Routers side by side: tables, one line of advice, charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefixsim import _json
from prefixsim._json import JsonObject
from prefixsim.routing import load_router, router_names
from prefixsim.study.fleet_runs import CAUSES, FleetRun
from prefixsim.table import Table, html, written
from prefixsim.trace import Trace
from prefixsim.trace.provenance import provenance, trace_facts

if TYPE_CHECKING:
    import altair as alt

__all__ = ["FleetResult"]

_BALANCED = 1.2
_WORTH_SAYING = 0.0005
_BUSY = ("requests", "tokens")
_REFERENCES = ("greedy", "work-oracle", "pooled")


@dataclass(frozen=True, eq=False, repr=False)
class FleetResult:
    """What routers did with a trace.

    Attributes
    ----------
    trace : Trace
    config : dict
        What all runs share.
    runs : list of FleetRun
        One per router, its settings and number of replicas.
    """

    trace: Trace
    config: JsonObject
    runs: list[FleetRun]

    def __repr__(self) -> str:
        return f"<FleetResult of {self.trace.name}: {len(self.runs)} runs>"

    def _repr_html_(self) -> str:
        return html(self.tables())

    def to_dict(self) -> JsonObject:
        """Return trace, provenance and every run; plain values."""
        origin = provenance(self.trace, self.config)
        facts = trace_facts(self.trace, origin["digest"])
        runs = [run.to_dict() for run in self.runs]
        return {"trace": facts, "provenance": origin, "runs": runs, "advice": self.advice}

    def to_json(self) -> str:
        """Return :meth:`to_dict` as JSON."""
        return _json.dumps(self.to_dict())

    @property
    def description(self) -> str:
        """The configuration in words."""
        config = self.config
        words = [f"engine {config['engine']}", f"block size {config['block_size']}"]
        if config["sessions"] == "inferred":
            words.append("sessions inferred")
        if config["event_delay"] not in (0, "0"):
            words.append(f"cache events late by {config['event_delay']}")
        if "decode_replicas" in config:
            words.append(
                f"{config['decode_replicas']} decode replicas by {config['decode_router']}, "
                f"remote prefill: {config['decider']}"
            )
        return " · ".join(words)

    def tables(self) -> list[Table]:
        """Return the figures as tables, one for each number of replicas."""
        counts = dict.fromkeys(run.replicas for run in self.runs)
        found = [self._table(count) for count in counts]
        if self.config["scale"]:
            found.append(self._scaling())
        if "decode_replicas" in self.config:
            found.append(self._pools())
        return found

    def _pools(self) -> Table:
        rows = [
            [
                run.label,
                written(run.summary["remote_requests"] / max(run.summary["requests"], 1), "rate"),
                *(written(run.summary[f"decode_imbalance_{what}"], "number") for what in _BUSY),
            ]
            for run in self.runs
        ]
        header = ["router", "prefill remote", "requests", "tokens computed"]
        return Table("decode pool", header, rows)

    def _table(self, replicas: int) -> Table:
        runs = [run for run in self.runs if run.replicas == replicas]
        timed = any("ttft_s" in run.times for run in runs)
        header = ["router", "hit rate", "of pooled", "best", "regret"]
        header += [*CAUSES, "requests", "tokens"]
        header += ["TTFT P50 (s)", "P99"] if timed else ["copies"]
        size = runs[0].num_blocks
        each = "no limit" if size is None else f"{size:,} blocks each"
        title = f"{self.trace.name}: {replicas} replicas · {each} · {self.description}"
        return Table(title, header, [self._row(run, timed) for run in runs])

    def _row(self, run: FleetRun, timed: bool) -> list[str]:
        summary = run.summary
        prompt = run.prompt_tokens or 1
        row = [
            run.label,
            written(summary["token_hit_rate"], "rate"),
            written(summary["share_of_pooled"], "rate"),
            written(summary["best_replica_hit_rate"], "rate"),
            written(summary["regret_rate"], "rate"),
        ]
        causes = summary["regret_by_cause"]
        row += [written(causes[cause]["tokens"] / prompt, "rate") for cause in CAUSES]
        row += [written(summary[f"imbalance_{what}"], "number") for what in ("requests", "tokens")]
        if not timed:
            return [*row, written(summary.get("replication_factor"), "number")]
        ttft = summary.get("ttft_s") or {}
        return [*row, *(written(ttft.get(name), "latency") for name in ("median", "p99"))]

    def _scaling(self) -> Table:
        rows = [
            [
                run.label,
                f"{change['time_s']:,.0f} s",
                f"{change['replicas']:+d}",
                written(change["token_hit_rate"], "rate"),
                written(change["token_hit_rate_unchanged"], "rate"),
                written(change["hit_tokens_lost"], "count"),
                written(change["requests_elsewhere"], "rate"),
            ]
            for run in self.runs
            for change in run.summary.get("scaling", ())
        ]
        header = ["router", "at", "replicas", "hit rate after", "without", "tokens lost", "moved"]
        return Table("after each change of the fleet, to the next", header, rows)

    @property
    def best(self) -> FleetRun | None:
        """The router to take, references left out.

        With time, the one with the shortest TTFT (P99, then P50); else the one whose busiest
        replica has the fewest prompt tokens to compute.
        """
        runs = [run for run in self.runs if run.router not in _REFERENCES]
        if not runs:
            return None
        most = max(run.replicas for run in runs)
        runs = [run for run in runs if run.replicas == most]
        if any(run.times for run in runs):
            return min(runs, key=_waiting)
        return min(runs, key=lambda run: max(run.summary["computed_tokens_per_replica"]))

    @property
    def advice(self) -> str:
        """One line: which router, what it leaves, and where that goes."""
        best = self.best
        if best is None:
            return "these are references that nobody can build: add a router"
        summary = best.summary
        parts = [
            f"{best.label} serves {summary['token_hit_rate']:.1%} of the prompt tokens from caches"
        ]
        if summary["share_of_pooled"] is not None:
            parts.append(f"{summary['share_of_pooled']:.0%} of what one shared cache would")
        text = ", ".join(parts)
        if summary["imbalance_tokens"] > _BALANCED:
            busiest = summary["imbalance_tokens"]
            text += f"; its busiest replica computes {busiest:.2f}x the mean"
        if summary["regret_rate"] >= _WORTH_SAYING:
            causes = summary["regret_by_cause"]
            main = max(CAUSES, key=lambda cause: causes[cause]["tokens"])
            share = causes[main]["tokens"] / summary["regret_tokens"]
            missed = f"{summary['regret_rate']:.1%} was cached elsewhere"
            text += f"; {missed}, {share:.0%} of it {_SAID[main]}"
            knob = load_router(best.router).knob if best.router in router_names() else ""
            if main == "load" and knob:
                text += f" (its knob is {knob})"
        return text

    def charts(self) -> dict[str, alt.TopLevelMixin]:
        """Return the charts that these runs can fill, by name; needs the extra ``report``."""
        from prefixsim.charts.fleet import fleet_charts

        return fleet_charts([_plain(run) for run in self.runs], self.trace.name)

    def plot(self) -> alt.TopLevelMixin:
        """Return the chart of balance against hit rate; needs the extra ``report``."""
        from prefixsim.charts.fleet import balance_chart

        return balance_chart([_plain(run) for run in self.runs], self.trace.name)


def _waiting(run: FleetRun) -> tuple[float, float, int]:
    """Return what a router with time is judged by."""
    ttft = run.summary["ttft_s"]
    return ttft["p99"], ttft["median"], max(run.summary["computed_tokens_per_replica"])


_SAID = {
    "load": "given up for balance",
    "missing": "unknown to the router",
    "stale": "for replicas that no longer held what it believed",
    "tie": "between replicas that looked alike",
}


def _plain(run: FleetRun) -> JsonObject:
    """Return what charts need of a run."""
    summary = run.summary
    knob = load_router(run.router).knob if run.router in router_names() else ""
    return {
        "router": run.router,
        "label": run.label,
        "knob": knob if knob in run.settings else "",
        "value": run.settings.get(knob) if knob else None,
        "replicas": run.replicas,
        "num_blocks": run.num_blocks,
        "reference": run.router in _REFERENCES,
        **{
            name: summary[name]
            for name in ("token_hit_rate", "regret_rate", "imbalance_tokens", "imbalance_requests")
        },
    }
