"""``prefixsim info``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefixsim._json import JsonObject
from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson, Reading
from prefixsim.cli._options import REQUIRED, Command
from prefixsim.settings import argument, setting

if TYPE_CHECKING:
    from prefixsim.table import Table

__all__ = ["COMMAND", "Info", "info_command"]

_SPREADS = {
    "prompt_len": "prompt tokens",
    "prompt_characters": "prompt characters",
    "messages_per_request": "messages per request",
    "output_len": "output tokens",
    "turns_per_session": "turns per session",
}
_STATISTICS = ("mean", "min", "median", "p90", "p99", "max")
_LABELS_SHOWN = 12


@dataclass(frozen=True)
class Info(Reading, AsJson):
    """Options of ``prefixsim info``."""

    trace: str = argument(REQUIRED, help="File, pattern, or '-'.", metavar="TRACE")
    block_size: int | None = setting(
        None, help="For the ceiling hit rate.", least=1, unit="tokens", shown_default="16"
    )


def info_command(options: Info) -> None:
    """Print what is in a trace."""
    from prefixsim._json import dumps
    from prefixsim.cli._terminal import print_tables
    from prefixsim.study.describe import info

    facts = info(options.read(options.trace), block_size=options.block_size)
    if options.as_json:
        sys.stdout.write(dumps(facts))
    else:
        print_tables(_tables(facts))


def _tables(facts: JsonObject) -> list[Table]:
    from prefixsim.table import Table

    tables = [Table(facts["name"], ["", ""], _rows(facts))]
    spreads = [
        [label, *(f"{facts[key][s]:,.1f}" for s in _STATISTICS)]
        for key, label in _SPREADS.items()
        if facts.get(key)
    ]
    tables.append(Table("", ["", *_STATISTICS], spreads))
    for name in ("category", "salt", "rows_skipped"):
        if name in facts:
            counts = sorted(facts[name].items(), key=lambda item: -item[1])
            rows = [[label or "(none)", f"{n:,}"] for label, n in counts[:_LABELS_SHOWN]]
            if len(counts) > _LABELS_SHOWN:
                rows.append([f"... and {len(counts) - _LABELS_SHOWN:,} more", ""])
            tables.append(Table("", [name.replace("_", " "), "requests"], rows))
    if facts.get("lost"):
        rows = [[lost["what"], f"{lost['calls']:,}", lost["keep"]] for lost in facts["lost"]]
        tables.append(Table("", ["the log does not hold", "calls", "what keeps it"], rows))
    return tables


def _rows(facts: JsonObject) -> list[list[str]]:
    rate = facts["request_rate"]
    rows: list[tuple[str, str | None]] = [
        ("format", f"{facts['format']} ({facts.get('texts', facts['kind'])})"),
        ("requests", f"{facts['requests']:,}"),
        ("sessions", f"{facts['sessions']:,}" if "sessions" in facts else None),
        ("prompt tokens", f"{facts['prompt_tokens']:,}" if "prompt_tokens" in facts else None),
        ("output tokens", f"{facts['output_tokens']:,}" if "output_tokens" in facts else None),
        ("time span", f"{facts['span_s']:,.1f} s"),
        ("request rate", None if rate is None else f"{rate:,.3f} requests/s"),
        ("same time as the one before", f"{facts['same_time_as_before']:,}"),
    ]
    if facts.get("duplicate_request_ids"):
        rows.append(("duplicate request ids", f"{facts['duplicate_request_ids']:,}"))
    if "hash_ids" in facts:
        rows += [
            ("tokens per hash id", f"{facts['id_block_size']:,}"),
            ("hash ids", f"{facts['hash_ids']:,}"),
            ("ids with several prefixes", _unchained(facts["unchained_ids"])),
        ]
    if "block_size" in facts:
        ceiling = facts["ceiling_token_hit_rate"]
        rows += [
            ("block size", f"{facts['block_size']:,} tokens"),
            ("unique blocks", f"{facts['unique_blocks']:,}"),
            ("ceiling token hit rate", f"{100 * ceiling:.2f} % (infinite cache)"),
        ]
    return [[label, value] for label, value in rows if value is not None]


def _unchained(count: int) -> str:
    if not count:
        return "0 (chained)"
    return f"{count:,} (not chained; 'convert --content-hashes' chains them)"


COMMAND = Command("info", COMMANDS["info"], Info, info_command)
