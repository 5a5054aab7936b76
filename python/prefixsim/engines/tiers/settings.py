"""Settings of the generic hierarchy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import blocks_in
from prefixsim.engines.contract import EngineSettings
from prefixsim.engines.tiers.lower import POLICIES, LowerTier, read_lower_tiers
from prefixsim.settings import setting

__all__ = ["TiersSettings", "towards_surface"]


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

    @property
    def tier_sizes(self) -> dict[str, int | None]:
        """Blocks of each tier, the fastest first; ``None``: no limit."""
        return {"hbm": self.blocks, **{t.name: self.tier_blocks(t) for t in self.lower_tiers}}

    def to_config(self, engine: str) -> JsonObject:
        """Return the settings as the ``config`` of an outcome: JSON values."""
        found = super().to_config(engine)
        found["lower_tiers"] = "+".join(map(str, self.lower_tiers))
        found["lower_tier_blocks"] = {t.name: self.tier_blocks(t) for t in self.lower_tiers}
        return found


_PLAIN: tuple[tuple[str, JsonObject], ...] = (
    ("each tier drops what was used longest ago", {"policy": "lru"}),
    ("rarely used blocks are written too", {"min_uses": 1}),
    ("new blocks are written with their beginning last", {"head_first": False}),
    ("a tier sees every use", {"sees": "all"}),
)


def towards_surface(settings: TiersSettings) -> list[tuple[str, EngineSettings]]:
    """Return what sets a hierarchy apart from the surface, one change at a time.

    The last settings are those of exclusive tiers if all lower ones are, else of inclusive ones.
    """
    steps: list[tuple[str, EngineSettings]] = []

    def step(words: str, changed: TiersSettings) -> TiersSettings:
        if changed != settings:
            steps.append((words, changed))
        return changed

    settings = step("all that is found is loaded", replace(settings, prefill_rate=None))
    settings = step("HBM drops what was used longest ago", replace(settings, hbm_policy="lru"))
    for words, change in _PLAIN:
        lower = tuple(replace(tier, **change) for tier in settings.lower_tiers)
        settings = step(words, replace(settings, lower_tiers=lower))
    if not all(tier.exclusive for tier in settings.lower_tiers):
        lower = tuple(
            replace(tier, exclusive=False, write="through") for tier in settings.lower_tiers
        )
        step("each tier has a copy of what is above", replace(settings, lower_tiers=lower))
    return steps
