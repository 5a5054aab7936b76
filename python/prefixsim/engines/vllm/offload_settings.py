"""Settings of vLLM's KV offloading, which ``engine="vllm"`` has among its own."""

from __future__ import annotations

from dataclasses import dataclass, fields

from prefixsim.engines.cache_size import read_cache_size
from prefixsim.engines.contract import MOST
from prefixsim.settings import setting
from prefixsim.sizes import Size

__all__ = ["NAMES", "OffloadSettings"]


@dataclass(frozen=True)
class OffloadSettings:
    """KV offloading to host memory and disk; names are vLLM's where it has them.

    Attributes
    ----------
    kv_offloading_size : int, Size or None
        Host memory in blocks of the device, or bytes; ``None``: no offloading.
    blocks_per_chunk : int
        Blocks that are offloaded as one.
    eviction_policy : str
        Order of eviction from host memory.
    store_threshold : int
        How often a chunk has to be offered before it is stored.
    max_tracker_size : int
        Chunks whose offers are counted.
    offload_prompt_only : bool
        Generated tokens are not stored.
    sync_load_budget_bytes : int
        Bytes that a step may load inside itself.
    load_us, store_us : float
        Microseconds that a chunk takes; a bandwidth in their place.
    offload_bandwidth : float or None
        Bytes per second, in units of 10^9.
    offload_disk : bool
        A tier below host memory, without a limit of its own.
    disk_read_us, disk_write_us : float
        Microseconds that a chunk takes.
    disk_lookup : str
        ``sync``: answered at once; ``next_step``: in the step after.
    """

    kv_offloading_size: int | Size | None = setting(
        None,
        help="Host memory below the GPU: blocks, or bytes.",
        unit="blocks",
        least=1,
        most=MOST,
        metavar="SIZE",
        read=read_cache_size,
        none="none",
        shown_default="none: no offloading",
    )
    blocks_per_chunk: int = setting(
        1, help="Blocks that are offloaded as one chunk.", unit="blocks", least=1, most=2**16
    )
    eviction_policy: str = setting(
        "lru", help="Order in which host memory evicts.", choices=("lru", "arc"), metavar="NAME"
    )
    store_threshold: int = setting(
        0,
        help="How often a chunk is offered before host memory takes it; 0, 1: at once.",
        unit="offers",
        least=0,
        most=2**31,
    )
    max_tracker_size: int = setting(
        64_000, help="Chunks whose offers are counted.", unit="chunks", least=1, most=2**31
    )
    offload_prompt_only: bool = setting(
        True,
        help="Offload prompts, not generated tokens.",
        flag="--offload-prompt-only",
        off="--offload-decoded",
    )
    sync_load_budget_bytes: int = setting(
        0,
        help="Bytes a step may load inside itself; 0: all loads go beside the steps.",
        unit="bytes",
        least=0,
    )
    load_us: float = setting(
        0.0, help="Microseconds to load a chunk from host memory.", unit="us", least=0, most=1e9
    )
    store_us: float = setting(
        0.0, help="Microseconds to store a chunk.", unit="us", least=0, most=1e9
    )
    offload_bandwidth: float | None = setting(
        None,
        help="Bandwidth to host memory, each way, in place of the two times.",
        unit="GB/s",
        least=1e-6,
        shown_default="none",
    )
    offload_disk: bool = setting(False, help="A disk without limit below host memory.")
    disk_read_us: float = setting(
        0.0, help="Microseconds to read a chunk from disk.", unit="us", least=0, most=1e9
    )
    disk_write_us: float = setting(
        0.0, help="Microseconds to write a chunk to disk.", unit="us", least=0, most=1e9
    )
    disk_lookup: str = setting(
        "sync",
        help="When the disk says what it has: at once, or in the next step.",
        choices=("sync", "next_step"),
    )


NAMES = tuple(field.name for field in fields(OffloadSettings))
"""Names of the settings, which mean nothing without the first."""
