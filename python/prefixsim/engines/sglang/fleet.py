"""Many SGLang servers behind a router."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.engines.served import request_times
from prefixsim.engines.sglang.settings import SglangSettings
from prefixsim.engines.sglang.simulate import core_settings, workload_of
from prefixsim.forest import Forest

__all__ = ["serve"]


def serve(
    forest: Forest, settings: SglangSettings, fleet: Mapping[str, object]
) -> tuple[JsonObject, JsonObject]:
    """Let servers serve a trace where a router sends each request.

    Parameters
    ----------
    forest : Forest
    settings : SglangSettings
        Of every server.
    fleet : mapping
        Requests, router and settings of the fleet, as the core takes them.

    Returns
    -------
    raw, times : dict, dict
        Columns of the core, and seconds per request.
    """
    workload = workload_of(forest, settings)
    raw: JsonObject = {**workload.simulate(**core_settings(settings, forest.trace), fleet=fleet)}
    sampled = np.maximum(forest.trace.output_len, 1).astype(np.int64)
    return raw, request_times(raw["requests"], sampled)
