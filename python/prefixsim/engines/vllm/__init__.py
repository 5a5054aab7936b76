"""vLLM V1 step by step: its scheduler and KV cache manager, with time."""

from __future__ import annotations

from prefixsim.engines.contract import Capabilities, Engine, Record
from prefixsim.engines.vllm.options import FROM_VERSION
from prefixsim.engines.vllm.settings import VllmSettings
from prefixsim.engines.vllm.versions import VERSIONS

__all__ = ["ENGINE", "FROM_VERSION", "VERSIONS", "VllmSettings"]

ENGINE = Engine(
    name="vllm",
    title="vLLM V1: its scheduler and KV cache manager, with time",
    settings=VllmSettings,
    run="prefixsim.engines.vllm.simulate:replay",
    fleet="prefixsim.engines.vllm.fleet:serve",
    server="prefixsim.engines.vllm.server:settings_said",
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
        refused={
            "max_num_active_seqs": "requests that run at once are bounded by max_num_seqs alone",
            "max_num_queued_tokens": "no request is turned away",
            "max_num_scheduled_tokens": "tokens of a step are bounded by max_num_batched_tokens "
            "alone",
            "prefill_schedule_interval": "prompts may begin in every step",
            "max_num_partial_prefills": "0.33 has no such setting",
            "max_long_partial_prefills": "0.33 has no such setting",
            "mamba_cache_mode": "0.33 keeps states at block boundaries with prefix caching, and "
            "one state without",
            "mamba_block_size": "it follows from the model and block_size",
            "hash_block_size": "it is prefix_match_unit",
            "scheduler_cls": "schedulers of your own are not run",
            "stream_interval": "outputs are known token by token",
            "kv_transfer_config": "nothing is transferred between servers",
            "kv_offloading_size": "blocks live on the GPU alone",
            "kv_offloading_backend": "blocks live on the GPU alone",
            "pipeline_parallel_size": "one stage computes all layers",
            "data_parallel_size": "one server is simulated",
            "decode_context_parallel_size": "each GPU keeps all tokens",
            "prefill_context_parallel_size": "each GPU keeps all tokens",
            "enable_lora": "adapters are told apart by the trace's salts",
            "max_loras": "adapters are told apart by the trace's salts",
            "speculative_config": "give spec_method and num_speculative_tokens",
            "gpu_memory_utilization": "give the memory of the cache, kv_memory",
        },
    ),
)
