"""Settings of ``engine="sglang"``, under SGLang's own names."""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim._json import JsonObject
from prefixsim.engines.serving import ServingSettings
from prefixsim.errors import InputError
from prefixsim.settings import setting

__all__ = ["POLICIES", "VERSIONS", "SglangSettings"]

VERSIONS = ("unified-0.5.23", "radix-0.5.23", "radix-0.5.16", "radix-0.5.9")
"""Releases, and which of their trees; the first is what the server of 0.5.23 builds."""

POLICIES = ("lru", "lfu", "fifo", "mru", "filo", "priority", "slru", "tlru")
"""Orders of eviction; ``slru`` came after 0.5.9, ``tlru`` belongs to the unified tree."""


@dataclass(frozen=True)
class SglangSettings(ServingSettings):
    """Settings of ``engine="sglang"``; names and defaults are SGLang's where it has them.

    Attributes
    ----------
    block_size, page_size : int or None
        Tokens per page; two names for one thing, kept under the first. Default: 1 for token ids.
    num_blocks : int or None
        Pages of the pool: ``max_total_num_tokens`` over the page size. ``None``: no limit.
    sglang_version : str
        One of :data:`VERSIONS`.
    schedule_policy : str
        Order of the waiting queue.
    radix_eviction_policy : str
        Order of eviction, one of :data:`POLICIES`.
    protected_threshold : int
        ``slru``: hits from which a node is protected.
    tlru_threshold, next_prompt_estimate : int
        ``tlru``: tokens that may be lost, and by how many the next prompt is expected to be longer.
    chunked_prefill_size : int or None
        Prompt tokens of one step beyond which a prompt is cut; ``None``: never.
    max_prefill_tokens : int
        Prompt tokens of one step beyond which no further prompt is added.
    max_running_requests : int
    schedule_conservativeness : float
        Larger: fewer requests are admitted, fewer retracted.
    disable_overlap_schedule : bool
        Notice the results of a step before the next one is chosen.
    max_new_tokens_slack : int
        By how many tokens the ``max_new_tokens`` of a request exceeds its output. Above 0 requests
        end by an end token, at 0 by length.
    enable_hierarchical_cache : bool
        HiCache: host memory as a second tier; with ``arrivals="sequential"``.
    hicache_ratio : float
        Host memory over device memory.
    hicache_write_policy : str
        When nodes are copied to the host.
    """

    page_size: int | None = setting(
        None,
        help="Tokens per page of SGLang: the same as the block size.",
        unit="tokens",
        least=1,
        shown_default="the block size, 1 for token ids",
    )
    sglang_version: str = setting(
        VERSIONS[0], help="Rules of this SGLang version.", choices=VERSIONS, metavar="V"
    )
    schedule_policy: str = setting(
        "fcfs",
        help="Order of the waiting queue.",
        choices=("fcfs", "lpm", "lof", "dfs-weight", "hrrn"),
        metavar="NAME",
    )
    radix_eviction_policy: str = setting(
        "lru", help="Order in which SGLang evicts.", choices=POLICIES, metavar="NAME"
    )
    protected_threshold: int = setting(
        2, help="slru: hits from which a node is protected.", unit="hits", least=0, most=2**31
    )
    tlru_threshold: int = setting(
        0, help="tlru: tokens of a conversation that may be lost.", unit="tokens", least=0
    )
    next_prompt_estimate: int = setting(
        0, help="tlru: tokens that the next prompt is expected to add.", unit="tokens", least=0
    )
    chunked_prefill_size: int | None = setting(
        8192,
        help="Prompt tokens of a step beyond which a prompt is cut, or 'none'.",
        unit="tokens",
        least=1,
        none="none",
    )
    max_prefill_tokens: int = setting(
        16384,
        help="Prompt tokens of a step beyond which no prompt is added.",
        unit="tokens",
        least=1,
        most=2**31,
    )
    max_running_requests: int = setting(
        256, help="Requests running at once in SGLang.", unit="requests", least=1, most=2**31
    )
    schedule_conservativeness: float = setting(
        1.0, help="Larger: fewer requests are admitted, fewer retracted.", least=0, metavar="X"
    )
    disable_overlap_schedule: bool = setting(
        False, help="Notice the results of a step before the next one is chosen."
    )
    max_new_tokens_slack: int = setting(
        0,
        help="By how many tokens max_new_tokens of a request exceeds its output.",
        unit="tokens",
        least=0,
        most=2**31,
    )
    enable_hierarchical_cache: bool = setting(
        False, help="HiCache: host memory as second tier; with --arrivals sequential."
    )
    hicache_ratio: float = setting(
        2.0, help="Host memory over device memory.", least=1e-9, metavar="X"
    )
    hicache_write_policy: str = setting(
        "write_through",
        help="When nodes are copied to the host.",
        choices=("write_through", "write_through_selective", "write_back"),
        metavar="NAME",
    )

    def __post_init__(self) -> None:
        if self.page_size is not None:
            if self.block_size not in (None, self.page_size):
                msg = (
                    f"page_size {self.page_size} and block_size {self.block_size}: both are the "
                    "tokens per page, give one of them"
                )
                raise InputError(msg)
            object.__setattr__(self, "block_size", self.page_size)
            object.__setattr__(self, "page_size", None)
        if self.enable_hierarchical_cache and self.arrivals != "sequential":
            msg = (
                "enable_hierarchical_cache: its rules are known for one request after the other, "
                "give arrivals='sequential' (--arrivals sequential)"
            )
            raise InputError(msg)

    @property
    def capacity_tokens(self) -> int | None:
        """Tokens of the pool; ``None``: no limit."""
        return None if self.blocks is None else self.blocks * self.tokens_per_block

    def eviction(self) -> JsonObject:
        """Return the order of eviction as the core takes it."""
        return {
            "policy": self.radix_eviction_policy,
            "protected_threshold": self.protected_threshold,
            "threshold": self.tlru_threshold,
            "next_prompt_estimate": self.next_prompt_estimate,
        }

    def to_config(self, engine: str) -> JsonObject:
        """Return the settings as the ``config`` of an outcome."""
        return {**super().to_config(engine), "page_size": self.block_size}
