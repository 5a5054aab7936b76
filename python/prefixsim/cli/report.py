"""``prefixsim report``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefixsim._json import JsonObject
from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import Measuring, Reading
from prefixsim.cli._options import REQUIRED, Command, EngineChoice, usage_error
from prefixsim.settings import argument, setting

if TYPE_CHECKING:
    from prefixsim.engines import Engine
    from prefixsim.explanations.lint import Lint
    from prefixsim.forest import Forest
    from prefixsim.study.grid import Forests
    from prefixsim.study.result import Result

__all__ = ["COMMAND", "ReportOptions", "report_command"]

_MOST_RESULTS = 24


@dataclass(frozen=True)
class ReportOptions(Measuring, Reading):
    """Options of ``prefixsim report``."""

    traces: tuple[Path, ...] = argument(
        REQUIRED, help="Trace files; several are compared.", metavar="TRACE...", many=True
    )
    output: Path = setting(
        Path("report.html"), help="HTML file to write.", flag=("-o", "--output"), metavar="FILE"
    )


def report_command(options: ReportOptions, choice: EngineChoice) -> None:
    """Replay traces, explain them, and write the page."""
    from prefixsim._files import check_writable
    from prefixsim.cli._terminal import working
    from prefixsim.engines.cache_size import token_bytes
    from prefixsim.explanations.lint import lint
    from prefixsim.reports.page import write_report
    from prefixsim.study.grid import Forests, combinations

    check_writable(options.output)
    cells = combinations(choice.names or None, choice.given)
    if len(cells) * len(options.traces) > _MOST_RESULTS:
        msg = (
            f"{len(cells) * len(options.traces)} results on one page, give at most {_MOST_RESULTS}"
        )
        raise usage_error("report", msg)
    first = {name: values[0] for name, values in choice.given.items()}
    per_token = token_bytes(
        first.get("bytes_per_token"),
        first.get("model_config"),
        first.get("kv_cache_dtype"),
        first.get("tensor_parallel", 1),
    )
    results: list[Result] = []
    findings: list[Lint] = []
    decode = None
    for path in options.traces:
        trace = options.read_tokens(path)
        with working(f"replaying {trace.name}"):
            forests = Forests(trace)
            results += [
                _replayed(forests, engine, given, options.warmup) for engine, given in cells
            ]
        forest = results[-1].metrics.forest
        with working(f"looking at the prompts of {trace.name}"):
            decode = _decoder(forest, options.model) or decode
            if decode is not None and trace.kind == "tokens":
                findings.append(lint(forest, decode))
    with working(f"writing {options.output}"):
        write_report(
            results, options.output, bytes_per_token=per_token, decode=decode, lint=findings
        )
    size = options.output.stat().st_size / 1e6
    sys.stdout.write(f"wrote {options.output} ({size:.1f} MB)\n")


def _replayed(forests: Forests, engine: Engine, given: JsonObject, warmup: float) -> Result:
    """Replay one combination on a forest that is compiled once for all."""
    from prefixsim.study.replay import replay, settled

    settings = settled(forests.trace, engine, given)
    return replay(forests.of(settings), engine=engine, settings=settings, warmup=warmup)


def _decoder(forest: Forest, model: str | None) -> Callable[..., str] | None:
    """Return what turns ids into text, if a tokenizer was named."""
    from prefixsim.text.pretrained import load_tokenizer

    if forest.trace.kind != "tokens" or model is None:
        return None
    decode: Callable[..., str] = load_tokenizer(model).decode
    return decode


COMMAND = Command("report", COMMANDS["report"], ReportOptions, report_command, engines="many")
