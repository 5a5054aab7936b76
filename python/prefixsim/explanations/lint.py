"""Prompt lint: what in the prompts keeps prefixes from being shared.

Each prompt is compared with the earlier prompts it should share most with: the one with the longest
common prefix, and the previous turn of its session. Where the two part, a gap that differs is in
the way if the prompts go on alike behind it. What it costs are the tokens that are alike behind it:
those an infinite cache would serve, were this gap the same (and the other gaps, too).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.explanations._kinds import ADVICE, Kind, kind_of, slot_of
from prefixsim.explanations._resync import ENOUGH, Gap, alike, gaps_between
from prefixsim.explanations.top import name_of
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.formats.sources import trace_of
from prefixsim.table import Table, html, written
from prefixsim.text.pretrained import load_tokenizer
from prefixsim.text.text_trace import tokenize_trace
from prefixsim.text.tokenize import DEFAULT_MODEL
from prefixsim.trace import Trace

__all__ = ["Example", "Finding", "Lint", "lint", "lint_tables"]

MAX_REQUESTS = 20_000
"""Requests looked at; of a longer trace, every so many."""

_CONTEXT = 24
_OPENING = 6
_EXAMPLES = 3

Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class Example:
    """One pair of prompts that a finding is about.

    Attributes
    ----------
    request, other : str
        Ids of the later and the earlier request.
    at : int
        Token of the later prompt where the gap starts.
    before : str
        Text they have in common before it.
    here, there : str
        The gap in either prompt.
    after : str
        Text they have in common behind it.
    """

    request: str
    other: str
    at: int
    before: str
    here: str
    there: str
    after: str


@dataclass
class Finding:
    """Something that keeps prefixes from being shared.

    Attributes
    ----------
    kind : str
        ``timestamp``, ``uuid``, ``id``, ``name``, ``whitespace``, ``reordered`` or ``text``.
    slot : str
        The text before it, which tells one place in a template from others; for ``reordered``, how
        the prompts begin.
    tokens : int
        Tokens lost to it: those that could have been shared, had it not been in the way.
    requests : int
        How many requests lose tokens to it.
    tokens_per_hour : float or None
        ``None`` if the trace takes no time.
    share : float
        Of all prompt tokens.
    examples : list of Example
    """

    kind: Kind
    slot: str
    tokens: int = 0
    requests: int = 0
    tokens_per_hour: float | None = None
    share: float = 0.0
    examples: list[Example] = field(default_factory=list)

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.kind]

    def to_dict(self) -> JsonObject:
        """Return the figures under their machine-readable names."""
        return {
            "kind": self.kind,
            "slot": self.slot,
            "tokens": self.tokens,
            "tokens_per_hour": self.tokens_per_hour,
            "share": self.share,
            "requests": self.requests,
            "advice": self.advice,
            "examples": [vars(example) for example in self.examples],
        }


@dataclass(frozen=True)
class Lint:
    """What the lint found.

    Attributes
    ----------
    findings : list of Finding
        The most tokens first.
    looked_at : int
        Requests compared; fewer than the trace has if it is long, and figures are scaled up then.
    notes : list of str
        What could not be looked at, and why.
    """

    findings: list[Finding]
    looked_at: int
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> JsonObject:
        """Return everything under machine-readable names."""
        return {
            "findings": [finding.to_dict() for finding in self.findings],
            "requests_looked_at": self.looked_at,
            "notes": self.notes,
        }

    def _repr_html_(self) -> str:
        return html(lint_tables(self))


def lint(
    source: Forest | Trace | str | Path,
    decode: Decode | None = None,
    *,
    model: str | None = None,
    min_requests: int = 3,
    min_share: float = 0.001,
    max_requests: int = MAX_REQUESTS,
) -> Lint:
    """Find what keeps prefixes from being shared.

    Parameters
    ----------
    source : Forest, Trace or path
        A trace of token ids, or of text. Of chained hash ids nothing can be found: behind the first
        difference all ids differ, whether the text goes on alike or not.
    decode : callable, optional
        Turns token ids into text, such as the ``decode`` of a tokenizer. Without it, only reordered
        text is told from other kinds.
    model : str, optional
        The tokenizer in place of ``decode``: hub name, local folder, or ``demo``.
    min_requests : int, optional
        Requests that have to lose tokens to a finding.
    min_share : float, optional
        Share of all prompt tokens that a finding has to cost.
    max_requests : int, optional
        Requests looked at; of a longer trace, every so many.

    Returns
    -------
    Lint

    Examples
    --------
    >>> import prefixsim
    >>> rules = " You are a helpful assistant. Answer in one sentence, and never guess." * 4
    >>> texts = [f"Now it is 2024-05-01 12:{i:02}.{rules}" for i in range(8)]
    >>> found = prefixsim.lint(prefixsim.Trace.from_texts(texts), model="demo")
    >>> found.findings[0].kind, found.findings[0].requests
    ('timestamp', 7)
    """
    forest, decode = _compiled(source, decode, model)
    trace = forest.trace
    if trace.kind == "hashes":
        return Lint([], 0, [_hash_note(forest)])
    if max_requests < 1:
        msg = f"max_requests is {max_requests}, give 1 or more"
        raise InputError(msg)
    step = max(1, -(-len(trace) // max_requests))
    rows = range(0, len(trace), step)
    by_slot: dict[tuple[str, str], Finding] = {}
    for row, other, at, gaps in _pairs(forest, rows):
        seen = set()
        for k, gap in enumerate(gaps):
            cost = sum(g.alike for g in gaps[k:])
            key, example = _described(trace, (row, other, at), gap, decode)
            finding = by_slot.setdefault(key, Finding(key[0], key[1]))
            if key not in seen:  # the first of a kind in a slot costs what the others do
                seen.add(key)
                finding.requests += step
                finding.tokens += step * cost
            if len(finding.examples) < _EXAMPLES:
                finding.examples.append(example)
    hours = float(trace.timestamp[-1] - trace.timestamp[0]) / 3600 if len(trace) else 0.0
    whole = max(1, trace.prompt_tokens)
    findings = []
    for finding in by_slot.values():
        finding.share = finding.tokens / whole
        finding.tokens_per_hour = finding.tokens / hours if hours > 0 else None
        if finding.requests >= min_requests * step and finding.share >= min_share:
            findings.append(finding)
    findings.sort(key=lambda f: (-f.tokens, f.kind, f.slot))
    notes = [] if step == 1 else [f"every {step}th request looked at, figures scaled up"]
    return Lint(findings, len(rows), notes)


def _compiled(
    source: Forest | Trace | str | Path, decode: Decode | None, model: str | None
) -> tuple[Forest, Decode | None]:
    """Return the forest of a source, and how its tokens become text."""
    if isinstance(source, Forest):
        forest = source
    else:
        trace = trace_of(source)
        if trace.kind == "text":
            trace = tokenize_trace(trace, model or DEFAULT_MODEL)
            model = str(trace.meta["tokenizer"])
        forest = compile_trace(trace)
    if decode is None and model is not None and forest.trace.kind == "tokens":
        decode = load_tokenizer(model).decode
    return forest, decode


def _hash_note(forest: Forest) -> str:
    trace = forest.trace
    shared = forest.profile(trace.id_block_size).reusable_blocks
    alone = int(np.count_nonzero((shared == 0) & (trace.prompt_len >= trace.id_block_size)))
    return (
        f"hash ids tell nothing of the text behind the first difference; {alone:,} of "
        f"{len(trace):,} requests differ from every earlier one within their first "
        f"{trace.id_block_size} tokens"
    )


def _pairs(forest: Forest, rows: range) -> Iterator[tuple[int, int, int, list[Gap]]]:
    """Give each request with the earlier one it loses most against: rows, where, the gaps."""
    trace = forest.trace
    prompts = trace.prompts
    assert prompts is not None
    nearest = _nearest(forest)
    turns = _previous_turns(trace)
    for row in rows:
        best: tuple[int, int, list[Gap]] | None = None
        for other in dict.fromkeys((int(nearest[row]), int(turns[row]))):
            if other < 0:
                continue
            here, there = prompts[row], prompts[other]
            at = alike(here, there)
            if min(len(here), len(there)) - at < ENOUGH:
                if other == int(turns[row]):
                    break  # the session goes on: nothing is lost
                continue
            gaps = gaps_between(here[at:], there[at:])
            if gaps and (best is None or _reach(at, gaps) > _reach(best[1], best[2])):
                best = (other, at, gaps)
        if best is not None:
            yield row, *best


def _reach(at: int, gaps: list[Gap]) -> int:
    return at + sum(gap.alike for gap in gaps)


def _nearest(forest: Forest) -> npt.NDArray[np.int64]:
    """Return the latest earlier request with the longest common prefix of a token or more, or -1.

    A request that shares nothing is compared with the one before it under the same salt.
    """
    profile = forest.profile(1)
    request, previous, _ = profile.gaps(profile.reusable_blocks)
    nearest = _latest_of(forest.trace)
    nearest[request] = previous  # the last stretch of each request is written last
    return nearest


def _latest_of(trace: Trace) -> npt.NDArray[np.int64]:
    """Return the row before each row under the same salt, or -1."""
    if trace.salt is None:
        return np.arange(-1, len(trace) - 1)
    return _before(trace.salt.codes)


def _previous_turns(trace: Trace) -> npt.NDArray[np.int64]:
    if trace.session is None:
        return np.full(len(trace), -1, dtype=np.int64)
    before = _before(trace.session.codes)
    if "" in trace.session.names:
        before[trace.session.codes == trace.session.names.index("")] = -1
    if trace.salt is not None:
        same = trace.salt.codes[np.maximum(before, 0)] == trace.salt.codes
        before[~same] = -1
    return before


def _before(codes: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    order = np.argsort(codes, kind="stable")
    before = np.full(len(codes), -1, dtype=np.int64)
    same = codes[order[1:]] == codes[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    return before


def _described(
    trace: Trace, pair: tuple[int, int, int], gap: Gap, decode: Decode | None
) -> tuple[tuple[Kind, str], Example]:
    assert trace.prompts is not None
    row, other, at = pair
    here, there = trace.prompts[row], trace.prompts[other]
    a, b = at + gap.start, at + gap.other_start
    ends = (at + gap.end, at + gap.other_end)
    if gap.reordered:
        ends = (min(ends[0], a + _CONTEXT), min(ends[1], b + _CONTEXT))
    parts = (
        here[max(0, a - _CONTEXT) : a],
        here[a : ends[0]],
        there[b : ends[1]],
        here[ends[0] : ends[0] + _CONTEXT],
    )
    if decode is None:
        before, in_this, in_other, after = (" ".join(map(str, ids)) for ids in parts)
        kind: Kind = "reordered" if gap.reordered else "text"
        slot = "" if gap.reordered else f"token {a}"
    else:
        before, in_this, in_other, after = (decode([int(i) for i in ids]) for ids in parts)
        if gap.reordered:  # anywhere in the list: told apart by how the prompts begin
            kind, slot = "reordered", slot_of(decode([int(i) for i in here[:_OPENING]]))
        else:
            kind, lead = kind_of(before, in_this, in_other, after)
            slot = slot_of(lead)
    names = (name_of(trace, row), name_of(trace, other))
    return (kind, slot), Example(*names, a, before, in_this, in_other, after)


def lint_tables(lint: Lint) -> list[Table]:
    """Return what a lint found, and its examples."""
    if not lint.findings:
        verdict = (
            f"nothing found in {lint.looked_at:,} requests" if lint.looked_at else "not looked at"
        )
        return [Table(f"prompt lint: {verdict}", [""], [[note] for note in lint.notes])]
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
        [f.kind, example.request, example.other, f"{example.at:,}", _shortened(example.here),
         _shortened(example.there)]
        for f in lint.findings
        for example in f.examples
    ]  # fmt: skip
    header = ["example", "request", "earlier", "at token", "has", "the earlier has"]
    return [*tables, Table("", header, examples, words=6)]


def _shortened(text: str, most: int = 40) -> str:
    shown = repr(text)
    return shown if len(shown) <= most else f"{shown[:most]}…"
