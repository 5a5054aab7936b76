"""The report: one HTML file that needs no network, for one replay or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim._core import __version__
from prefixsim._files import atomic_write
from prefixsim.charts import theme
from prefixsim.charts.runs import Run
from prefixsim.errors import InputError
from prefixsim.explanations.classes import CLASSES, MEANINGS, label
from prefixsim.explanations.lint import lint_tables
from prefixsim.explanations.top import name_of
from prefixsim.explanations.waterfall import remedy_tables, top_tables
from prefixsim.reports import distributions as dist
from prefixsim.reports.capacities import block_sizes, hit_curve
from prefixsim.reports.figures import Figure, capacity_words
from prefixsim.reports.frame import drawn, framed, section, tabled
from prefixsim.reports.losses import waterfall
from prefixsim.reports.tiers import tier_figures
from prefixsim.study.compare import differences
from prefixsim.study.tables import comparison_tables, group_table
from prefixsim.table import Table, written

if TYPE_CHECKING:
    from prefixsim.explanations.lint import Lint
from prefixsim.study.result import Result

__all__ = ["MOST_RUNS", "report_html", "write_report"]

MOST_RUNS = 8
"""Replays on one page; lines of more cannot be told apart."""

_PREFIXES, _PREVIEW, _GROUPS = 12, 140, 10

Decode = Callable[[list[int]], str]

_DEFINITIONS = (
    ("token hit rate", "hit tokens / prompt tokens, over all requests"),
    (
        "hit tokens",
        "prompt tokens served from the cache: whole blocks, from the start of the prompt",
    ),
    ("sharing fraction", "hit tokens / prompt tokens of one request"),
    ("infinite cache", "nothing is ever evicted: the ceiling of every policy at this block size"),
    ("LRU", "the block used least recently is evicted; exact at every capacity"),
    ("clairvoyant", "the block used again last is evicted (Belady, 1966): no policy hits more"),
    ("reuse gap", "time since the previous request that contains the block"),
    ("block lifetime, idle", "at eviction: time since the block came, and since its last use"),
    ("working set", "distinct full blocks touched in a window of time"),
    *((f"class: {label(name)}", MEANINGS[name]) for name in CLASSES),
)


def write_report(
    results: Sequence[Result],
    path: str | Path,
    *,
    bytes_per_token: float | None = None,
    decode: Decode | None = None,
    lint: Sequence[Lint] = (),
) -> Path:
    """Write the report of one or more replays; see :func:`report_html`."""
    path = Path(path)
    html = report_html(results, bytes_per_token=bytes_per_token, decode=decode, lint=lint)
    atomic_write(path, html)
    return path


def report_html(
    results: Sequence[Result],
    *,
    bytes_per_token: float | None = None,
    decode: Decode | None = None,
    lint: Sequence[Lint] = (),
) -> str:
    """Return a page that shows replays, alone or side by side.

    Parameters
    ----------
    results : sequence of Result
        At most :data:`MOST_RUNS`.
    bytes_per_token : float, optional
        Of the KV cache: capacities are then in GB (10^9 bytes).
    decode : callable, optional
        Turns token ids into text, to show what the top prefixes say.
    lint : sequence of Lint, optional
        One for each distinct trace, in the order of the results.

    Returns
    -------
    str
        HTML with everything it needs inside.
    """
    if not results:
        msg = "a report needs at least one replay"
        raise InputError(msg)
    if len(results) > MOST_RUNS:
        msg = f"{len(results)} replays in one report, at most {MOST_RUNS} can be told apart"
        raise InputError(msg)
    if not any(result.summary["prompt_tokens"] for result in results):
        msg = f"{results[0].trace.name}: no prompt tokens, there is nothing to report"
        raise InputError(msg)
    runs = [
        Run(name, result, bytes_per_token)
        for name, result in zip(short_labels(results), results, strict=True)
    ]
    with theme.unchecked():
        figures = [f for f in _figures(runs) if f is not None]
    title = " · ".join(dict.fromkeys(run.result.trace.name for run in runs))
    subtitle = runs[0].result.description if len(runs) == 1 else f"{len(runs)} replays compared"
    body = [
        _headline(runs),
        *([_comparison(runs)] if len(runs) > 1 else []),
        section("Figures", "".join(map(drawn, figures)), "figures"),
        *(_losses(run, i if len(runs) > 1 else None) for i, run in enumerate(runs)),
        *_lint(runs, lint),
        _prefixes(runs, decode),
        *_groups(runs),
        _configuration(runs),
    ]
    specs = {figure.key: figure.spec for figure in figures}
    return framed(title, subtitle, "\n".join(body), specs)


def short_labels(results: Sequence[Result]) -> list[str]:
    """Return names that say only in what the replays differ; a number where they do not."""
    facts = [
        {
            "trace": result.trace.name,
            "engine": result.config["engine"],
            **{k: _setting_words(k, v) for k, v in result.config.items() if k != "engine"},
        }
        for result in results
    ]
    keys = list(dict.fromkeys(key for fact in facts for key in fact))
    differ = [key for key in keys if len({str(fact.get(key)) for fact in facts}) > 1]
    names = [", ".join(str(fact.get(k, "-")) for k in differ or ["trace"]) for fact in facts]
    if len(set(names)) < len(names):
        names = [f"{name} ({i})" for i, name in enumerate(names, 1)]
    return names


def _setting_words(key: str, value: object) -> str:
    if key == "num_blocks":
        return "unbounded" if value is None else f"{value:,} blocks"
    if key == "block_size":
        return f"block size {value}"
    return f"{key.replace('_', ' ')} {value}"


def _figures(runs: Sequence[Run]) -> Iterator[Figure | None]:
    yield hit_curve(runs)
    yield from tier_figures(runs)
    yield waterfall(runs)
    yield dist.over_time(runs)
    yield dist.working_set(runs)
    yield block_sizes(runs)
    yield dist.sharing(runs)
    yield dist.lengths(runs)
    yield dist.block_counts(runs)
    yield dist.reuse_gaps(runs)
    yield dist.lifetimes(runs)
    yield dist.turns(runs)


def _headline(runs: Sequence[Run]) -> str:
    if len(runs) > 1:
        return ""
    run = runs[0]
    fall, summary = run.fall, run.result.summary
    whole = max(1, fall.prompt_tokens)
    rate = summary["token_hit_rate"]
    cards = [
        ("token hit rate", f"{rate:.1%}", "of the prompt tokens come from the cache"),
        ("infinite cache", f"{run.ceiling:.1%}", "the ceiling at this block size"),
        ("evicted", f"{fall.totals['evicted'] / whole:.1%}", _evicted(run)),
        ("requests", _short(summary["requests"]), f"{_short(whole)} prompt tokens"),
        ("unique blocks", _short(summary["unique_blocks"]), _size(run)),
    ]
    shown = "".join(
        f'<div class="card"><dt>{escape(name)}</dt><dd>{escape(value)}</dd>'
        f"<p>{escape(note)}</p></div>"
        for name, value, note in cards
    )
    return f'<dl class="cards" aria-label="Headline figures">{shown}</dl>'


def _evicted(run: Run) -> str:
    fall = run.fall
    if not fall.totals["evicted"]:
        return "an infinite cache would hit no more"
    share = fall.evicted_policy / fall.totals["evicted"]
    return f"{share:.0%} of it due to the policy, {1 - share:.0%} to the capacity"


def _size(run: Run) -> str:
    blocks = run.forest.unique_blocks(run.block_size)
    if run.bytes_per_token is None:
        return f"of {run.block_size} tokens"
    size = blocks * run.block_size * run.bytes_per_token / 1e9
    return f"{capacity_words(size, 'GB')} of KV cache"


def _short(value: float) -> str:
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if value >= size:
            divided = value / (size if suffix != " k" else 1e3)
            return f"{divided:,.3g}{suffix}" if divided < 1000 else f"{divided:,.0f}{suffix}"
    return f"{value:,.0f}"


def _comparison(runs: Sequence[Run]) -> str:
    tables = comparison_tables([run.result for run in runs], [run.label for run in runs])
    used = {run.result.engine.name: run.result.engine for run in runs}
    told = differences(list(used.values()))
    if told is not None:
        tables.append(told)
    return section("Side by side", "".join(map(tabled, tables)), "comparison")


def _losses(run: Run, number: int | None) -> str:
    remedies = "".join(map(tabled, remedy_tables(run.fall)))
    tops = "".join(
        f"<details><summary>{escape(table.header[0])}: who loses most</summary>"
        f"{tabled(table)}</details>"
        for table in top_tables(run.fall, 8)
    )
    name, key = ("", "losses") if number is None else (f": {run.label}", f"losses-{number}")
    nothing = "" if remedies or tops else "<p>Nothing was lost.</p>"
    return section(f"What would recover the losses{name}", remedies + tops + nothing, key)


def _lint(runs: Sequence[Run], lint: Sequence[Lint]) -> Iterator[str]:
    names = list(dict.fromkeys(run.result.trace.name for run in runs))
    for i, found in enumerate(lint):
        title = "Prompt lint" + (f": {names[i]}" if len(lint) > 1 else "")
        yield section(title, "".join(map(tabled, lint_tables(found))), f"lint-{i}")


def _prefixes(runs: Sequence[Run], decode: Decode | None) -> str:
    chosen = list({id(run.forest): run for run in reversed(runs)}.values())[::-1]
    parts = []
    for run in chosen:
        prefixes = run.forest.top_prefixes(_PREFIXES).to_pylist()
        rows = [
            [
                _says(run, row["request"], row["tokens"], decode),
                written(row["tokens"], "count"),
                written(row["requests"], "count"),
                written(row["saved_tokens"], "count"),
            ]
            for row in prefixes
        ]
        header = ["begins", "tokens", "requests", "tokens an infinite cache saves"]
        title = run.result.trace.name if len(chosen) > 1 else ""
        parts.append(tabled(Table(title, header, rows)))
    return section("Top shared prefixes", "".join(parts), "prefixes")


def _says(run: Run, request: int, tokens: int, decode: Decode | None) -> str:
    if decode is None or run.result.trace.kind != "tokens":
        return f"first in request {name_of(run.result.trace, request)}"
    ids = run.forest.prefix_ids(request, min(tokens, _PREVIEW))
    text = " ".join(decode([int(i) for i in ids]).split())
    return text if len(text) <= _PREVIEW else f"{text[:_PREVIEW]}…"


def _groups(runs: Sequence[Run]) -> Iterator[str]:
    for by in ("session", "category", "salt"):
        tables = []
        for run in runs:
            groups = run.result.metrics.groups(by)
            if groups and (by == "session" or len(groups) > 1):
                table = group_table(by, groups, _GROUPS)
                title = f"{run.label}: {table.title}" if len(runs) > 1 else table.title
                tables.append(tabled(Table(title, table.header, table.rows)))
        if tables:
            plural = {"session": "Sessions", "category": "Categories", "salt": "Salts"}[by]
            yield section(plural, "".join(tables), by)


def _configuration(runs: Sequence[Run]) -> str:
    parts = []
    for run in runs:
        facts = {
            "trace": run.result.trace.name,
            "digest": run.result.provenance["digest"],
            "requests": f"{len(run.result.trace):,}",
            "ids": run.result.trace.kind,
            **{k: "unbounded" if k == "num_blocks" and v is None else v
               for k, v in run.result.config.items()},
            "prefixsim": __version__,
        }  # fmt: skip
        if run.bytes_per_token is not None:
            facts["KV cache bytes per token"] = f"{run.bytes_per_token:,g}"
        rows = [[k.replace("_", " "), str(v)] for k, v in facts.items()]
        parts.append(tabled(Table(run.label if len(runs) > 1 else "", ["", ""], rows, words=2)))
    terms = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in _DEFINITIONS)
    return section("Configuration", "".join(parts), "configuration") + section(
        "Definitions", f'<dl class="terms">{terms}</dl>', "definitions"
    )
