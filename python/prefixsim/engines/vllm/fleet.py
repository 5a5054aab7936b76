"""Many vLLM servers behind a router."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.engines.served import request_times
from prefixsim.engines.vllm.settings import VllmSettings
from prefixsim.engines.vllm.simulate import core_settings, workload_of
from prefixsim.forest import Forest

__all__ = ["serve"]


def serve(
    forest: Forest, settings: VllmSettings, fleet: Mapping[str, object]
) -> tuple[JsonObject, JsonObject]:
    """Let servers serve a trace where a router sends each request.

    Parameters
    ----------
    forest : Forest
    settings : VllmSettings
        Of every server.
    fleet : mapping
        Requests, router and settings of the fleet, as the core takes them.

    Returns
    -------
    raw, times : dict, dict
        Columns of the core, and seconds per request.
    """
    # Routers are known from recordings of servers that schedule synchronously.
    settings = replace(settings, async_scheduling=bool(settings.async_scheduling))
    workload = workload_of(forest, settings)
    wanted = core_settings(settings, forest.trace, steps=False, events=False, tables=False)
    raw = workload.serve_fleet(fleet, wanted)
    trace = forest.trace
    sampled = np.maximum(trace.output_len, 1).astype(np.int64)
    if settings.max_model_len is not None:
        sampled = np.minimum(sampled, settings.max_model_len - trace.prompt_len.astype(np.int64))
    return raw, request_times(raw["requests"], sampled)
