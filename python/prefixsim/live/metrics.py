"""Counters and settings of a server, from its ``/metrics`` and what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["METRICS", "kept_lines", "settings_of", "values"]

_LINE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?P<labels>\{[^}]*\})?\s+(?P<value>\S+)")
_LABEL = re.compile(r'(?P<name>\w+)="(?P<value>(?:[^"\\]|\\.)*)"')

# What of /metrics is about the prefix cache and the scheduler.
METRICS = ("prefix_cache", "kv_cache", "cache_config", "num_requests", "preempt", "cache_hit",
           "prompt_tokens", "cached_tokens", "evicted", "token_usage", "kv_block")  # fmt: skip


# Arguments of SGLang's server that are settings of the engine, under the same names.
_SGLANG_NUMBERS: dict[str, tuple[type[int] | type[float], ...]] = {
    "chunked_prefill_size": (int,),
    "max_prefill_tokens": (int,),
    "max_running_requests": (int,),
    "schedule_conservativeness": (int, float),
}


def kept_lines(text: str) -> str:
    """Return the lines of an exposition that are about cache and scheduler, without buckets."""
    lines = (line for line in text.split("\n") if line and not line.startswith("#"))
    return "\n".join(
        line for line in lines if any(m in line for m in METRICS) and "_bucket" not in line
    )


def values(text: str) -> dict[str, float]:
    r"""Return the sum over labels of each metric; what is no number is left out.

    >>> values('hits_total{engine="0"} 3.0\nhits_total{engine="1"} 4.0')
    {'hits_total': 7.0}
    """
    found: dict[str, float] = {}
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match:
            try:
                found[match["name"]] = found.get(match["name"], 0.0) + float(match["value"])
            except ValueError:
                continue
    return found


def settings_of(metrics: str, models: object = None, info: object = None) -> dict[str, object]:
    """Return what a server says of its cache, in the names of the engines' settings.

    Parameters
    ----------
    metrics : str
        ``/metrics``: vLLM says its cache's configuration in ``vllm:cache_config_info``.
    models, info : object
        JSON of ``/v1/models`` (longest request) and of SGLang's ``/server_info``.
    """
    found: dict[str, object] = {}
    for line in metrics.split("\n"):
        if line.startswith("vllm:cache_config_info"):
            labels = {m["name"]: m["value"] for m in _LABEL.finditer(line)}
            found |= _vllm(labels)
    if isinstance(models, Mapping):
        for model in models.get("data") or ():
            length = model.get("max_model_len") if isinstance(model, Mapping) else None
            if isinstance(length, int):
                found["max_model_len"] = length
    if isinstance(info, Mapping):
        found |= _sglang(info)
    return found


def _sglang(info: Mapping[object, object]) -> dict[str, object]:
    """Return what ``/server_info`` says: the server's arguments and its scheduler's sizes."""
    page = info.get("page_size")
    if not isinstance(page, int) or page < 1:
        return {}
    found: dict[str, object] = {"engine": "sglang", "block_size": page}
    tokens = info.get("max_total_num_tokens")
    if isinstance(tokens, int):
        found["num_blocks"] = tokens // page
    for name, kinds in _SGLANG_NUMBERS.items():
        value = info.get(name)
        if isinstance(value, kinds) and not isinstance(value, bool) and value > 0:
            found[name] = value
    for name in ("schedule_policy", "radix_eviction_policy"):
        if isinstance(info.get(name), str):
            found[name] = info[name]
    if isinstance(info.get("disable_overlap_schedule"), bool):
        found["disable_overlap_schedule"] = info["disable_overlap_schedule"]
    if info.get("disable_radix_cache") is True:
        found["enable_caching"] = False
    return found


def _vllm(labels: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {"engine": "vllm"}
    for theirs, ours in (("block_size", "block_size"), ("num_gpu_blocks", "num_blocks")):
        if labels.get(theirs, "").isdecimal():
            found[ours] = int(labels[theirs])
    if labels.get("enable_prefix_caching") in ("True", "False"):
        found["enable_caching"] = labels["enable_prefix_caching"] == "True"
    return found
