"""Settings of the generic hierarchy."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import blocks_in
from prefixsim.engines.contract import EngineSettings
from prefixsim.engines.tiers.lower import POLICIES, LowerTier, read_lower_tiers
from prefixsim.settings import setting

__all__ = ["TiersSettings"]


@dataclass(frozen=True)
class TiersSettings(EngineSettings):
    """Settings of ``engine="tiers"``. ``num_blocks`` is the size of the fastest tier, HBM.

    Attributes
    ----------
    lower_tiers : tuple of LowerTier
        What is below HBM, the fastest first; see :class:`.LowerTier`.
    hbm_policy : str
        Order in which HBM drops blocks.
    prefill_rate : float or None
        Prompt tokens that the GPU computes in a second; with it, blocks are loaded only where that
        is faster than computing them.
    """

    lower_tiers: tuple[LowerTier, ...] = setting(
        (),
        help="Tiers below HBM, like dram:64GiB:exclusive+disk:1TB:uses=2, the fastest first. Rules "
        "of each: exclusive, write-back, head-first, lru|fifo|lfu|mru, uses=N, "
        "sees=all|from-loads|misses, bandwidth=25GB, latency=1ms.",
        metavar="TIER+...",
        read=read_lower_tiers,
        shown_default="none",
    )
    hbm_policy: str = setting("lru", help="Order in which HBM drops blocks.", choices=POLICIES)
    prefill_rate: float | None = setting(
        None,
        help="Prompt tokens computed in a second: load only what takes longer to compute.",
        unit="tokens/s",
        least=1e-9,
        metavar="N",
        shown_default="load always",
    )

    def tier_blocks(self, tier: LowerTier) -> int | None:
        """Return the size of a tier in blocks; ``None``: without limit.

        Raises
        ------
        InputError
            If it is in bytes and the bytes of a token are not known.
        """
        return blocks_in(
            tier.size,
            self.tokens_per_block,
            bytes_per_token=self.bytes_per_token,
            model_config=self.model_config,
            kv_cache_dtype=self.kv_cache_dtype,
            tensor_parallel=self.tensor_parallel,
            label=tier.name,
        )

    def to_config(self, engine: str) -> JsonObject:
        """Return the settings as the ``config`` of an outcome: JSON values."""
        found = super().to_config(engine)
        found["lower_tiers"] = "+".join(map(str, self.lower_tiers))
        found["lower_tier_blocks"] = {t.name: self.tier_blocks(t) for t in self.lower_tiers}
        return found
