"""A hierarchy of one's own: any number of tiers, each with its size, speed and rules."""

from __future__ import annotations

from prefixsim.engines.contract import Capabilities, Engine
from prefixsim.engines.tiers.lower import LowerTier
from prefixsim.engines.tiers.settings import TiersSettings

__all__ = ["ENGINE", "LowerTier", "TiersSettings"]

ENGINE = Engine(
    name="tiers",
    title="tiers of memory of one's own rules, requests one after the other",
    settings=TiersSettings,
    run="prefixsim.engines.tiers.simulate:replay",
    capabilities=Capabilities(
        towards_surface="prefixsim.engines.tiers.settings:towards_surface",
        differs={
            "granularity": "blocks",
            "outputs": "only prompts are cached unless outputs are asked for",
            "eviction": "single blocks, in the order of each tier's policy",
            "scheduling": "none: requests hold nothing, and what loads cost delays nobody",
        },
    ),
)
