"""``prefixsim explain``."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim._screen import paint, styled_output
from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson, Measuring, Reading
from prefixsim.cli._options import REQUIRED, Command, EngineChoice
from prefixsim.errors import InputError
from prefixsim.settings import argument, setting

if TYPE_CHECKING:
    from prefixsim.explanations.request import RequestExplanation
    from prefixsim.explanations.waterfall import Waterfall

__all__ = ["COMMAND", "ExplainOptions", "explain_command"]

COLOURS = {
    "hit": "blue",
    "cold": "grey",
    "isolated": "magenta",
    "rounding": "yellow",
    "last_token": "cyan",
    "in_flight": "green",
    "window": "bright yellow",
    "state": "bright magenta",
    "alignment": "bright cyan",
    "speculative_drop": "bright blue",
    "evicted": "red",
    "preempted": "bright red",
}
LETTERS = {
    "hit": "H",
    "cold": "C",
    "isolated": "I",
    "rounding": "R",
    "last_token": "L",
    "in_flight": "F",
    "window": "W",
    "state": "S",
    "alignment": "A",
    "speculative_drop": "D",
    "evicted": "E",
    "preempted": "P",
}


@dataclass(frozen=True)
class ExplainOptions(Measuring, Reading, AsJson):
    """Options of ``prefixsim explain``."""

    trace: Path = argument(REQUIRED, help="A trace file.", metavar="TRACE")
    request: str | None = setting(
        None, help="Explain one request: its id, or its row from 0.", metavar="ID"
    )
    top: int = setting(5, help="Rows in each list of those that lose most.", least=1, metavar="N")


def explain_command(options: ExplainOptions, choice: EngineChoice) -> None:
    """Replay a trace, and tell where its misses come from."""
    from prefixsim._json import dumps
    from prefixsim.cli._terminal import working
    from prefixsim.study.replay import replay

    trace = options.read_tokens(options.trace)
    with working(f"replaying {trace.name}"):
        result = replay(trace, engine=choice.name, warmup=options.warmup, **choice.given)
        fall = result.waterfall()
        if options.request is None:
            told: object = fall.to_dict(options.top)
        else:
            explained = _one(fall, options.request, options.model)
            told = explained.to_dict()
    if options.as_json:
        key = "waterfall" if options.request is None else "request"
        whole = result.to_dict()
        head = {name: whole[name] for name in ("trace", "config", "provenance")}
        sys.stdout.write(dumps({**head, key: told}))
    elif options.request is None:
        _print_waterfall(fall, options.top)
    else:
        _print_request(explained)


def _one(fall: Waterfall, request: str, model: str | None) -> RequestExplanation:
    from prefixsim.explanations.request import explain_request, find_request

    decode = None
    if model is not None:
        if fall.trace.kind != "tokens":
            msg = f"--model: {fall.trace.name} has hash ids, which no tokenizer can decode"
            raise InputError(msg)
        from prefixsim.text.pretrained import load_tokenizer

        decode = load_tokenizer(model).decode
    return explain_request(fall, find_request(fall.trace, request), decode)


def _print_waterfall(fall: Waterfall, count: int) -> None:
    from prefixsim.cli._terminal import print_tables
    from prefixsim.explanations.waterfall import top_tables, waterfall_tables

    if sys.stdout.isatty():
        _draw(fall)
    print_tables([*waterfall_tables(fall), *top_tables(fall, count)])


def _draw(fall: Waterfall) -> None:
    """Bars that go on where the one above ends: from the hits to the whole prompt."""
    from prefixsim.explanations.classes import label
    from prefixsim.reports.draw import bar

    width = max(10, min(72, shutil.get_terminal_size().columns - 24))
    whole, done = max(1, fall.prompt_tokens), 0
    styled = styled_output()
    sys.stdout.write("\n")
    for name, tokens in fall.totals.items():
        if tokens:
            before = done * width // whole
            drawn = bar(tokens / whole, width)[: width - before].rstrip() or "▏"
            drawn = paint(drawn, COLOURS[name], styled=styled)
            sys.stdout.write(f"{label(name):>10} {' ' * before}{drawn} {tokens / whole:.1%}\n")
            done += tokens


def _print_request(explained: RequestExplanation) -> None:
    from prefixsim.cli._terminal import print_tables
    from prefixsim.explanations.classes import label
    from prefixsim.explanations.request import request_tables
    from prefixsim.reports.draw import line_of

    blocks = explained.blocks()
    lines = line_of(blocks, LETTERS)
    shown = set(blocks)
    legend = "  ".join(f"{LETTERS[n]} {label(n)}" for n in LETTERS if n in shown)
    styled = styled_output()
    colour = {LETTERS[name]: COLOURS[name] for name in LETTERS}
    for line in lines:
        parts = [
            paint("".join(alike), "bold", colour[letter], styled=styled)
            for letter, alike in groupby(line)
        ]
        sys.stdout.write(f"  {''.join(parts)}\n")
    sys.stdout.write(f"  ({legend})\n\n")
    sys.stdout.flush()
    print_tables(request_tables(explained))


COMMAND = Command("explain", COMMANDS["explain"], ExplainOptions, explain_command, engines="one")
