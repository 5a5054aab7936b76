"""What is in a trace."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import block_size_for
from prefixsim.forest import compile as compile_forest
from prefixsim.formats.sources import trace_of
from prefixsim.stats import Distribution, distribution
from prefixsim.trace import Trace

__all__ = ["info"]


def info(trace: Trace | str | Path, *, block_size: int | None = None) -> JsonObject:
    """Tell what is in a trace.

    Parameters
    ----------
    trace : Trace or path
    block_size : int, optional
        For the ceiling hit rate. Default: the tokens per hash id of a hashed trace, the block size
        of recorded KV events, else 16.

    Returns
    -------
    dict
        JSON-ready; entries that do not apply to the kind of trace are left out.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(48), range(40)])
    >>> facts = prefixsim.info(trace)
    >>> facts["requests"], facts["unique_blocks"], round(facts["ceiling_token_hit_rate"], 3)
    (3, 3, 0.5)
    """
    trace = trace_of(trace)
    span = float(trace.timestamp[-1] - trace.timestamp[0])
    facts: JsonObject = {
        "name": trace.name,
        "format": trace.format,
        "kind": trace.kind,
        "requests": len(trace),
        "span_s": span,
        "request_rate": (len(trace) - 1) / span if span > 0 else None,
        "same_time_as_before": int(np.sum(np.diff(trace.timestamp) == 0)),
    }
    if trace.kind != "text":
        facts["output_tokens"] = int(trace.output_len.sum(dtype=np.uint64))
        facts["output_len"] = _spread(trace.output_len)
        facts["prompt_tokens"] = trace.prompt_tokens
        facts["prompt_len"] = _spread(trace.prompt_len)
    if trace.texts is not None:
        facts["prompt_characters"] = _spread(
            np.fromiter((len(text) for text in trace.texts), np.uint64, len(trace))
        )
    if trace.texts is not None and trace.meta.get("texts") == "messages":
        messages = [len(json.loads(text).get("messages", ())) for text in trace.texts]
        facts["texts"] = "messages"
        facts["messages_per_request"] = _spread(np.array(messages))
    if trace.request_id is not None:
        ids = [name for name in trace.request_id if name]
        facts["duplicate_request_ids"] = len(ids) - len(set(ids))
    if trace.session is not None:
        turns = np.unique(trace.session.codes, return_counts=True)[1]
        facts["sessions"] = len(turns)
        facts["turns_per_session"] = _spread(turns)
    for name in ("salt", "category"):
        codes = getattr(trace, name)
        if codes is not None:
            used, counts = np.unique(codes.codes, return_counts=True)
            facts[name] = {codes.names[code]: int(n) for code, n in zip(used, counts, strict=True)}
    if "rows_skipped" in trace.meta:
        facts["rows_skipped"] = trace.meta["rows_skipped"]
    if "lost" in trace.meta:
        facts["lost"] = trace.meta["lost"]
    if trace.prompts is not None:
        facts |= _sharing(trace, block_size)
    return facts


def _spread(values: npt.NDArray[np.generic]) -> Distribution:
    """Summarize values in the order mean, median, p90, p99 between the extremes."""
    if not len(values):
        return {}
    summary = distribution(values)
    return {name: summary[name] for name in ("mean", "min", "median", "p90", "p99", "max")}


def _sharing(trace: Trace, block_size: int | None) -> JsonObject:
    assert trace.prompts is not None
    recorded = trace.meta.get("block_size") if "kv_events" in trace.meta else None
    size = block_size_for(trace, recorded if block_size is None else block_size)
    forest = compile_forest(trace)
    profile = forest.profile(size)
    limit = np.maximum(trace.prompt_len.astype(np.int64) - 1, 0) // size
    hits = np.minimum(profile.reusable_blocks, limit)
    facts: JsonObject = {
        "block_size": size,
        "unique_blocks": profile.unique_blocks,
        "ceiling_hit_tokens": int(hits.sum()) * size,
        "ceiling_token_hit_rate": float(hits.sum() * size / max(trace.prompt_tokens, 1)),
    }
    if trace.kind == "hashes":
        facts["id_block_size"] = trace.id_block_size
        facts["hash_ids"] = len(trace.prompts.values)
        facts["unchained_ids"] = len(forest.unchained_ids())
    return facts
