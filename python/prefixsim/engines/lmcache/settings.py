"""Settings of ``engine="lmcache"``, under LMCache's own names where it has them."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim.engines.cache_size import blocks_in, read_cache_size
from prefixsim.engines.contract import MOST, EngineSettings
from prefixsim.errors import SettingError
from prefixsim.settings import setting
from prefixsim.sizes import Size

__all__ = ["IN_PROCESS", "SERVER", "LmcacheSettings"]

IN_PROCESS = ("lru", "lfu", "fifo", "mru")
"""Orders of eviction inside a process."""

SERVER = ("lru", "arc")
"""Orders of eviction of the server."""


@dataclass(frozen=True)
class LmcacheSettings(EngineSettings):
    """Settings of ``engine="lmcache"``; rules and defaults are those of LMCache 0.5.6.

    Attributes
    ----------
    block_size : int or None
        ``chunk_size``; 256 for token ids.
    num_blocks : int, Size or None
        Chunks in host memory (``max_local_cpu_size`` in bytes); ``None``: no limit.
    lmcache_mode : str
        ``in-process``: inside the engine's process. ``server``: a server of its own, whose first
        level makes room once a second.
    disk_blocks : int or Size
        Chunks on disk (``max_local_disk_size``); 0: no disk. Inside a process only.
    cache_policy : str
        Order of eviction: one of :data:`IN_PROCESS`, or of :data:`SERVER`.
    trigger_watermark : float
        Server: share of its memory in use from which it makes room.
    eviction_ratio : float
        Server: share of its chunks that it drops then.
    """

    lmcache_mode: str = setting(
        "in-process",
        help="LMCache inside the engine's process, or as a server of its own.",
        choices=("in-process", "server"),
    )
    disk_blocks: int | Size = setting(
        0,
        help="Size of LMCache's disk tier: blocks or bytes; 0: none.",
        unit="blocks",
        least=0,
        most=MOST,
        metavar="SIZE",
        read=read_cache_size,
    )
    cache_policy: str = setting(
        "lru",
        help="Order in which LMCache evicts; arc: the server's, lfu, fifo, mru: in a process.",
        choices=("lru", "lfu", "fifo", "mru", "arc"),
        metavar="NAME",
    )
    trigger_watermark: float = setting(
        0.8,
        help="Share of its memory from which LMCache's server makes room.",
        least=0,
        most=1,
        metavar="SHARE",
    )
    eviction_ratio: float = setting(
        0.2,
        help="Share of its chunks that LMCache's server drops then.",
        least=0,
        most=1,
        metavar="SHARE",
    )

    def __post_init__(self) -> None:
        server = self.lmcache_mode == "server"
        known = SERVER if server else IN_PROCESS
        if self.cache_policy not in known:
            msg = (
                f"cache_policy {self.cache_policy!r}: LMCache has {' and '.join(known)} with "
                f"lmcache_mode={self.lmcache_mode!r}, choose one"
            )
            raise SettingError(msg)
        if server and self.disk_blocks:
            msg = "disk_blocks: the server's first level is memory alone, leave the disk out"
            raise SettingError(msg)

    @property
    def blocks_of_all_tiers(self) -> int | None:
        """What memory and disk hold, in chunks; ``None``: no limit."""
        if self.blocks is None:
            return None
        disk = blocks_in(
            self.disk_blocks,
            self.tokens_per_block,
            bytes_per_token=self.bytes_per_token,
            model_config=self.model_config,
            kv_cache_dtype=self.kv_cache_dtype,
            tensor_parallel=self.tensor_parallel,
            label="disk_blocks",
        )
        return None if disk is None else self.blocks + disk

    @property
    def counted_in_blocks(self) -> tuple[str, ...]:
        """Settings that are numbers of chunks."""
        return ("num_blocks", "disk_blocks")
