"""The report of routers: one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from prefixsim._core import __version__
from prefixsim._files import atomic_write
from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.reports.figures import Figure
from prefixsim.reports.frame import drawn, framed, section, tabled
from prefixsim.study.fleet_result import FleetResult
from prefixsim.table import Table

__all__ = ["fleet_html", "write_fleet_report"]

_SAID = {
    "balance": (
        "Balance against hits",
        "Each point is a router: to the left is even, up is more hits. Dashed: what no other "
        "router that can be built beats in both.",
    ),
    "replicas": ("Hits against replicas", "Token hit rate for each number of replicas."),
    "regret_by_knob": (
        "Regret against the main setting",
        "What was cached elsewhere, as a share of the prompt tokens, by a router's main setting.",
    ),
}

_DEFINITIONS = (
    ("hit rate", "prompt tokens served from the cache of the replica that was chosen"),
    ("of pooled", "hits over those of one cache as large as all replicas together"),
    ("best", "what requests would have hit at the replica that held most when they were routed"),
    ("regret", "best less hits, over the prompt tokens"),
    ("load", "regret where the router knew better and took another replica because of load"),
    ("missing", "regret where it did not know of the better replica"),
    ("stale", "regret where it believed the chosen replica to hold more than it did"),
    ("tie", "regret where it saw no difference"),
    ("requests, tokens", "the busiest replica over the mean: requests, prompt tokens computed"),
    ("copies", "blocks cached over distinct blocks cached, at the end"),
)


def write_fleet_report(result: FleetResult, path: str | Path) -> Path:
    """Write the report of routers; see :func:`fleet_html`."""
    path = Path(path)
    atomic_write(path, fleet_html(result))
    return path


def fleet_html(result: FleetResult) -> str:
    """Return a page with the tables and charts of routers, and everything they need inside.

    Raises
    ------
    InputError
        If there are no prompt tokens.
    """
    if not result.trace.prompt_tokens:
        msg = f"{result.trace.name}: no prompt tokens, there is nothing to report"
        raise InputError(msg)
    figures = list(_figures(result))
    terms = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in _DEFINITIONS)
    facts = {"trace": result.trace.name, "digest": result.trace.digest, **result.config}
    rows = [[k.replace("_", " "), str(v)] for k, v in facts.items()]
    rows.append(["prefixsim", __version__])
    body = [
        section("Routers", f"<p>{escape(result.advice)}</p>" + _tables(result), "routers"),
        section("Figures", "".join(map(drawn, figures)), "figures"),
        section("Configuration", tabled(Table("", ["", ""], rows, words=2)), "configuration"),
        section("Definitions", f'<dl class="terms">{terms}</dl>', "definitions"),
    ]
    specs = {figure.key: figure.spec for figure in figures}
    return framed(result.trace.name, result.description, "\n".join(body), specs)


def _tables(result: FleetResult) -> str:
    return "".join(map(tabled, result.tables()))


def _figures(result: FleetResult) -> Iterator[Figure]:
    for name, chart in result.charts().items():
        spec: JsonObject = chart.to_dict()
        for key in ("config", "title", "$schema"):
            spec.pop(key, None)
        spec["width"] = "container"
        title, says = _SAID[name]
        data = result.tables()[0]
        yield Figure(f"fleet-{name}", title, says, spec, data, wide=True)
