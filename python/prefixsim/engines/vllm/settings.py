"""Settings of ``engine="vllm"``: its options, what cannot go together, and the model's groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import DEFAULT_BLOCK_SIZE, blocks_in
from prefixsim.engines.vllm.drafting import METHODS
from prefixsim.engines.vllm.kv_groups import Grouping, KvGroup, planned_groups, written_groups
from prefixsim.engines.vllm.offload_settings import NAMES, OffloadSettings
from prefixsim.engines.vllm.options import FROM_VERSION, FromVersion, VllmOptions
from prefixsim.engines.vllm.versions import VERSIONS, Rules, rules_of
from prefixsim.errors import InputError, SettingError
from prefixsim.hardware.gpus import GPUS
from prefixsim.hardware.kv_bytes import KVBytes, kv_bytes_per_token
from prefixsim.hardware.pool import Groups, Planning, groups_of
from prefixsim.sizes import Size

__all__ = ["FROM_VERSION", "VERSIONS", "FromVersion", "Rules", "VllmSettings", "rules_of"]

# Requests at once and tokens per step of a server by default.
_UNKNOWN_GPU = (256, 8192)
_SMALL = (256, 2048)
_LARGE = (1024, 8192)
_LARGE_GPU = 70 * 2**30  # bytes
_LONGEST = 2**24  # tokens of a request


@dataclass(frozen=True)
class VllmSettings(OffloadSettings, VllmOptions):
    """Settings of ``engine="vllm"``.

    Raises
    ------
    InputError
        If the version has no such setting, or settings contradict each other.
    """

    def __post_init__(self) -> None:
        try:
            rules = self.rules
        except ValueError as error:
            msg = f"vllm version {self.version!r}: {error}"
            raise InputError(msg) from None
        if self.watermark and not rules.has_watermark:
            msg = f"watermark: vLLM {self.version} has none, it came with 0.24; leave it out"
            raise InputError(msg)
        if self.long_prefill_token_threshold_adaptive and not rules.has_adaptive_threshold:
            msg = (
                f"long_prefill_token_threshold_adaptive: vLLM {self.version} has no such setting, "
                f"it came with 0.31; leave it out"
            )
            raise InputError(msg)
        if self.sliding_window is not None and rules.stops_on_tight_windows:
            msg = (
                f"sliding_window: vLLM {self.version} stops with an error when the blocks of a "
                f"sliding window get tight, which is not simulated; give version 0.20.2"
            )
            raise InputError(msg)

        self._check_whole()
        self._check_drafts()
        if (self.scheduling_policy == "priority") != (self.priorities is not None):
            msg = "scheduling_policy 'priority' and priorities: one needs the other, give both"
            raise SettingError(msg)
        if self.kv_groups is not None and self.sliding_window is not None:
            msg = "kv_groups and sliding_window: both say the same, give one of them"
            raise SettingError(msg)

    def _check_whole(self) -> None:
        """Refuse what is not known of the version."""
        if self.rules.recorded_whole:
            return
        asked = {
            "kv_groups": self.kv_groups is not None,
            "prefix_match_unit": self.prefix_match_unit is not None,
            "mamba_shared_prefix_checkpoint": self.mamba_shared_prefix_checkpoint,
            "scheduling_policy": self.scheduling_policy != "fcfs",
            "async_scheduling": bool(self.async_scheduling),
            "spec_method": self.spec_method is not None,
        }
        name = next((name for name, given in asked.items() if given), None)
        if name is not None:
            since = next(rules.first for rules in reversed(VERSIONS) if rules.recorded_whole)
            msg = (
                f"{name}: vLLM {self.version} is simulated with one group, no drafts, first come "
                f"first served, synchronously; give a version from {since}, or leave it out"
            )
            raise SettingError(msg)

    def _check_drafts(self) -> None:
        if (self.spec_method is None) != (self.num_speculative_tokens == 0):
            msg = "spec_method and num_speculative_tokens: one needs the other, give both"
            raise SettingError(msg)
        if not self.drafts_with_layers and self.eagle_hits != "lookahead":
            msg = "eagle_hits: is of drafters with layers, give spec_method 'eagle' or 'mtp' too"
            raise SettingError(msg)
        if self.mamba_shared_prefix_checkpoint and not (
            self.drafts_with_layers and self.prefix_match_unit
        ):
            msg = (
                "mamba_shared_prefix_checkpoint: has no effect without a drafter with layers and "
                "prefix_match_unit, give both or leave it out"
            )
            raise SettingError(msg)
        if self.async_scheduling and self.spec_method == "ngram":
            msg = "async_scheduling: vLLM has none with n-gram drafts, leave one of them out"
            raise SettingError(msg)
        if self.arrivals == "sequential" and (self.async_scheduling or self.spec_method):
            name = "async_scheduling" if self.async_scheduling else "spec_method"
            msg = f"{name}: 'sequential' arrivals have no steps, choose others"
            raise SettingError(msg)

    @property
    def rules(self) -> Rules:
        """Rules of the version."""
        return rules_of(self.version)

    @property
    def drafts_with_layers(self) -> bool:
        """Whether drafts are made by layers that have a cache of their own."""
        return METHODS.get(self.spec_method or "") == "eagle"

    @property
    def looks_ahead(self) -> bool:
        """Whether a hash also covers the token after its block."""
        return self.drafts_with_layers and self.eagle_hits == "lookahead" and self.enable_caching

    @property
    def asynchronous(self) -> bool:
        """Whether a step is scheduled before the outputs of the one before are known."""
        if self.async_scheduling is not None:
            return self.async_scheduling
        if self.kv_offloading_size is not None:
            return False
        steps = self.arrivals != "sequential" and self.spec_method != "ngram"
        return self.rules.recorded_whole and steps

    @property
    def tokens_per_block(self) -> int:
        """Tokens of a hash, which lengths of hits are multiples of."""
        return super().tokens_per_block if self.grouping is None else self.grouping.hash_block_size

    def for_model(self) -> Self:
        """Return the settings with the groups that ``kv_groups`` or the model's layers make.

        A size in bytes becomes blocks where there are several groups. A model whose layers all have
        the same window has that ``sliding_window``.

        Raises
        ------
        InputError
            If the groups cannot be simulated, or the cache is larger than the GPU's memory.
        """
        self._check_memory()
        if self.grouping is not None:
            return self
        size = self.block_size or DEFAULT_BLOCK_SIZE
        if self.kv_groups is not None:
            return self._grouped(self._widened(self.kv_groups), size, None)
        if self.model_config is None:
            return self._ungrouped()
        return self._planned(size)

    def _planned(self, size: int) -> Self:
        """Return the settings with the groups of ``model_config``."""
        assert self.model_config is not None
        sizes = kv_bytes_per_token(
            self.model_config,
            dtype=self.kv_cache_dtype,
            tensor_parallel=self.tensor_parallel,
            num_speculative_tokens=self.num_speculative_tokens,
        )
        if self.sliding_window is not None and len(sizes.shares) == 1:
            return self._ungrouped()
        plan = self._plan(sizes, size)
        first = plan.groups[0]
        if len(plan.groups) == 1 and first.kind in ("full", "sliding_window"):
            return replace(self, sliding_window=first.span)._ungrouped()
        groups = planned_groups(plan.groups, sizes.specs, self.prefix_match_unit)
        return self._grouped(groups, size, plan)

    def _plan(self, sizes: KVBytes, block_size: int) -> Groups:
        chunked = any(layer.kind == "chunked_local" for layer in sizes.specs)
        planning = Planning(
            max_model_len=self.max_model_len or _LONGEST,
            block_size=block_size,
            max_num_batched_tokens=self.batch_limits()[1],
            async_scheduling=self.asynchronous,
            num_speculative_tokens=self.num_speculative_tokens,
            prefix_match_unit=self.prefix_match_unit,
            # vLLM does so itself for chunks beside a drafter's layers.
            disable_hybrid=self.disable_hybrid_kv_cache_manager
            or (chunked and self.drafts_with_layers),
        )
        try:
            return groups_of(sizes.specs, planning)
        except InputError as error:
            msg = f"model_config {self.model_config}: {error}"
            raise SettingError(msg) from None

    def _widened(self, groups: tuple[KvGroup, ...]) -> tuple[KvGroup, ...]:
        """Return groups by hand, with windows and chunks as full attention if that is asked."""
        if not self.disable_hybrid_kv_cache_manager:
            return groups
        local = ("sliding_window", "chunked_local")
        return tuple(replace(g, kind="full", span=0) if g.kind in local else g for g in groups)

    def _ungrouped(self) -> Self:
        """Return the settings of one group, which has hashes of its blocks."""
        if self.prefix_match_unit is not None:
            msg = (
                "prefix_match_unit: is of models with several KV cache groups, one group has "
                "hashes of its blocks; leave it out, or give block_size"
            )
            raise SettingError(msg)
        return self

    def _grouped(self, groups: tuple[KvGroup, ...], size: int, plan: Groups | None) -> Self:
        """Return the settings with groups over one pool."""
        rules, text = self.rules, written_groups(groups)
        if not rules.recorded_whole:
            msg = (
                f"model_config {self.model_config}: makes {len(groups)} KV cache groups, which are "
                f"not known of vLLM {self.version}; give another version, or bytes_per_token"
            )
            raise SettingError(msg)
        if self.sliding_window is not None:
            msg = f"sliding_window: the model has groups of its own ({text}), leave it out"
            raise SettingError(msg)
        if self.arrivals == "sequential":
            msg = f"arrivals 'sequential': is of one KV cache group, there are {len(groups)}"
            raise SettingError(msg)
        if self.drafts_with_layers and any(g.kind == "chunked_local" for g in groups):
            msg = f"kv_groups {text}: vLLM has no chunks beside a drafter's layers, write full"
            raise SettingError(msg)
        if len(groups) == 1:
            self._ungrouped()
        found: JsonObject = {}
        if isinstance(self.num_blocks, Size) and self.num_blocks.in_bytes:
            found["num_blocks"] = _blocks(self.num_blocks, plan, text)
        grouping = Grouping.of(groups, size, self.prefix_match_unit)
        retention, whole = self.switches()["retention_interval"], grouping.scheduler_block_size
        if retention and retention % whole:
            msg = (
                f"retention_interval {retention}: must be a multiple of {whole}, the least common "
                f"multiple of the blocks of {grouping}"
            )
            raise SettingError(msg)
        return replace(self, grouping=grouping, **found)

    @property
    def host_blocks(self) -> int | None:
        """Host memory in blocks of the device; ``None``: no offloading.

        Raises
        ------
        SettingError
            If bytes are given without the bytes of a token.
        """
        return blocks_in(
            self.kv_offloading_size,
            self.tokens_per_block,
            bytes_per_token=self.bytes_per_token,
            model_config=self.model_config,
            kv_cache_dtype=self.kv_cache_dtype,
            tensor_parallel=self.tensor_parallel,
            label="kv_offloading_size",
        )

    @property
    def blocks_of_all_tiers(self) -> int | None:
        """What the device and the tiers below hold, in blocks; ``None``: no limit."""
        if self.blocks is None or (self.host_blocks and self.offload_disk):
            return None
        return self.blocks + (self.host_blocks or 0)

    @property
    def counted_in_blocks(self) -> tuple[str, ...]:
        """Settings that are numbers of blocks."""
        host = isinstance(self.kv_offloading_size, int)
        return ("num_blocks", "kv_offloading_size") if host else ("num_blocks",)

    def batch_limits(self) -> tuple[int, int]:
        """Return requests running at once and tokens per step: as given, else a server's default.

        Those of ``vllm serve`` depend on the GPU (``EngineArgs.get_batch_defaults``): 1,024 and
        8,192 on 70 GiB or more except an A100, else 256 and 2,048. Where ``latency`` names no GPU
        they are 256 and 8,192.
        """
        seqs, tokens = _UNKNOWN_GPU
        name = self.latency.lower() if isinstance(self.latency, str) else ""
        if name in GPUS:
            large = GPUS[name].memory >= _LARGE_GPU and not name.startswith("a100")
            seqs, tokens = _LARGE if large else _SMALL
        return self.max_num_seqs or seqs, self.max_num_batched_tokens or tokens

    def switches(self) -> JsonObject:
        """Return the version's switches with those that are set here."""
        chosen: JsonObject = {}
        for name in ("uncached_first", "reserve_full_isl", "stats_at_lookup"):
            own = getattr(self, name)
            chosen[name] = getattr(self.rules, name) if own is None else own
        chosen["retention_interval"] = (
            self.rules.retention_interval
            if self.retention_interval is FROM_VERSION
            else self.retention_interval
        )
        return chosen

    def to_config(self, engine: str) -> JsonObject:
        """Return the settings as the ``config`` of an outcome, the switches as they are.

        With several groups ``block_size`` is that of full attention, and there are the tokens of a
        hash, what lengths of hits are multiples of, and the blocks' least common multiple.
        """
        seqs, tokens = self.batch_limits()
        limits = {"max_num_seqs": seqs, "max_num_batched_tokens": tokens}
        config = {**super().to_config(engine), **limits, **self.switches()}
        config["async_scheduling"] = self.asynchronous
        config["kv_groups"] = None
        for name in ("priorities", "spec_acceptance"):
            value = getattr(self, name)
            config[name] = list(value) if isinstance(value, tuple) else value
        if self.spec_method is None:
            config["spec_acceptance"] = None
        if not self.drafts_with_layers:
            config["eagle_hits"] = None
        if self.grouping is not None:
            config |= {
                "kv_groups": str(self.grouping),
                "block_size": self.grouping.attention_block_size,
                "hash_block_size": self.grouping.hash_block_size,
                "hit_alignment": self.grouping.hit_alignment,
                "scheduler_block_size": self.grouping.scheduler_block_size,
            }
        for name in NAMES if self.kv_offloading_size is None else ():
            del config[name]
        return config


def _blocks(size: Size, plan: Groups | None, groups: str) -> int:
    """Return how many blocks of several groups a size in bytes holds."""
    if plan is None:
        msg = (
            f"num_blocks {size.text}: nobody says how many bytes the blocks of {groups} have, "
            "give a number of blocks, or model_config in place of kv_groups"
        )
        raise SettingError(msg)
    blocks = (size.amount or 0) // plan.bytes_per_block
    if blocks < 2:
        msg = (
            f"num_blocks {size.text}: less than two blocks of {plan.bytes_per_block:,} bytes, one "
            "of which is the null block; give more memory"
        )
        raise SettingError(msg)
    return blocks
