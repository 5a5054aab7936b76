"""vLLM's KV cache manager, request after request, without time.

Semantics: vLLM 0.33 ``v1/core/kv_cache_manager.py`` and ``block_pool.py``. A request is admitted
with all its blocks, the trailing partial one included; ``concurrency`` requests hold their blocks
at once, the oldest gives way to the next. ``num_blocks`` is ``num_gpu_blocks``, of which one is the
null block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prefixsim import _core
from prefixsim.engines.outcome import Outcome, residency_of

if TYPE_CHECKING:
    from prefixsim.engines.block_manager import BlockManagerSettings
    from prefixsim.forest import Forest

__all__ = ["replay"]

NAME = "block-manager"


def replay(forest: Forest, settings: BlockManagerSettings) -> Outcome:
    """Replay a trace with the block manager."""
    trace = forest.trace
    config = settings.to_config(NAME)
    found = _run(forest, settings)
    hit_tokens = found["hit_tokens"]
    return Outcome(
        engine=NAME,
        config=config,
        hit_tokens=hit_tokens,
        hit_blocks=hit_tokens // np.uint32(settings.tokens_per_block),
        computed_tokens=trace.prompt_len - hit_tokens,
        counters={
            "evictions": int(found["request_evictions"][settings.measured_from :].sum()),
            "peak_blocks": found["peak_used"],
        },
        residency=residency_of(found),
    )


def _run(forest: Forest, settings: BlockManagerSettings) -> _core._BlockManagerReplay:
    trace = forest.trace
    outputs = trace.outputs if settings.cache_outputs else None
    return _core.replay_forest_blocks(
        forest.core,
        trace.prompt_len,
        settings.tokens_per_block,
        settings.blocks,
        settings.enable_caching,
        settings.concurrency,
        output_offsets=None if outputs is None else outputs.offsets,
        timestamp=trace.timestamp if settings.blocks is not None else None,
        measured_from=settings.measured_from,
    )
