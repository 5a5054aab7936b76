"""What a running SGLang says of its cache: ``/server_info``."""

from __future__ import annotations

from collections.abc import Mapping

from prefixsim._json import JsonObject

__all__ = ["settings_said"]

# Arguments of SGLang's server that are settings of the engine, under the same names.
_NUMBERS: dict[str, tuple[type[int] | type[float], ...]] = {
    "chunked_prefill_size": (int,),
    "max_prefill_tokens": (int,),
    "max_running_requests": (int,),
    "schedule_conservativeness": (int, float),
}


def settings_said(metrics: str, info: object) -> JsonObject:
    """Return the settings among the server's arguments and the sizes its scheduler found."""
    del metrics
    if not isinstance(info, Mapping):
        return {}
    page = info.get("page_size")
    if not isinstance(page, int) or page < 1:
        return {}
    found: JsonObject = {"block_size": page}
    tokens = info.get("max_total_num_tokens")
    if isinstance(tokens, int):
        found["num_blocks"] = tokens // page
    for name, kinds in _NUMBERS.items():
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
