"""The loss waterfall of a replay: classes, who loses most in each, what would recover it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from prefixsim._json import JsonObject
from prefixsim.explanations.classes import ALONG, CAUSES, CLASSES, MEANINGS, OF_GROUPS, label
from prefixsim.explanations.losses import Losses, class_edges, usable_blocks
from prefixsim.explanations.remedy import Remedy, remedies
from prefixsim.explanations.surface_gap import gap_tables, surface_gap
from prefixsim.explanations.top import Top, top
from prefixsim.forest import Forest
from prefixsim.formats.sources import trace_of
from prefixsim.study.replay import replay
from prefixsim.study.result import Result
from prefixsim.table import Table, html, written
from prefixsim.trace import Trace

__all__ = [
    "ALONG",
    "CLASSES",
    "MEANINGS",
    "Waterfall",
    "explain",
    "remedy_tables",
    "top_tables",
    "usable_blocks",
    "waterfall",
    "waterfall_tables",
]


class Waterfall(Losses):
    """Each prompt token of a replay in one class, and what to make of it."""

    def __repr__(self) -> str:
        shares = ", ".join(
            f"{k} {v / max(1, self.prompt_tokens):.1%}" for k, v in self.totals.items()
        )
        return f"<Waterfall of {self.trace.name}: {shares}>"

    def top(self, name: str, count: int = 10) -> Top:
        """Return who loses most in a class; see :func:`prefixsim.explanations.top.top`."""
        return top(self, name, count)

    @cached_property
    def remedies(self) -> list[Remedy]:
        """What would recover the losses, each replayed; see :func:`.remedies`."""
        return remedies(self)

    def to_dict(self, count: int = 10) -> JsonObject:
        """Return classes, who loses most and what would help; plain values.

        Parameters
        ----------
        count : int, optional
            Rows of each list of those that lose most.
        """
        whole = max(1, self.prompt_tokens)
        classes: JsonObject = {
            name: {"tokens": tokens, "share": tokens / whole}
            for name, tokens in self.totals.items()
        }
        if self.splits_evicted:
            classes["evicted"] |= {
                "policy_tokens": self.evicted_policy,
                "capacity_tokens": self.evicted_capacity,
            }
        if self.hit_tiers:
            classes["hit"] |= {"tier_tokens": self.hit_tiers}
        if self.evicted_causes:
            classes["evicted"] |= {"cause_tokens": self.evicted_causes}
        gap = surface_gap(self.result)
        lost = [name for name in CLASSES[1:] if self.totals[name]]
        return {
            "requests": len(self) - self.start,
            "prompt_tokens": self.prompt_tokens,
            "classes": classes,
            "top": {name: self.top(name, count).to_dict() for name in lost},
            "remedies": [remedy.to_dict() for remedy in self.remedies],
            **({"surface_gap": [step.to_dict() for step in gap]} if gap else {}),
        }

    def _repr_html_(self) -> str:
        return html(waterfall_tables(self))


def waterfall(result: Result) -> Waterfall:
    """Tell why each prompt token of a replay was hit or lost.

    Works for every engine. What an infinite cache would have served is what an earlier request had;
    for an engine with time (its outcome has the column ``admit_step``), what the same engine hits
    without a limit on its blocks.
    Where layers are of several kinds, what its groups agree on is taken from that run too.
    The column ``preempted_tokens`` counts, from the end of the hits, those that were computed again
    after a preemption.

    Parameters
    ----------
    result : Result
        Of :func:`prefixsim.replay`.

    Returns
    -------
    Waterfall

    Raises
    ------
    InputError
        If prefix caching was off, or the outcome hits tokens that no earlier request had.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(48), range(16)])
    >>> prefixsim.replay(trace, block_size=16).waterfall().totals
    {'hit': 32, 'cold': 48, 'isolated': 0, 'rounding': 8, 'last_token': 16, 'alignment': 0, \
'in_flight': 0, 'window': 0, 'state': 0, 'speculative_drop': 0, 'evicted': 0, 'preempted': 0}
    """
    return Waterfall(result, *class_edges(result))


SHOWN = 5
"""Rows of each list in a terminal."""


def explain(source: Result | Trace | Forest | str | Path, **settings: Any) -> Waterfall:
    """Tell where every prompt token went: hit, or lost and why, and what would recover the losses.

    Parameters
    ----------
    source : Result, Trace, Forest or path
        What was replayed, or what to replay.
    **settings
        As for :func:`prefixsim.replay`; for a result none, unless it is to be replayed again with
        them.

    Returns
    -------
    Waterfall

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(64), range(64), range(100, 164), range(64)])
    >>> fall = prefixsim.explain(trace, block_size=16, num_blocks=5)
    >>> fall.totals["hit"], fall.totals["evicted"]
    (48, 48)
    >>> fall.remedies[-1].change
    'the best possible policy'
    """
    if isinstance(source, Result):
        return waterfall(source.again(**settings) if settings else source)
    forest = source if isinstance(source, Forest) else trace_of(source)
    return waterfall(replay(forest, **settings))


def waterfall_tables(waterfall: Waterfall) -> list[Table]:
    """Return the waterfall, and what would recover the losses."""
    whole = max(1, waterfall.prompt_tokens)
    rows: list[list[str]] = []
    notes: list[str] = []

    def add(name: str, tokens: int, note: str) -> None:
        rows.append([name, written(tokens, "count"), written(tokens / whole, "rate")])
        notes.append(note)

    grouped = any(waterfall.totals[name] for name in OF_GROUPS)
    for name in CLASSES:
        if name in OF_GROUPS and not grouped:
            continue
        add(label(name), waterfall.totals[name], MEANINGS[name])
        if name == "hit":
            for tier, tokens in waterfall.hit_tiers.items():
                add(f"  {tier}", tokens, f"from {tier}")
        if name == "evicted" and waterfall.totals[name]:
            for cause, tokens in waterfall.evicted_causes.items():
                if tokens:
                    meaning = CAUSES.get(cause, f"{cause} had them last")
                    add(f"  {label(cause)}", tokens, meaning)
        if name == "evicted" and waterfall.totals[name] and waterfall.splits_evicted:
            add("  policy", waterfall.evicted_policy, "the best policy would still have had them")
            add("  capacity", waterfall.evicted_capacity, "no policy could, at this capacity")
    add("prompt tokens", waterfall.prompt_tokens, "the sum")
    result = waterfall.result
    title = f"{result.trace.name}: {result.description}"
    return [
        Table(title, ["class", "tokens", "share"], rows, notes),
        *gap_tables(result),
        *remedy_tables(waterfall),
    ]


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
