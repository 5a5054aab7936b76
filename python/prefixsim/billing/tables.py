"""Tables of a bill."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from prefixsim.billing.bill import Alternative, Bill
from prefixsim.billing.charge import Amount, Charge
from prefixsim.table import Table, written

__all__ = ["bill_tables", "dollars"]

_MOST = 10


def bill_tables(bill: Bill) -> list[Table]:
    """Return what is charged, when caching pays, what would save money, and what was assumed."""
    tables = [_charges(bill), _break_even(bill.charges)]
    tables += [_by(bill, column) for column in bill.labels]
    if bill.alternatives:
        tables.append(_alternatives(bill.alternatives))
    told = [[name, line] for name, lines in bill.assumptions.items() for line in lines]
    header = ["provider", "taken as given"]
    return [*tables, Table("", header, told, words=2)]


def dollars(amount: Decimal) -> str:
    """Write an amount of money: cents, and more places where there are only few cents."""
    sign = "-" if amount < 0 else ""
    size = abs(amount)
    places = 2 if size >= 1 or not size else 4
    return f"{sign}${size:,.{places}f}"


def _head(charge: Charge) -> list[str]:
    return [charge.provider.name, charge.prices.model, charge.provider.ttl]


def _figures(amount: Amount) -> list[str]:
    return [
        written(amount.read_tokens, "count"),
        written(amount.written_tokens, "count"),
        written(amount.rest_tokens, "count"),
        written(amount.read_share, "rate"),
        dollars(amount.cost),
        dollars(amount.cost_without),
        dollars(amount.saved),
        written(amount.saved_share, "rate"),
    ]


_FIGURES = ["read", "written", "rest", "read share", "bill", "uncached", "saved", "saved share"]


def _charges(bill: Bill) -> Table:
    trace = bill.trace
    outputs = int(trace.output_len.sum(dtype="uint64"))
    title = (
        f"{trace.name}: {len(trace):,} requests · {trace.prompt_tokens:,} prompt tokens · "
        f"{outputs:,} output tokens"
    )
    rows = [[*_head(c), *_figures(c.total)] for c in bill.charges]
    return Table(title, ["provider", "model", "kept", *_FIGURES], rows, words=3)


def _break_even(charges: Sequence[Charge]) -> Table:
    rows, notes = [], []
    for c in charges:
        needed = "-" if c.break_even is None else written(float(c.break_even), "number")
        rows.append(
            [*_head(c), needed, written(c.reads_per_write, "number"),
             written(c.reread_share, "rate"), written(c.token_hours, "count")]
        )  # fmt: skip
        notes.append(_verdict(c))
    header = ["break-even", "", "", "reads needed", "reads", "read again", "token-hours kept"]
    return Table("", header, rows, notes, words=3)


def _verdict(charge: Charge) -> str:
    had, needed = charge.reads_per_write, charge.break_even
    if needed is None:
        return "reads are no cheaper than input: caching never pays"
    if had is None:
        return f"no prompt of {charge.provider.minimum:,} tokens: nothing is cached"
    saved = charge.total.saved
    if saved > 0:
        return f"caching pays: it saves {dollars(saved)}"
    return f"caching costs {dollars(-saved)} more than it saves" if saved else "nothing is saved"


def _by(bill: Bill, column: str) -> Table:
    found = bill.by(column)
    found.sort(key=lambda row: (bill.charges.index(row[0]), -row[2].cost))
    rows = []
    for charge in bill.charges:
        own = [row for row in found if row[0] is charge]
        rows += [
            [name or "(none)", *_head(charge), *_figures(amount)] for _, name, amount in own[:_MOST]
        ]
        if len(own) > _MOST:
            rows.append([f"{len(own) - _MOST:,} more", *_head(charge), *[""] * len(_FIGURES)])
    return Table("", [column, "provider", "model", "kept", *_FIGURES], rows, words=4)


def _alternatives(alternatives: Sequence[Alternative]) -> Table:
    rows = [
        [a.provider, a.model, a.change, f"{'at most ' if a.at_most else ''}{dollars(a.saves)}"]
        for a in alternatives[:_MOST]
        if a.saves
    ]
    if not rows:
        rows = [["", "", "no other breakpoints, time to live or order changes the bill", ""]]
    return Table("", ["provider", "model", "what else could be done", "saves"], rows, words=3)
