"""``prefixsim bill``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson, Reading
from prefixsim.cli._options import REQUIRED, Command, comma_list
from prefixsim.settings import argument, setting

__all__ = ["COMMAND", "BillOptions", "bill_command"]

_PROVIDERS = ("openai", "anthropic", "gemini", "deepseek")


def _read_list(value: object) -> tuple[str, ...]:
    parts = tuple(part for part in comma_list(value) if part)
    if not parts:
        raise ValueError("give one or more, with commas")
    return parts


def _read_day(value: object) -> date:
    try:
        return value if isinstance(value, date) else date.fromisoformat(str(value))
    except ValueError:
        raise ValueError("give a day like 2026-11-24") from None


@dataclass(frozen=True)
class BillOptions(Reading, AsJson):
    """Options of ``prefixsim bill``."""

    trace: Path = argument(REQUIRED, help="A trace file.", metavar="TRACE")
    provider: tuple[str, ...] = setting(
        _PROVIDERS,
        help="openai, azure, anthropic, gemini, gemini-explicit, deepseek, xai, mistral, moonshot; "
        "with a model as anthropic:NAME; several with commas.",
        metavar="NAME,...",
        read=_read_list,
        shown_default=",".join(_PROVIDERS),
    )
    ttl: tuple[str, ...] = setting(
        (),
        help="How long entries are kept, like 5m,1h; each provider takes those it offers.",
        metavar="TIME,...",
        read=_read_list,
        shown_default="the provider's",
    )
    prices: Path | None = setting(
        None,
        help="A TOML file of prices; providers it does not name are priced by genai-prices.",
        metavar="FILE",
    )
    price_date: date | None = setting(
        None,
        help="The day the prices of genai-prices hold for.",
        metavar="DAY",
        read=_read_day,
        shown_default="today",
    )
    breakpoints: str = setting(
        "end",
        help="Where requests have breakpoints (Anthropic): on the last block, where shared "
        "prefixes end, or both.",
        choices=("end", "shared", "shared+end"),
    )
    block_start: int | None = setting(
        None,
        help="The token that begins each content block; with it, the look-back is counted.",
        least=0,
        metavar="ID",
    )
    findings: bool = setting(True, help="Price what the prompt lint finds.")


def bill_command(options: BillOptions) -> None:
    """Work the bill out, and print it."""
    from prefixsim._json import dumps
    from prefixsim.billing.bill import bill
    from prefixsim.billing.places import BREAKPOINTS
    from prefixsim.billing.tables import bill_tables
    from prefixsim.cli._terminal import print_tables, tokenized, working
    from prefixsim.trace.provenance import trace_facts

    trace = tokenized(options.read(options.trace), options.model, options.cache_dir)
    where = next(place for place in BREAKPOINTS if place == options.breakpoints)
    with working(f"billing {trace.name}"):
        found = bill(
            trace,
            options.provider,
            ttl=options.ttl,
            prices=options.prices,
            price_date=options.price_date,
            breakpoints=where,
            block_start=options.block_start,
            model=options.model,
            findings=options.findings,
        )
    if options.as_json:
        facts = trace_facts(trace, trace.digest)
        sys.stdout.write(dumps({"trace": facts, "bill": found.to_dict()}))
    else:
        print_tables(bill_tables(found))


COMMAND = Command("bill", COMMANDS["bill"], BillOptions, bill_command)
