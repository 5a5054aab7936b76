"""vLLM V1 step by step: its scheduler and KV cache manager, with time."""

from __future__ import annotations

from prefixsim.engines.contract import Capabilities, Engine, Record
from prefixsim.engines.vllm.settings import FROM_VERSION, VERSIONS, VllmSettings

__all__ = ["ENGINE", "FROM_VERSION", "VERSIONS", "VllmSettings"]

ENGINE = Engine(
    name="vllm",
    title="vLLM V1: its scheduler and KV cache manager, with time",
    settings=VllmSettings,
    run="prefixsim.engines.vllm.simulate:replay",
    fleet="prefixsim.engines.vllm.fleet:serve",
    capabilities=Capabilities(
        has_time=True,
        null_blocks=1,
        caches_outputs=True,
        default_for=("timed",),
        records=(
            Record(
                "kv_events",
                "--kv-events",
                "Write the KV events vLLM would publish, as JSON Lines.",
            ),
            Record(
                "steps",
                "--steps-out",
                "Write one row per step (.parquet, .csv, .jsonl).",
                (".parquet", ".csv", ".jsonl"),
            ),
        ),
        differs={
            "granularity": "full blocks, found by the hash of all tokens before",
            "outputs": "generated tokens are cached as their blocks fill",
            "eviction": "single blocks, least recently freed first, deepest first of a request",
            "scheduling": "first come first served; decoding goes before prefill in a step",
        },
    ),
)
