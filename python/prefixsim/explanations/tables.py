"""Waterfalls and explained requests as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefixsim.explanations.top import name_of
from prefixsim.explanations.waterfall import CLASSES, MEANINGS
from prefixsim.table import Table, written

if TYPE_CHECKING:
    from prefixsim.explanations.lint import Lint
    from prefixsim.explanations.request import RequestExplanation, Stretch
    from prefixsim.explanations.waterfall import Waterfall
    from prefixsim.trace import Trace

__all__ = [
    "label",
    "lint_tables",
    "remedy_tables",
    "request_tables",
    "top_tables",
    "waterfall_tables",
]

SHOWN = 5
"""Rows of each list in a terminal."""


def label(name: str) -> str:
    """Write a class for people."""
    return name.replace("_", " ")


def waterfall_tables(waterfall: Waterfall) -> list[Table]:
    """Return the waterfall, and what would recover the losses."""
    whole = max(1, waterfall.prompt_tokens)
    rows: list[list[str]] = []
    notes: list[str] = []

    def add(name: str, tokens: int, note: str) -> None:
        rows.append([name, written(tokens, "count"), written(tokens / whole, "rate")])
        notes.append(note)

    for name in CLASSES:
        add(label(name), waterfall.totals[name], MEANINGS[name])
        if name == "evicted" and waterfall.totals[name]:
            add("  policy", waterfall.evicted_policy, "the best policy would still have had them")
            add("  capacity", waterfall.evicted_capacity, "no policy could, at this capacity")
    add("prompt tokens", waterfall.prompt_tokens, "the sum")
    result = waterfall.result
    title = f"{result.trace.name}: {result.description}"
    return [Table(title, ["class", "tokens", "share"], rows, notes), *remedy_tables(waterfall)]


def remedy_tables(waterfall: Waterfall) -> list[Table]:
    """Return what would recover the losses; nothing if nothing was lost."""
    whole = max(1, waterfall.prompt_tokens)
    rows = [
        [
            ", ".join(map(label, remedy.classes)),
            remedy.change,
            f"{remedy.gained_tokens:+,}",
            written(remedy.hit_tokens / whole, "rate"),
        ]
        for remedy in waterfall.remedies
    ]
    if not rows:
        return []
    header = ["against", "change", "more hit tokens", "token hit rate"]
    return [
        Table(
            "what would recover them (each replayed, one change at a time)", header, rows, words=2
        )
    ]


def top_tables(waterfall: Waterfall, count: int = SHOWN) -> list[Table]:
    """Return who loses most, one table for each class that lost something."""
    tables = []
    for name in CLASSES[1:]:
        total = waterfall.totals[name]
        if not total:
            continue
        top = waterfall.top(name, count)
        rows = [
            [kind, loser.name, written(loser.requests, "count"), written(loser.tokens, "count"),
             written(loser.tokens / total, "rate")]
            for kind, losers in (("request", top.requests), *top.labels.items(),
                                 ("prefix", top.prefixes))
            for loser in losers
        ]  # fmt: skip
        header = [label(name), "who loses most", "requests", "tokens", "of the class"]
        tables.append(Table("", header, rows, words=2))
    return tables


def request_tables(explanation: RequestExplanation) -> list[Table]:
    """Return the stretches of one request, and where it parts from others."""
    trace, row = explanation.trace, explanation.row
    rows = [
        [f"{s.start:,}-{s.end:,}", label(s.name), written(s.end - s.start, "count")]
        for s in explanation.stretches
    ]
    fates = [_fate(trace, s) for s in explanation.stretches]
    session = ""
    if trace.session is not None:
        session = f", session {trace.session.names[trace.session.codes[row]]}"
    title = (
        f"request {name_of(trace, row)} at {trace.timestamp[row]:,.3f} s{session}: "
        f"{trace.prompt_len[row]:,} prompt tokens in blocks of {explanation.block_size}"
    )
    tables = [Table(title, ["tokens", "class", "count"], rows, fates, words=2)]
    d = explanation.divergence
    if d is not None:
        lines = [["at token", f"{d.at:,}"], ["from request", name_of(trace, d.other)]]
        if d.here is not None:
            lines += [
                ["in common", f"…{d.before!r}"],
                ["this prompt", f"{d.here!r}…"],
                ["the earlier one", f"{d.there!r}…"],
            ]
        tables.append(
            Table("where it parts from the closest earlier request", ["", ""], lines, words=2)
        )
    return tables


def _fate(trace: Trace, stretch: Stretch) -> str:
    if stretch.source is None:
        return MEANINGS["cold"]
    said = (
        f"last used by {name_of(trace, stretch.source)} at {trace.timestamp[stretch.source]:,.3f} s"
    )
    if stretch.evicted_by is not None:
        by, at = name_of(trace, stretch.evicted_by), trace.timestamp[stretch.evicted_by]
        said += f", evicted for {by} at {at:,.3f} s"
    if stretch.never_kept:
        said += ", never kept: longer than the cache"
    return said


def lint_tables(lint: Lint) -> list[Table]:
    """Return what a lint found, and its examples."""
    if not lint.findings:
        said = (
            f"nothing found in {lint.looked_at:,} requests" if lint.looked_at else "not looked at"
        )
        return [Table(f"prompt lint: {said}", [""], [[note] for note in lint.notes])]
    rows, notes = [], []
    for f in lint.findings:
        hourly = "-" if f.tokens_per_hour is None else written(f.tokens_per_hour, "count")
        rows.append(
            [f.kind, f"…{f.slot}", written(f.requests, "count"), written(f.tokens, "count"), hourly,
             written(f.share, "rate")]
        )  # fmt: skip
        notes.append(f.advice)
    header = ["kind", "behind", "requests", "tokens lost", "per hour", "of the prompts"]
    title = f"prompt lint: {len(lint.findings)} findings in {lint.looked_at:,} requests"
    tables = [Table("; ".join([title, *lint.notes]), header, rows, notes, words=2)]
    examples = [
        [f.kind, example.request, example.other, f"{example.at:,}", _cut(example.here),
         _cut(example.there)]
        for f in lint.findings
        for example in f.examples
    ]  # fmt: skip
    header = ["example", "request", "earlier", "at token", "has", "the earlier has"]
    return [*tables, Table("", header, examples, words=6)]


def _cut(text: str, most: int = 40) -> str:
    shown = repr(text)
    return shown if len(shown) <= most else f"{shown[:most]}…"
