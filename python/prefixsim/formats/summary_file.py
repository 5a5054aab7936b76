"""The summary file beside traces: how they were made, for formats that cannot say it themselves."""

from __future__ import annotations

import json
from pathlib import Path

from prefixsim._json import JsonObject
from prefixsim.trace import Trace

__all__ = ["SUMMARY_FILE", "origin_of"]

SUMMARY_FILE = "trace_summary.json"
"""Its name, beside the traces it is about."""


def origin_of(trace: Trace, path: str | Path) -> JsonObject:
    """Return how a trace file was made, for formats that cannot say it themselves.

    Taken from the summary beside the file, if it names a file like this one with as many requests
    and prompt tokens.

    Returns
    -------
    dict
        ``config`` and ``seed``, as in the ``meta`` of a trace; empty if nothing is known.
    """
    path = Path(path)
    try:
        summary = json.loads((path.parent / SUMMARY_FILE).read_bytes())
        for row in summary["traces"].values():
            same = (path.name, len(trace), trace.prompt_tokens)
            if same == (row["file"], row["requests"], row["prompt_tokens"] or 0):
                return {"config": summary["config"], "seed": summary["provenance"]["seed"]}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return {}
