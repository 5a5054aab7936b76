"""``prefixsim lint``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson, Reading
from prefixsim.cli._options import REQUIRED, Command
from prefixsim.settings import argument, setting

__all__ = ["COMMAND", "LintOptions", "lint_command"]


@dataclass(frozen=True)
class LintOptions(Reading, AsJson):
    """Options of ``prefixsim lint``."""

    trace: Path = argument(REQUIRED, help="A trace file.", metavar="TRACE")
    min_requests: int = setting(
        3, help="Requests a finding has to concern.", least=1, unit="requests", metavar="N"
    )
    min_share: float = setting(
        0.001, help="Share of all prompt tokens it has to cost.", least=0, metavar="SHARE"
    )
    max_requests: int = setting(
        20_000, help="Requests looked at; of more, every so many.", least=1, metavar="N"
    )


def lint_command(options: LintOptions) -> None:
    """Look for what breaks prefixes, and print the findings."""
    from prefixsim._json import dumps
    from prefixsim.cli._terminal import print_tables, tokenized, working
    from prefixsim.explanations.lint import lint, lint_tables
    from prefixsim.forest import load_or_compile
    from prefixsim.text.pretrained import load_tokenizer

    read = options.read(options.trace)
    trace = tokenized(read, options.model, options.cache_dir)
    model = str(trace.meta["tokenizer"]) if read.kind == "text" else options.model
    with working(f"looking at {trace.name}"):
        decode = None
        if model is not None and trace.kind == "tokens":
            decode = load_tokenizer(model).decode
        found = lint(
            load_or_compile(trace, options.cache_dir),
            decode,
            min_requests=options.min_requests,
            min_share=options.min_share,
            max_requests=options.max_requests,
        )
    if options.as_json:
        head = {"name": trace.name, "requests": len(trace), "digest": trace.digest}
        sys.stdout.write(dumps({"trace": head, "lint": found.to_dict()}))
    else:
        print_tables(lint_tables(found))


COMMAND = Command("lint", COMMANDS["lint"], LintOptions, lint_command)
