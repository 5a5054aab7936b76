"""SGLang step by step: its radix cache and scheduler, with time, and HiCache."""

from __future__ import annotations

from prefixsim.engines.contract import Capabilities, Engine, Record
from prefixsim.engines.sglang.settings import POLICIES, VERSIONS, SglangSettings

__all__ = ["ENGINE", "POLICIES", "VERSIONS", "SglangSettings"]

ENGINE = Engine(
    name="sglang",
    title="SGLang: its radix cache and scheduler, with time",
    settings=SglangSettings,
    run="prefixsim.engines.sglang.simulate:replay",
    fleet="prefixsim.engines.sglang.fleet:serve",
    server="prefixsim.engines.sglang.server:settings_said",
    capabilities=Capabilities(
        has_time=True,
        caches_outputs=True,
        caches_last_output=True,
        default_block_size=1,
        records=(
            Record(
                "sglang_steps",
                "--sglang-steps-out",
                "Write one row per step of SGLang (.parquet, .csv, .jsonl).",
                (".parquet", ".csv", ".jsonl"),
            ),
        ),
        differs={
            "granularity": "single tokens (pages of page_size tokens) of a radix tree",
            "outputs": "generated tokens are cached when the request ends, the last one rarely",
            "eviction": "whole nodes of the tree, leaves only: all tokens since the last branch",
            "scheduling": "prefill goes before decoding, never both in a step; requests without "
            "memory are retracted and computed again",
        },
    ),
)
