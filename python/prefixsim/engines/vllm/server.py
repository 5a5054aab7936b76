"""What a running vLLM says of its cache: the labels of ``vllm:cache_config_info``."""

from __future__ import annotations

import re

from prefixsim._json import JsonObject

__all__ = ["settings_said"]

_INFO = "vllm:cache_config_info"
_LABEL = re.compile(r'(?P<name>\w+)="(?P<value>(?:[^"\\]|\\.)*)"')


def settings_said(metrics: str, info: object) -> JsonObject:
    """Return the settings in the text of ``/metrics``; empty if it is not vLLM's."""
    del info
    for line in metrics.split("\n"):
        if line.startswith(_INFO):
            return _settings({m["name"]: m["value"] for m in _LABEL.finditer(line)})
    return {}


def _settings(labels: dict[str, str]) -> JsonObject:
    found: JsonObject = {}
    for theirs, ours in (("block_size", "block_size"), ("num_gpu_blocks", "num_blocks")):
        if labels.get(theirs, "").isdecimal():
            found[ours] = int(labels[theirs])
    if labels.get("enable_prefix_caching") in ("True", "False"):
        found["enable_caching"] = labels["enable_prefix_caching"] == "True"
    return found
