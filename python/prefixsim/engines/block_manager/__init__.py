"""vLLM's KV cache manager, request after request, without time."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim.engines.contract import MOST, Capabilities, Engine, EngineSettings
from prefixsim.settings import setting

__all__ = ["ENGINE", "BlockManagerSettings"]


@dataclass(frozen=True)
class BlockManagerSettings(EngineSettings):
    """Settings of ``engine="block-manager"``.

    Attributes
    ----------
    concurrency : int
        Requests that hold their blocks at once; the oldest gives way to the next.
    """

    concurrency: int = setting(
        1,
        help="Requests that hold their blocks at once.",
        unit="requests",
        least=1,
        most=MOST,
        metavar="K",
    )


ENGINE = Engine(
    name="block-manager",
    title="vLLM's KV cache manager, request after request, without time",
    settings=BlockManagerSettings,
    run="prefixsim.engines.block_manager.simulate:replay",
    capabilities=Capabilities(
        null_blocks=1,
        default_for=("bounded",),
        differs={
            "granularity": "blocks",
            "outputs": "only prompts are cached unless outputs are asked for",
            "eviction": "single blocks, least recently freed first",
            "scheduling": "none: a fixed number of requests hold their blocks",
        },
    ),
)
