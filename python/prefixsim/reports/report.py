"""The report of what was replayed, or is to be: one call, one offline page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefixsim.formats.sources import trace_of
from prefixsim.reports.fleet import write_fleet_report
from prefixsim.reports.page import write_report
from prefixsim.study.fleet_result import FleetResult
from prefixsim.study.replay import replay
from prefixsim.study.result import Result
from prefixsim.text.pretrained import load_tokenizer
from prefixsim.trace import Trace

__all__ = ["report"]


def report(
    source: Result | Sequence[Result] | FleetResult | Trace | str | Path,
    path: str | Path,
    *,
    bytes_per_token: float | None = None,
    model: str | None = None,
    **settings: Any,
) -> Path:
    """Write one offline HTML page with every figure of one or more replays.

    Parameters
    ----------
    source : Result, sequence of Result, FleetResult, Trace or path
        What was replayed or routed, or what to replay.
    path : str or Path
        The page.
    bytes_per_token : float, optional
        Of the KV cache: capacities are then in GB (10^9 bytes).
    model : str, optional
        Tokenizer of a trace of text, and to show what top prefixes say.
    **settings
        For what is still to be replayed, as for :func:`prefixsim.replay`.

    Returns
    -------
    Path
        The page's.

    Examples
    --------
    >>> import prefixsim, tempfile
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(48), range(40)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = prefixsim.report(trace, f"{folder}/report.html", block_size=8)
    ...     page.read_text()[:15]
    '<!doctype html>'
    """
    if isinstance(source, FleetResult):
        return write_fleet_report(source, path)
    if isinstance(source, Result):
        results: Sequence[Result] = [source]
    elif isinstance(source, Trace | str | Path):
        results = [replay(trace_of(source), model=model, **settings)]
    else:
        results = source
    decode = None if model is None else load_tokenizer(model).decode
    return write_report(results, path, bytes_per_token=bytes_per_token, decode=decode)
