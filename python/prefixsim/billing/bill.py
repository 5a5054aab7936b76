"""The bill: what providers would charge for a trace, with prompt caching and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.billing.assumptions import assumed
from prefixsim.billing.charge import Amount, Charge, text
from prefixsim.billing.places import BREAKPOINTS, Breakpoints
from prefixsim.billing.prices import PriceFile, money, prices_of
from prefixsim.billing.rules import Provider, provider_named, rules_date
from prefixsim.billing.usage import Replayer
from prefixsim.errors import InputError
from prefixsim.explanations.lint import Lint, lint
from prefixsim.formats.sources import TraceSource, trace_of
from prefixsim.table import html
from prefixsim.text.text_trace import tokenize_trace
from prefixsim.text.tokenize import DEFAULT_MODEL
from prefixsim.trace import Ragged, Trace

__all__ = ["DEFAULT_PROVIDERS", "Alternative", "Bill", "bill", "block_ends"]

DEFAULT_PROVIDERS = ("openai", "anthropic", "gemini", "deepseek")

_LINTED = 2000
_LONGER = ("1h", "24h")


@dataclass(frozen=True)
class Alternative:
    """Something else that could be done, and what it would save.

    Attributes
    ----------
    provider, model : str
    change : str
        What to do, in words.
    saves : Decimal
        In $, over the bill as it is; negative if it would cost more.
    at_most : bool
        Whether it is a bound: as if nothing expired, and the other findings were mended, too.
    """

    provider: str
    model: str
    change: str
    saves: Decimal
    at_most: bool = False

    def to_dict(self) -> JsonObject:
        """Return the figures under machine-readable names; money as decimal text."""
        return {**vars(self), "saves": text(self.saves)}


@dataclass(frozen=True, eq=False)
class Bill:
    """What providers would charge for a trace.

    Attributes
    ----------
    trace : Trace
    charges : list of Charge
        One for each provider, model and time to live.
    alternatives : list of Alternative
        What would save money, the most first; with each provider's first charge as base.
    assumptions : dict of str to list of str
        By provider: what it does not publish, and what is taken instead.
    """

    trace: Trace
    charges: list[Charge]
    alternatives: list[Alternative]
    assumptions: dict[str, list[str]]

    def by(self, column: str) -> list[tuple[Charge, str, Amount]]:
        """Return the amounts of each label, for each charge.

        Parameters
        ----------
        column : {"salt", "category", "session"}

        Raises
        ------
        InputError
            If the trace has no such column.
        """
        codes = getattr(self.trace, column, None) if column in _LABELS else None
        if codes is None:
            msg = f"{self.trace.name}: no column {column!r} to bill by"
            raise InputError(msg)
        return [
            (charge, name, amount)
            for charge in self.charges
            for name, amount in zip(
                codes.names, charge.by(codes.codes, len(codes.names)), strict=True
            )
            if amount.requests
        ]

    @property
    def labels(self) -> list[str]:
        """The columns among salt and category that tell requests apart."""
        found = []
        for column in _LABELS[:2]:
            codes = getattr(self.trace, column)
            if codes is not None and len(np.unique(codes.codes)) > 1:
                found.append(column)
        return found

    def to_dict(self) -> JsonObject:
        """Return everything under machine-readable names; money as decimal text, in $."""
        return {
            "rules_date": rules_date(),
            "charges": [charge.to_dict() for charge in self.charges],
            "by": {
                column: [
                    {"provider": charge.provider.name, "model": charge.prices.model,
                     "ttl_s": charge.provider.ttl_s, column: name, **amount.to_dict()}
                    for charge, name, amount in self.by(column)
                ]
                for column in self.labels
            },
            "alternatives": [alternative.to_dict() for alternative in self.alternatives],
            "assumptions": self.assumptions,
        }  # fmt: skip

    def _repr_html_(self) -> str:
        from prefixsim.billing.tables import bill_tables

        return html(bill_tables(self))


_LABELS = ("salt", "category", "session")


def bill(
    source: TraceSource,
    provider: str | Sequence[str] = DEFAULT_PROVIDERS,
    *,
    ttl: str | Sequence[str] | None = None,
    prices: str | Path | None = None,
    price_date: date | None = None,
    breakpoints: Breakpoints = "end",
    block_start: int | None = None,
    model: str | None = None,
    findings: bool = True,
) -> Bill:
    r"""Work out what providers would charge for a trace, with prompt caching and without.

    Parameters
    ----------
    source : Trace or path
        Of token ids, hash ids or text.
    provider : str or sequence of str, optional
        ``openai``, ``azure``, ``anthropic``, ``gemini`` (implicit), ``gemini-explicit``,
        ``deepseek``, ``xai``, ``mistral``, ``moonshot``; with a model as ``anthropic:NAME``.
    ttl : str or sequence of str, optional
        How long entries are kept, such as ``5m`` or ``1h``; a provider that does not offer one of
        them is billed with those it offers. Default: each provider's own.
    prices : path, optional
        A TOML file of prices. Providers it does not name are priced from the package genai-prices.
    price_date : date, optional
        The day the package's prices hold for. Default: today.
    breakpoints : {"end", "shared", "shared+end"}, optional
        Where a request has breakpoints (Anthropic): on its last block, where prompts that share its
        beginning part, or both. Four at most.
    block_start : int, optional
        The token that begins each content block, such as that of ``<|im_start|>``; with it, the
        look-back of 20 blocks is counted.
    model : str, optional
        The tokenizer of texts: hub name, local folder, or ``demo``.
    findings : bool, optional
        Whether to look for what breaks prefixes, as ``lint`` does, and to price it.

    Returns
    -------
    Bill

    Raises
    ------
    InputError
        If a provider, a time to live or a price is not known.

    Examples
    --------
    >>> import prefixsim
    >>> from pathlib import Path
    >>> text = "[anthropic.example]\ninput = 3.00\nread = 0.30\nwrite = 3.75\noutput = 15.00"
    >>> _ = Path("prices.toml").write_text(text)
    >>> chat = [range(3000), range(3100)]
    >>> trace = prefixsim.Trace.from_prompts(chat, timestamp=[0, 60])
    >>> found = prefixsim.bill(trace, "anthropic", prices="prices.toml")
    >>> total = found.charges[0].total
    >>> total.read_tokens, total.written_tokens, str(total.cost), str(total.cost_without)
    (3000, 3100, '0.012525', '0.0183')
    """
    trace = trace_of(source)
    if trace.kind == "text":
        trace = tokenize_trace(trace, model or DEFAULT_MODEL)
    if breakpoints not in BREAKPOINTS:
        msg = f"breakpoints is {breakpoints!r}, choose one of {', '.join(BREAKPOINTS)}"
        raise InputError(msg)
    file = None if prices is None else PriceFile(prices)
    day = price_date or date.today()
    names = [provider] if isinstance(provider, str) else list(provider)
    named = [part for name in names for part in name.split(",") if part]
    if not named:
        raise InputError("provider is empty, name one such as anthropic")
    times = [ttl] if isinstance(ttl, str) else list(ttl or ())
    times = [part for given in times for part in given.split(",")]
    ends = None if block_start is None else block_ends(trace, block_start)
    replayer = Replayer(trace, ends)
    found = lint(trace, max_requests=_LINTED, model=model) if findings else None
    charges: list[Charge] = []
    alternatives: list[Alternative] = []
    assumptions: dict[str, list[str]] = {}
    for spec in named:
        rules = _rules(spec, file)
        kept = [rules.kept(time) for time in _offered(rules, times)]
        own = [_charged(replayer, rules_kept, breakpoints, file, day) for rules_kept in kept]
        charges += own
        alternatives += _alternatives(replayer, own, file, day)
        if found is not None:
            alternatives += _mended(own[0], found)
        assumptions[spec] = assumed(own[0], ends is not None)
    alternatives.sort(key=lambda a: -a.saves)
    return Bill(trace, charges, alternatives, assumptions)


def block_ends(trace: Trace, block_start: int) -> Ragged:
    """Return where the content blocks of each prompt end: before each ``block_start`` token.

    Parameters
    ----------
    trace : Trace
        Of token ids.
    block_start : int

    Raises
    ------
    InputError
        If the trace has no token ids.
    """
    if trace.prompts is None or trace.kind != "tokens":
        msg = f"{trace.name}: has no token ids, block_start needs them"
        raise InputError(msg)
    ends = []
    for row in range(len(trace)):
        prompt = trace.prompts[row]
        at = np.flatnonzero(prompt == block_start)
        ends.append(np.r_[at[at > 0], len(prompt)])
    return Ragged.from_lists(ends)


def _rules(spec: str, file: PriceFile | None) -> Provider:
    name, _, model = spec.partition(":")
    priced = model or None
    if priced is None and file is not None:
        known = file.models(name)
        priced = known[0] if known else None
    rules = provider_named(name, priced)
    if file is not None and rules.model in file.models(name):
        minimum = file.prices(name, rules.model).minimum
        if minimum is not None:
            told = tuple(t for t in rules.assumed if not t.startswith("the smallest prefix of"))
            rules = replace(rules, minimum=minimum, assumed=told)
    return rules


def _offered(rules: Provider, times: list[str]) -> list[str]:
    if not times:
        return [rules.ttl]
    offered = []
    for time in times:
        try:
            rules.kept(time)
        except InputError:
            if len(times) == 1:
                raise
            continue
        offered.append(time)
    return offered or [rules.ttl]


def _charged(
    replayer: Replayer, rules: Provider, breakpoints: Breakpoints, file: PriceFile | None, day: date
) -> Charge:
    prices = prices_of(rules, file, day)
    prices.check_ttl(rules.ttl)
    usage = replayer.usage(rules, breakpoints)
    places = breakpoints if rules.breakpoints else None
    return Charge(replayer.trace, rules, places, prices, usage)


def _alternatives(
    replayer: Replayer, own: list[Charge], file: PriceFile | None, day: date
) -> list[Alternative]:
    """Return what other breakpoints and times to live would save over the first charge."""
    base = own[0]
    rules, prices = base.provider, base.prices
    found = []
    times = list(dict.fromkeys([*(rules.ttls or (rules.ttl, *_LONGER))]))
    places = BREAKPOINTS if rules.breakpoints else (None,)
    for time in times:
        for place in places:
            other = rules.kept(time)
            if (other.ttl_s, place) == (rules.ttl_s, base.breakpoints):
                continue
            if other.ttl_s <= rules.ttl_s and not rules.ttls:
                continue
            try:
                prices.check_ttl(time)
            except InputError:
                continue
            charge = _charged(replayer, other, place or "end", file, day)
            words = [] if other.ttl_s == rules.ttl_s else [f"keep entries {other.ttl}"]
            if place != base.breakpoints and place is not None:
                words.append(_PLACES[place])
            saves = base.total.cost - charge.total.cost
            found.append(Alternative(rules.name, prices.model, ", ".join(words), saves))
    return found


_PLACES = {
    "end": "one breakpoint, on the last block",
    "shared": "breakpoints only where shared prefixes end",
    "shared+end": "breakpoints where shared prefixes end and on the last block",
}


def _mended(base: Charge, found: Lint) -> list[Alternative]:
    """Return what the findings of the lint cost at a provider's prices."""
    band = base.prices.bands[0]
    gain = band.input - band.of_read
    return [
        Alternative(
            base.provider.name,
            base.prices.model,
            f"{finding.kind} behind …{finding.slot}: {finding.advice}",
            money(finding.tokens, gain),
            at_most=True,
        )
        for finding in found.findings
        if gain > 0
    ]
