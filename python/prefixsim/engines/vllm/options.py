"""Options of ``engine="vllm"``, under vLLM's own names: each declared once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from prefixsim.engines.serving import ServingSettings
from prefixsim.engines.vllm.drafting import METHODS, read_acceptance
from prefixsim.engines.vllm.kv_groups import Grouping, KvGroups, read_groups
from prefixsim.engines.vllm.versions import rules_of
from prefixsim.settings import setting

__all__ = ["FROM_VERSION", "FromVersion", "VllmOptions"]


class FromVersion(Enum):
    """The type of :data:`FROM_VERSION`."""

    FROM_VERSION = "version"

    def __str__(self) -> str:
        return self.value


FROM_VERSION = FromVersion.FROM_VERSION
"""A switch is as in the version that is simulated."""


def _read_version(value: object) -> str:
    """Return a version that is simulated."""
    version = str(value)
    rules_of(version)
    return version


def _read_priorities(value: object) -> tuple[int, ...]:
    """Return priorities, repeated over the requests of a trace."""
    parts = value if isinstance(value, tuple | list) else str(value).split(",")
    try:
        found = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError("give whole numbers with commas, like 0,1,1") from None
    if not found or not all(0 <= n < 2**32 for n in found):
        raise ValueError("give whole numbers from 0, like 0,1,1")
    return found


def _read_retention(value: object) -> int | FromVersion | None:
    """Return what ``retention_interval`` stands for."""
    if value is None or value == "all":
        return None
    if isinstance(value, FromVersion) or value == FROM_VERSION.value:
        return FROM_VERSION
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    raise ValueError("give a whole number, 'all', or 'version'")


@dataclass(frozen=True)
class VllmOptions(ServingSettings):
    """Options of ``engine="vllm"``; names and defaults are vLLM's where it has them.

    Attributes
    ----------
    num_blocks : int or None
        ``num_gpu_blocks``, the null block included. ``None``: no limit.
    version : str
        A release in one of the ranges of :data:`~prefixsim.engines.vllm.versions.VERSIONS`, whose
        rules hold; one without a patch is the first of its minor version. Also defaults of the four
        switches below.
    max_num_seqs : int or None
        Requests running at once.
    max_num_batched_tokens : int or None
        Tokens per step.
    enable_chunked_prefill : bool
    long_prefill_token_threshold : int
        Tokens of one request per step while there are others; 0: no limit.
    long_prefill_token_threshold_adaptive : bool
    watermark : float
        Share of the blocks that an admission beside running requests has to leave free.
    max_model_len : int or None
    sliding_window : int or None
        Attention window, if all layers have one.
    uncached_first : bool or None
        Uncached blocks go to the front of the free queue; off: to the back, like all others.
    reserve_full_isl : bool or None
        A request is admitted only if all its known tokens fit.
    stats_at_lookup : bool or None
        Statistics count every lookup, not every admission.
    retention_interval : int, None or FROM_VERSION
        Which blocks of sliding windows and states are cached: 0 the ends of prompts, ``None`` all,
        else also those before multiples of it.
    kv_groups : KvGroups or None
        KV cache groups, see :mod:`prefixsim.engines.vllm.kv_groups`. ``None``: those of
        ``model_config``, else one of full attention.
    prefix_match_unit : int or None
        Tokens of a hash; ``None``: the greatest common divisor of the groups' block sizes.
    disable_hybrid_kv_cache_manager : bool
        Layers with a window or chunk keep everything, as full attention does.
    mamba_shared_prefix_checkpoint : bool
        States are also kept where an earlier request with the same prefix left it.
    scheduling_policy : str
    priorities : tuple of int or None
        Of the first, second... request of the trace, repeated; the smallest comes first.
    async_scheduling : bool or None
        A step is scheduled before the outputs of the one before are known.
    spec_method : str or None
        How drafts are made.
    num_speculative_tokens : int
        Drafts of a step.
    spec_acceptance : float or tuple of int
        Share of drafts accepted one by one, or accepted drafts step by step.
    eagle_hits : str
        How hits respect that a drafter's layers also read the next token: hashes that look ahead,
        the last block dropped, or not at all.
    grouping : Grouping or None
        The groups, settled by :meth:`for_model` of the settings; ``None``: one of full attention or
        with ``sliding_window``.
    """

    version: str = setting(
        "0.33",
        help="Rules of this vLLM version, 0.11.0 to 0.33.",
        flag=("--vllm-version", "--version"),
        metavar="V",
        read=_read_version,
    )
    max_num_seqs: int | None = setting(
        None,
        help="Requests running at once.",
        unit="requests",
        least=1,
        shown_default="256; a server's on the GPU that --latency names",
    )
    max_num_batched_tokens: int | None = setting(
        None,
        help="Tokens per step.",
        unit="tokens",
        least=1,
        shown_default="8192; a server's on the GPU that --latency names",
    )
    max_model_len: int | None = setting(
        None, help="Tokens of a request at most.", unit="tokens", least=1, shown_default="no limit"
    )
    enable_chunked_prefill: bool = setting(
        True,
        help="Prefill a prompt over several steps.",
        flag=("--chunked-prefill", "--enable-chunked-prefill"),
    )
    long_prefill_token_threshold: int = setting(
        0,
        help="Tokens of one request per step while there are others; 0: no limit.",
        unit="tokens",
        least=0,
    )
    long_prefill_token_threshold_adaptive: bool = setting(
        False, help="Raise that threshold to an equal share of the step's tokens."
    )
    watermark: float = setting(
        0.0, help="Share of blocks an admission leaves free.", least=0, below=1, metavar="SHARE"
    )
    sliding_window: int | None = setting(
        None,
        help="Attention window of a model whose layers all have one.",
        unit="tokens",
        least=1,
        shown_default="none",
    )
    uncached_first: bool | None = setting(
        None,
        help="Uncached blocks are the next to be taken when they are freed.",
        shown_default="as the version does",
    )
    reserve_full_isl: bool | None = setting(
        None,
        help="Admit a request only if all its known tokens fit.",
        shown_default="as the version does",
    )
    stats_at_lookup: bool | None = setting(
        None,
        help="Count every lookup in the statistics, not every admission.",
        shown_default="as the version does",
    )
    retention_interval: int | FromVersion | None = setting(
        FROM_VERSION,
        help="Which blocks of sliding windows and states are cached: 0 the ends of prompts, 'all' "
        "all, N also those before multiples of N.",
        flag=("--retention-interval", "--prefix-cache-retention-interval"),
        metavar="N",
        read=_read_retention,
        shown_default="as the version does",
    )
    kv_groups: KvGroups | None = setting(
        None,
        help="KV cache groups by hand, like 'full:1,sliding_window=1024:5' or 'full,mamba:3'.",
        metavar="GROUPS",
        read=read_groups,
        shown_default="those of --model-config",
        separator=";",
    )
    prefix_match_unit: int | None = setting(
        None,
        help="Tokens of a hash: where hits of models with states may end.",
        unit="tokens",
        least=1,
        since="0.26",
        shown_default="the blocks' greatest common divisor",
    )
    disable_hybrid_kv_cache_manager: bool = setting(
        False, help="Layers with a window or chunk keep all tokens, as full attention does."
    )
    mamba_shared_prefix_checkpoint: bool = setting(
        False,
        help="Keep states where an earlier request left the prefix; needs a drafter and "
        "--prefix-match-unit.",
        flag="--enable-mamba-shared-prefix-checkpoint",
        off="--no-enable-mamba-shared-prefix-checkpoint",
    )
    scheduling_policy: str = setting(
        "fcfs", help="Order of waiting requests.", choices=("fcfs", "priority")
    )
    priorities: tuple[int, ...] | None = setting(
        None,
        help="Priorities of the first, second... request, repeated; the smallest comes first.",
        metavar="N,N,...",
        read=_read_priorities,
        separator=";",
    )
    async_scheduling: bool | None = setting(
        None,
        help="Schedule a step before the outputs of the one before are known.",
        shown_default="on from 0.31, but for n-grams and 'sequential'",
    )
    spec_method: str | None = setting(
        None,
        help="How drafts are made; 'mtp' is one module.",
        choices=tuple(METHODS),
        shown_default="no drafts",
    )
    num_speculative_tokens: int = setting(
        0, help="Drafts of a step.", unit="tokens", least=0, most=64
    )
    spec_acceptance: float | tuple[int, ...] = setting(
        0.7,
        help="Share of drafts that are accepted one by one, or accepted drafts step by step, "
        "like 2,0,1.",
        metavar="SHARE",
        read=read_acceptance,
        separator=";",
    )
    eagle_hits: str = setting(
        "lookahead",
        help="How hits respect a drafter's layers: hashes cover the next token, the last block "
        "is dropped, or not at all.",
        choices=("lookahead", "drop", "nodrop"),
    )
    grouping: Grouping | None = None
