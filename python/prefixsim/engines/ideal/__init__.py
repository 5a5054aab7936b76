"""The ideal cache: one copy of a block, requests one after the other, any policy."""

from __future__ import annotations

from prefixsim.engines.contract import Capabilities, Engine
from prefixsim.engines.ideal.settings import IdealSettings
from prefixsim.eviction import POLICIES

__all__ = ["ENGINE", "IdealSettings"]

ENGINE = Engine(
    name="ideal",
    title="the ideal cache: one copy of a block, requests one after the other",
    settings=IdealSettings,
    run="prefixsim.engines.ideal.simulate:replay",
    totals="prefixsim.engines.ideal.simulate:totals",
    capabilities=Capabilities(
        policies=POLICIES,
        default_for=("unbounded",),
        on_segments=True,
        exact_evictions=True,
        differs={
            "granularity": "blocks",
            "outputs": "only prompts are cached unless outputs are asked for",
            "eviction": "single blocks, deepest first, in the order of its policy",
            "scheduling": "none: requests take no time and hold nothing",
        },
    ),
)
