"""LMCache alone: chunks of prompts in host memory and on disk, requests one after the other."""

from __future__ import annotations

from prefixsim.engines.contract import Capabilities, Engine
from prefixsim.engines.lmcache.settings import LmcacheSettings

__all__ = ["ENGINE", "LmcacheSettings"]

ENGINE = Engine(
    name="lmcache",
    title="LMCache: chunks of prompts in host memory and on disk",
    settings=LmcacheSettings,
    run="prefixsim.engines.lmcache.simulate:replay",
    capabilities=Capabilities(
        default_block_size=256,
        differs={
            "granularity": "full chunks of 256 tokens",
            "outputs": "generated tokens are not stored",
            "eviction": "single chunks; a prompt's head was stored first and goes first",
            "scheduling": "requests go one after the other, without time",
        },
    ),
)
