"""Typed surface of the Rust extension."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict, Unpack, final

import numpy as np
import numpy.typing as npt

from prefixsim.own_policies import Policy

_Tokens: TypeAlias = Sequence[int] | npt.NDArray[np.integer]
_RequestId: TypeAlias = str | int
_MultiModal: TypeAlias = Sequence[tuple[str, int, int]]
_Algorithm: TypeAlias = Literal["xxh3", "sha256_cbor", "sha256", "xxhash_cbor", "xxhash"]
_SglangVersion: TypeAlias = Literal["unified-0.5.23", "radix-0.5.23", "radix-0.5.16", "radix-0.5.9"]
_RadixPolicy: TypeAlias = Literal["lru", "lfu", "fifo", "mru", "filo", "priority", "slru", "tlru"]

class _CacheStats(TypedDict):
    requests: int
    queries: int
    hits: int

class _Tier(TypedDict):
    capacity: int | None
    policy: str
    exclusive: bool
    write: str
    min_uses: int
    sees: str
    head_first: bool
    latency: float
    seconds_per_block: float

class _TiersReplay(TypedDict):
    hits: list[npt.NDArray[np.uint32]]
    written: list[npt.NDArray[np.uint32]]
    gone: list[npt.NDArray[np.uint32]]
    too_rare: npt.NDArray[np.uint32]
    stranded: npt.NDArray[np.uint32]
    slow: npt.NDArray[np.uint32]
    evictions: npt.NDArray[np.uint32]

_Weighted: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[np.uint64]]

class _Replay(TypedDict):
    hit_blocks: npt.NDArray[np.uint32]
    evictions: int
    lifetime_s: NotRequired[_Weighted]
    idle_s: NotRequired[_Weighted]

class _Evictions(TypedDict):
    owner: npt.NDArray[np.uint32]
    start: npt.NDArray[np.uint32]
    end: npt.NDArray[np.uint32]
    at: npt.NDArray[np.uint32]

class _SegmentLosses(TypedDict):
    start: npt.NDArray[np.uint64]
    end: npt.NDArray[np.uint64]
    tokens: npt.NDArray[np.uint64]
    requests: npt.NDArray[np.uint32]
    example: npt.NDArray[np.uint32]

_Column: TypeAlias = (
    npt.NDArray[np.float64]
    | npt.NDArray[np.uint32]
    | tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]
    | tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]
    | tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]
    | tuple[npt.NDArray[np.uint32], list[str]]
)

class _Parsed(TypedDict):
    columns: dict[str, _Column]
    lines: npt.NDArray[np.uint64]
    seen: dict[str, int]
    bad: list[tuple[int, str | None, str, bytes]]

class _BlockManagerReplay(TypedDict):
    hit_tokens: npt.NDArray[np.uint32]
    request_evictions: npt.NDArray[np.uint32]
    evictions: int
    allocated: int
    peak_used: int
    cached_end: int
    lifetime_s: NotRequired[tuple[npt.NDArray[np.float64], npt.NDArray[np.uint64]]]
    idle_s: NotRequired[tuple[npt.NDArray[np.float64], npt.NDArray[np.uint64]]]

_Latency: TypeAlias = int | Sequence[float] | tuple[float, Sequence[float], Sequence[float]]
"""Nanoseconds a step; six coefficients; overhead, compute and memory."""

class _KvGroup(TypedDict):
    """Layers that share a block table; sizes in tokens, 0 where they do not apply.

    ``type`` is ``"full"``, ``"sliding_window"`` (``window``), ``"chunked_local"`` (``chunk``) or
    ``"mamba"`` (``checkpoint_blocks`` 0 or 1, with 1 ``checkpoint_alignment``); ``eagle`` marks a
    group that holds layers of a draft model.
    """

    type: str
    block_size: int
    window: int
    chunk: int
    checkpoint_blocks: int
    checkpoint_alignment: int
    eagle: bool

# Whom each request follows, think time and earliest time in nanoseconds.
_Turns: TypeAlias = tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64], npt.NDArray[np.uint64]]

class _VllmSettings(TypedDict):
    """What decides a run; every name is given.

    ``groups`` None: one group with the workload's block size. With groups that size is the unit of
    hashes (vLLM's ``prefix_match_unit``). ``spec_method`` is None, ``"eagle"`` or ``"ngram"``,
    ``eagle_hits`` ``"lookahead"`` (needs a workload compiled with it), ``"drop"`` or ``"nodrop"``;
    ``accept`` says how many drafts are right, at the entry that a request's tokens modulo its
    length name. ``priorities`` (smaller first, one per request) are the priority policy, None
    first come, first served.
    """

    num_blocks: int
    enable_caching: bool
    max_model_len: int | None
    watermark: float
    sliding_window: int | None
    window_cap: bool
    retention_interval: int | None
    uncached_first: bool | str
    max_num_seqs: int
    max_num_batched_tokens: int
    enable_chunked_prefill: bool
    pass_over: bool
    long_prefill_token_threshold: int
    long_prefill_token_threshold_adaptive: bool
    lone_threshold: bool
    reserve_full_isl: bool
    stats_at_lookup: bool
    stats_preempted_apart: bool
    groups: Sequence[_KvGroup] | None
    spec_method: str | None
    eagle_hits: str
    junction_checkpoints: bool
    priorities: Sequence[int] | None
    async_scheduling: bool
    num_speculative_tokens: int
    accept: Sequence[int]
    arrivals: str | _Turns
    in_flight: int
    latency: _Latency
    record_steps: bool
    record_events: bool
    record_tables: bool
    record_limits: bool
    record_states: bool
    validate: bool

class _VllmRequests(TypedDict):
    hit_tokens: npt.NDArray[np.uint32]
    computed_tokens: npt.NDArray[np.uint64]
    scheduled_tokens: npt.NDArray[np.uint64]
    admit_step: npt.NDArray[np.uint64]
    first_token_step: npt.NDArray[np.uint64]
    finish_step: npt.NDArray[np.uint64]
    arrival_ns: npt.NDArray[np.uint64]
    admit_ns: npt.NDArray[np.uint64]
    first_token_ns: npt.NDArray[np.uint64]
    finish_ns: npt.NDArray[np.uint64]
    preemptions: npt.NDArray[np.uint32]
    num_blocks: npt.NDArray[np.uint32]

class _VllmSteps(TypedDict):
    clock_ns: npt.NDArray[np.uint64]
    requests: npt.NDArray[np.uint32]
    tokens: npt.NDArray[np.uint64]
    running: npt.NDArray[np.uint32]
    waiting: npt.NDArray[np.uint32]
    free: npt.NDArray[np.uint32]

class _VllmEvents(TypedDict):
    step: npt.NDArray[np.uint64]
    group: npt.NDArray[np.uint32]
    stored: npt.NDArray[np.bool_]
    subject: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.uint64]
    keys: npt.NDArray[np.uint32]
    blocks: npt.NDArray[np.uint32]

class _VllmTotals(TypedDict):
    steps: int
    final_clock_ns: int
    stats: tuple[int, int, int]
    stats_preempted: tuple[int, int, int]
    preemptions: int
    evictions: int
    scheduled_tokens: int
    peak_used: int
    used_steps: float
    used_ns: float
    busy_ns: int
    cached_end: int
    drafts: tuple[int, int, int]

class _VllmLimits(TypedDict):
    """Tokens that the hit of each request would have had, with more and more constraints.

    What full attention alone has; what it agrees on with windows; with states; at an aligned
    length. They never ascend, and ``hit_tokens`` is at most ``aligned``.
    """

    full: npt.NDArray[np.uint32]
    window: npt.NDArray[np.uint32]
    state: npt.NDArray[np.uint32]
    aligned: npt.NDArray[np.uint32]

class _VllmState(TypedDict):
    clock_ns: int
    scheduled: list[tuple[int, int]]
    running: list[int]
    waiting: list[int]
    tables: list[list[list[int]]]
    free: list[int]
    refs: list[tuple[int, int]]
    cached: list[tuple[int, int, list[int]]]

class _VllmRun(TypedDict):
    requests: _VllmRequests
    junction: npt.NDArray[np.uint32]
    limits: _VllmLimits
    resumes: list[tuple[int, int, int]]
    finish_order: npt.NDArray[np.uint32]
    tables: npt.NDArray[np.uint32]
    group_blocks: npt.NDArray[np.uint32]
    steps: _VllmSteps
    events: _VllmEvents
    totals: _VllmTotals
    free_queue: npt.NDArray[np.uint32]
    states: list[_VllmState]

__all__ = [
    "DEBUG_BUILD",
    "Allocation",
    "BlockManager",
    "Curve",
    "FleetTraffic",
    "Forest",
    "JsonlReader",
    "OffloadManager",
    "Profile",
    "RadixCache",
    "RadixMatch",
    "RoutedRequest",
    "RouterView",
    "SglangWorkload",
    "TtlCurve",
    "VllmWorkload",
    "__version__",
    "compile_forest",
    "digest_columns",
    "expand_ids",
    "expand_tokens",
    "forest_options",
    "hash_blocks",
    "json_lists",
    "keyed_hashes",
    "load_forest",
    "policies",
    "policy_has_ages",
    "policy_name",
    "policy_parameters",
    "replay_block_manager",
    "replay_forest_blocks",
    "replay_lmcache",
    "replay_tiers",
    "sweep",
    "tree_numbers",
    "weighted_summary",
]

__version__: str
DEBUG_BUILD: bool

_Ids = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]

def json_lists(offsets: npt.NDArray[np.uint64], values: _Ids) -> list[bytes]: ...
def keyed_hashes(
    offsets: npt.NDArray[np.uint64], values: _Ids, chunk: int, key: bytes
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]: ...
def tree_numbers(
    offsets: npt.NDArray[np.uint64],
    values: _Ids,
    head: int,
    seed: int,
    salt: npt.NDArray[np.uint32] | None = None,
) -> npt.NDArray[np.uint32]: ...
def digest_columns(columns: Sequence[npt.NDArray[np.uint8]]) -> str: ...

@final
class JsonlReader:
    def __new__(
        cls, fields: Sequence[tuple[str, str, bool]], *, skip_bad_rows: bool = False
    ) -> JsonlReader: ...
    @property
    def rows(self) -> int: ...
    def feed(self, block: bytes) -> None: ...
    def end(self) -> None: ...
    def finish(self) -> _Parsed: ...

def compile_forest(
    offsets: npt.NDArray[np.uint64],
    ids: npt.NDArray[np.uint32] | npt.NDArray[np.uint64],
    prompt_len: npt.NDArray[np.uint32],
    *,
    tokens_per_id: int = 1,
    salt: npt.NDArray[np.uint32] | None = None,
    session: npt.NDArray[np.uint32] | None = None,
    output_offsets: npt.NDArray[np.uint64] | None = None,
    output_ids: npt.NDArray[np.uint32] | None = None,
    partial_blocks: bool = False,
) -> Forest: ...
def load_forest(
    data: bytes,
    digest: str,
    offsets: npt.NDArray[np.uint64],
    ids: npt.NDArray[np.uint32] | npt.NDArray[np.uint64],
    prompt_len: npt.NDArray[np.uint32],
    *,
    tokens_per_id: int = 1,
    salt: npt.NDArray[np.uint32] | None = None,
    output_offsets: npt.NDArray[np.uint64] | None = None,
    output_ids: npt.NDArray[np.uint32] | None = None,
    partial_blocks: bool = False,
) -> Forest: ...
def forest_options(data: bytes) -> tuple[bool, bool]: ...

@final
class Forest:
    def to_bytes(self, digest: str) -> bytes: ...
    def parts(self) -> dict[str, npt.NDArray[np.uint32]]: ...
    @property
    def tokens_per_id(self) -> int: ...
    @property
    def partial_blocks(self) -> bool: ...
    @property
    def outputs(self) -> bool: ...
    @property
    def requests(self) -> int: ...
    @property
    def nodes(self) -> int: ...
    @property
    def heavy_paths(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def height(self) -> int: ...
    def unique_blocks(self, block_size: int) -> int: ...
    def unchained_ids(
        self, offsets: npt.NDArray[np.uint64], ids: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.uint64]: ...
    def session_depth(self, session: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]: ...
    def shared_prefixes(
        self, count: int
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], npt.NDArray[np.uint32]]: ...
    def segment_losses(
        self, start: npt.NDArray[np.uint32], end: npt.NDArray[np.uint32], count: int
    ) -> _SegmentLosses: ...
    def profile(
        self,
        block_size: int,
        prompt_len: npt.NDArray[np.uint32],
        timestamp: npt.NDArray[np.float64],
        category: npt.NDArray[np.uint32] | None = None,
    ) -> Profile: ...
    def validate(self) -> None: ...

@final
class Profile:
    @property
    def block_size(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def reuse_intervals(self) -> int: ...
    @property
    def full_blocks(self) -> npt.NDArray[np.uint32]: ...
    @property
    def unique_blocks(self) -> int: ...
    @property
    def reusable_blocks(self) -> npt.NDArray[np.uint32]: ...
    def replay(
        self,
        policy: str | Policy = ...,
        capacity: int | None = None,
        *,
        last_token_rule: bool = True,
        residency: bool = False,
    ) -> _Replay: ...
    def curve(self) -> Curve: ...
    def ttl_curve(self) -> TtlCurve: ...
    def gaps(
        self, hit_blocks: npt.NDArray[np.uint32]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], npt.NDArray[np.uint64]]: ...
    def block_hit_counts(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]: ...
    def hit_counts(
        self, hit_blocks: npt.NDArray[np.uint32]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]: ...
    def working_set(self, bounds: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]: ...
    def lru_evictions(self, capacity: int, owners: npt.NDArray[np.uint32]) -> _Evictions: ...
    def validate(self) -> None: ...

@final
class Curve:
    @property
    def unique_blocks(self) -> int: ...
    def hit_blocks(
        self, capacities: npt.NDArray[np.uint64], *, last_token_rule: bool = True
    ) -> npt.NDArray[np.uint64]: ...
    def evictions(self, capacities: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]: ...
    def ceiling(self, *, last_token_rule: bool = True) -> int: ...
    def capacity_for(self, hit_blocks: int, *, last_token_rule: bool = True) -> int | None: ...
    def corners(self) -> npt.NDArray[np.uint64]: ...

@final
class TtlCurve:
    def hit_blocks(
        self, seconds: npt.NDArray[np.float64], *, last_token_rule: bool = True
    ) -> npt.NDArray[np.uint64]: ...
    def seconds_for(self, hit_blocks: int, *, last_token_rule: bool = True) -> float | None: ...
    def steps(self, *, last_token_rule: bool = True) -> npt.NDArray[np.float64]: ...
    def block_seconds(self, seconds: float) -> float: ...
    def validate(self) -> None: ...

def policies() -> list[str]: ...
def policy_parameters(policy: str) -> list[tuple[str, str, str]]: ...
def policy_name(policy: str) -> str: ...
def policy_has_ages(policy: str) -> bool: ...
def sweep(
    profiles: Sequence[Profile],
    jobs: Sequence[tuple[int, str | Policy, int | None]],
    prompt_len: npt.NDArray[np.uint32],
    *,
    last_token_rule: bool = True,
) -> list[tuple[int, int, int, int]]: ...
def weighted_summary(
    values: npt.NDArray[np.float64], weights: npt.NDArray[np.uint64]
) -> dict[str, float | None]: ...
def hash_blocks(
    tokens: _Tokens,
    block_size: int = 16,
    algorithm: _Algorithm = "xxh3",
    *,
    salt: str | None = None,
    lora: tuple[str, str] | None = None,
    multimodal: _MultiModal | None = None,
    extra_keys: Sequence[object] | None = None,
    seed: str | None = None,
) -> list[bytes]: ...
def replay_block_manager(
    offsets: npt.NDArray[np.uint64],
    ids: npt.NDArray[np.uint32] | npt.NDArray[np.uint64],
    unit: int,
    prompt_len: npt.NDArray[np.uint32],
    salt: npt.NDArray[np.uint32] | None,
    block_size: int,
    num_blocks: int | None,
    enable_caching: bool,
    concurrency: int,
    output_offsets: npt.NDArray[np.uint64] | None = None,
    output_ids: npt.NDArray[np.uint32] | None = None,
    timestamp: npt.NDArray[np.float64] | None = None,
    measured_from: int = 0,
) -> _BlockManagerReplay: ...
def replay_forest_blocks(
    forest: Forest,
    prompt_len: npt.NDArray[np.uint32],
    block_size: int,
    num_blocks: int | None,
    enable_caching: bool,
    concurrency: int,
    *,
    output_offsets: npt.NDArray[np.uint64] | None = None,
    timestamp: npt.NDArray[np.float64] | None = None,
    measured_from: int = 0,
) -> _BlockManagerReplay: ...
def replay_tiers(
    profile: Profile,
    tiers: Sequence[_Tier],
    *,
    compute: float | None = None,
    last_token_rule: bool = True,
) -> _TiersReplay: ...

@final
class Allocation:
    @property
    def hit_tokens(self) -> int: ...
    @property
    def slots(self) -> npt.NDArray[np.uint32]: ...

@final
class BlockManager:
    def __new__(
        cls,
        num_blocks: int | None,
        block_size: int = 16,
        enable_caching: bool = True,
        *,
        hash_algorithm: _Algorithm = "xxh3",
        hash_seed: str | None = None,
        sliding_window: int | None = None,
        retention_interval: int | None = None,
        max_num_batched_tokens: int | None = None,
        max_model_len: int | None = None,
        record_events: bool = False,
    ) -> BlockManager: ...
    def lookup(
        self,
        tokens: _Tokens,
        *,
        salt: str | None = None,
        lora: tuple[str, str] | None = None,
        multimodal: _MultiModal | None = None,
        extra_keys: Sequence[object] | None = None,
    ) -> int: ...
    def allocate(
        self,
        request_id: _RequestId,
        tokens: _Tokens,
        num_tokens: int | None = None,
        *,
        must_fit: bool = True,
        salt: str | None = None,
        lora: tuple[str, str] | None = None,
        multimodal: _MultiModal | None = None,
        extra_keys: Sequence[object] | None = None,
    ) -> Allocation | None: ...
    def extend(
        self, request_id: _RequestId, num_tokens: int | None = None
    ) -> npt.NDArray[np.uint32] | None: ...
    def append(
        self, request_id: _RequestId, tokens: int | _Tokens
    ) -> npt.NDArray[np.uint32] | None: ...
    def free(self, request_id: _RequestId) -> None: ...
    def reset(self) -> bool: ...
    def evict(self, slots: _Tokens) -> None: ...
    def table(self, request_id: _RequestId) -> npt.NDArray[np.uint32]: ...
    def validate(self) -> None: ...
    def free_queue(self) -> npt.NDArray[np.uint32]: ...
    def ref_counts(self) -> dict[int, int]: ...
    def cached(self) -> dict[bytes, list[int]]: ...
    def take_events(self) -> list[tuple[str, list[bytes]]]: ...
    @property
    def requests(self) -> list[_RequestId]: ...
    @property
    def num_blocks(self) -> int | None: ...
    @property
    def block_size(self) -> int: ...
    @property
    def num_free(self) -> int | None: ...
    @property
    def num_used(self) -> int: ...
    @property
    def num_cached(self) -> int: ...
    @property
    def usage(self) -> float: ...
    @property
    def evictions(self) -> int: ...
    @property
    def stats(self) -> _CacheStats: ...

class _RadixNode(TypedDict):
    node: int
    parent: int | None
    tokens: npt.NDArray[np.uint32]
    extra_key: str | None
    cache_salt: str | None
    lock: int
    hits: int
    priority: int
    accessed: int
    created: int

class _OffloadSettings(TypedDict):
    num_chunks: int
    blocks_per_chunk: int
    eviction_policy: str
    store_threshold: int
    max_tracker_size: int
    prompt_only: bool
    sync_load_tokens: int
    load_ns: int
    store_ns: int
    start_after_step: bool
    disk: bool
    disk_read_ns: int
    disk_write_ns: int
    disk_lookup: str

class _OffloadColumns(TypedDict):
    device_hits: npt.NDArray[np.uint32]
    host_hits: npt.NDArray[np.uint32]
    disk_hits: npt.NDArray[np.uint32]
    loaded_chunks: npt.NDArray[np.uint32]
    stored_chunks: npt.NDArray[np.uint32]
    lookup_request: npt.NDArray[np.uint32]
    lookup_step: npt.NDArray[np.uint64]
    lookup_device: npt.NDArray[np.uint32]
    lookup_host: npt.NDArray[np.uint32]
    fate_request: npt.NDArray[np.uint32]
    fate_first: npt.NDArray[np.uint32]
    fate_end: npt.NDArray[np.uint32]
    fate: npt.NDArray[np.uint8]
    transfer_step: npt.NDArray[np.uint64]
    transfer_kind: npt.NDArray[np.uint8]
    transfer_request: npt.NDArray[np.uint32]
    transfer_chunks: npt.NDArray[np.uint32]
    transfer_evicted: npt.NDArray[np.uint32]
    holding: npt.NDArray[np.uint32]
    loaded: npt.NDArray[np.uint32]
    stored: npt.NDArray[np.uint32]
    flushed: npt.NDArray[np.uint32]
    evicted_step: npt.NDArray[np.uint64]
    evicted: npt.NDArray[np.uint32]

class _OffloadTotals(TypedDict):
    load_jobs: int
    chunks_loaded: int
    store_jobs: int
    chunks_stored: int
    stores_refused: int
    flushed_jobs: int
    host_evictions: int
    chunks_promoted: int
    promotions_refused: int
    chunks_cascaded: int

class _OffloadRun(TypedDict):
    columns: _OffloadColumns
    end: list[npt.NDArray[np.uint32]]
    target: float
    totals: _OffloadTotals

class _LmcacheRun(TypedDict):
    cpu_hits: npt.NDArray[np.uint32]
    disk_hits: npt.NDArray[np.uint32]
    stored: npt.NDArray[np.uint32]
    refused: npt.NDArray[np.bool_]
    cpu_evicted: npt.NDArray[np.uint32]
    cpu_evicted_at: npt.NDArray[np.uint32]
    disk_evicted: npt.NDArray[np.uint32]
    disk_evicted_at: npt.NDArray[np.uint32]
    lost_request: npt.NDArray[np.uint32]
    lost_first: npt.NDArray[np.uint32]
    lost_end: npt.NDArray[np.uint32]
    lost_cause: npt.NDArray[np.uint8]
    end: list[npt.NDArray[np.uint32]]
    frequencies: list[tuple[int, int]]
    target: float
    most_chunks: int

def replay_lmcache(
    workload: VllmWorkload,
    *,
    mode: str,
    cache_policy: str,
    cpu_chunks: int,
    disk_chunks: int,
    trigger_watermark: float,
    eviction_ratio: float,
    validate: bool = False,
) -> _LmcacheRun: ...

class _OffloadState(TypedDict):
    free: list[int]
    fresh: int
    evictable: int
    pending: int
    order: NotRequired[list[tuple[int, int, int]]]
    t1: NotRequired[list[tuple[int, int, int]]]
    t2: NotRequired[list[tuple[int, int, int]]]
    b1: NotRequired[list[int]]
    b2: NotRequired[list[int]]
    target_t1: NotRequired[float]
    counts: NotRequired[list[tuple[int, int]]]

@final
class OffloadManager:
    def __new__(
        cls,
        num_chunks: int,
        *,
        eviction_policy: Literal["lru", "arc"] = "lru",
        store_threshold: int = 0,
        max_tracker_size: int = 64_000,
    ) -> OffloadManager: ...
    def __len__(self) -> int: ...
    def add_request(
        self,
        request_id: _RequestId,
        keys: Sequence[int],
        positions: Sequence[int] | None = None,
    ) -> None: ...
    def lookup(self, key: int) -> Literal["hit", "miss", "pending"]: ...
    def prepare_load(self, request_id: _RequestId, keys: Sequence[int]) -> list[int]: ...
    def complete_load(self, keys: Sequence[int]) -> None: ...
    def prepare_store(
        self, request_id: _RequestId, keys: Sequence[int]
    ) -> tuple[list[int], list[int], list[int]] | None: ...
    def complete_store(self, keys: Sequence[int], *, ok: bool = True) -> None: ...
    def touch(self, keys: Sequence[int]) -> None: ...
    def finish(self, request_id: _RequestId) -> None: ...
    def reset(self) -> None: ...
    def state(self) -> _OffloadState: ...
    def validate(self) -> None: ...

@final
class RadixMatch:
    @property
    def tokens(self) -> int: ...
    @property
    def node(self) -> int: ...

@final
class RadixCache:
    def __new__(
        cls,
        capacity_tokens: int | None,
        page_size: int = 1,
        *,
        version: _SglangVersion = "unified-0.5.23",
        policy: _RadixPolicy = "lru",
        protected_threshold: int = 2,
        threshold: int = 0,
        next_prompt_estimate: int = 0,
        record_evictions: bool = False,
    ) -> RadixCache: ...
    def match(
        self, tokens: _Tokens, *, extra_key: str | None = None, cache_salt: str | None = None
    ) -> RadixMatch: ...
    def insert(
        self,
        tokens: _Tokens,
        *,
        extra_key: str | None = None,
        cache_salt: str | None = None,
        priority: int = 0,
        chunked: bool = False,
    ) -> RadixMatch | None: ...
    def evict(self, tokens: int) -> int: ...
    def lock(self, node: int) -> None: ...
    def unlock(self, node: int) -> None: ...
    def admit(
        self,
        request_id: _RequestId,
        tokens: _Tokens,
        *,
        extra_key: str | None = None,
        cache_salt: str | None = None,
        priority: int = 0,
    ) -> int: ...
    def extend(self, request_id: _RequestId, upto: int | None = None) -> bool: ...
    def append(self, request_id: _RequestId, tokens: int | _Tokens) -> bool: ...
    def finish(self, request_id: _RequestId) -> None: ...
    def retract(self, request_id: _RequestId) -> None: ...
    def reset(self) -> bool: ...
    def take_evictions(self) -> list[tuple[int, list[int]]]: ...
    def nodes(self) -> list[_RadixNode]: ...
    def validate(self) -> None: ...
    @property
    def requests(self) -> list[_RequestId]: ...
    @property
    def capacity_tokens(self) -> int | None: ...
    @property
    def page_size(self) -> int: ...
    @property
    def free_tokens(self) -> int | None: ...
    @property
    def evictable_tokens(self) -> int: ...
    @property
    def protected_tokens(self) -> int: ...
    @property
    def evicted_tokens(self) -> int: ...
    @property
    def evictions(self) -> int: ...

class _SglangRequests(TypedDict):
    hit_tokens: npt.NDArray[np.uint32]
    computed_tokens: npt.NDArray[np.uint64]
    scheduled_tokens: npt.NDArray[np.uint64]
    admit_step: npt.NDArray[np.uint64]
    first_token_step: npt.NDArray[np.uint64]
    finish_step: npt.NDArray[np.uint64]
    arrival_ns: npt.NDArray[np.uint64]
    admit_ns: npt.NDArray[np.uint64]
    first_token_ns: npt.NDArray[np.uint64]
    finish_ns: npt.NDArray[np.uint64]
    preemptions: npt.NDArray[np.uint32]

class _SglangSteps(TypedDict):
    clock_ns: npt.NDArray[np.uint64]
    kind: npt.NDArray[np.uint8]
    requests: npt.NDArray[np.uint32]
    tokens: npt.NDArray[np.uint64]
    running: npt.NDArray[np.uint32]
    waiting: npt.NDArray[np.uint32]
    free: npt.NDArray[np.uint64]
    evictable: npt.NDArray[np.uint64]

class _SglangEvictions(TypedDict):
    at: npt.NDArray[np.uint64]
    requested: npt.NDArray[np.uint64]
    ends: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint32]

class _SglangTotals(TypedDict):
    steps: int
    final_clock_ns: int
    busy_ns: int
    preemptions: int
    scheduled_tokens: int
    evict_calls: int
    evicted_nodes: int
    evicted_tokens: int
    free_end: int
    evictable_end: int
    peak_held: int
    held_steps: float
    held_ns: float

class _SglangRun(TypedDict):
    requests: _SglangRequests
    readmissions: list[tuple[int, int, int]]
    aborted: list[int]
    steps: _SglangSteps
    evictions: _SglangEvictions
    tree: list[tuple[int | None, int]]
    totals: _SglangTotals

class _HiCacheTotals(TypedDict):
    written: int
    loaded: int
    host_evicted: int
    free_end: int
    evictable_end: int
    host_free_end: int

class _HiCacheRun(TypedDict):
    device_tokens: npt.NDArray[np.uint32]
    host_tokens: npt.NDArray[np.uint32]
    loaded_tokens: npt.NDArray[np.uint32]
    requested: npt.NDArray[np.uint64]
    freed: npt.NDArray[np.uint64]
    call_ends: npt.NDArray[np.uint64]
    totals: _HiCacheTotals

class _FleetRun(TypedDict):
    replica: npt.NDArray[np.uint8]
    hit_tokens: npt.NDArray[np.uint32]
    best_hit_tokens: npt.NDArray[np.uint32]
    believed_tokens: npt.NDArray[np.uint32]
    regret_tokens_by_cause: dict[str, int]
    regret_requests_by_cause: dict[str, int]
    requests: list[int]
    computed_tokens: list[int]
    peak_in_flight: list[int]
    evictions: int
    cached_blocks: int
    distinct_blocks: int
    indices: list[tuple[list[tuple[int, int, int, int, int, int]], list[int]]]
    allowed: NotRequired[npt.NDArray[np.uint64]]
    by_load: NotRequired[list[bool]]
    believed: NotRequired[npt.NDArray[np.uint32]]
    notes: NotRequired[npt.NDArray[np.float64]]

class _PoolsRun(TypedDict):
    prefill: _FleetRun
    decode_replica: npt.NDArray[np.uint8]
    remote: list[bool]
    hit_tokens: npt.NDArray[np.uint32]
    decode_computed_tokens: list[int]
    decode_requests: list[int]

@final
class FleetTraffic:
    def __new__(
        cls,
        forest: Forest,
        prompt_len: npt.NDArray[np.uint32],
        hold: npt.NDArray[np.uint32],
        timestamp: npt.NDArray[np.float64],
        session: npt.NDArray[np.uint32] | None,
        session_names: Sequence[str],
        *,
        characters_per_token: int = 4,
        whole: Forest | None = None,
        characters: tuple[Forest, npt.NDArray[np.uint32]] | None = None,
        text_bytes: tuple[Forest, npt.NDArray[np.uint32]] | None = None,
    ) -> FleetTraffic: ...
    @property
    def session(self) -> npt.NDArray[np.uint32]: ...
    def route(
        self, routers: Sequence[Mapping[str, object]], settings: Mapping[str, object]
    ) -> list[_FleetRun]: ...
    def route_by(self, router: object, settings: Mapping[str, object]) -> _FleetRun: ...
    def pooled(self, settings: Mapping[str, object]) -> _FleetRun: ...
    def disaggregate(
        self,
        prefill_router: Mapping[str, object],
        decode_router: Mapping[str, object],
        prefill: Mapping[str, object],
        decode: Mapping[str, object],
        decider: str,
    ) -> _PoolsRun: ...

@final
class RoutedRequest:
    @property
    def index(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def session(self) -> str: ...
    @property
    def time(self) -> float: ...

@final
class RouterView:
    @property
    def available(self) -> list[int]: ...
    @property
    def loads(self) -> list[int]: ...
    @property
    def waiting(self) -> list[int]: ...
    @property
    def running(self) -> list[int]: ...
    @property
    def cached_blocks(self) -> list[int]: ...

@final
class SglangWorkload:
    def __new__(
        cls,
        offsets: npt.NDArray[np.uint64],
        ids: npt.NDArray[np.uint32] | npt.NDArray[np.uint64],
        unit: int,
        prompt_len: npt.NDArray[np.uint32],
        output_len: npt.NDArray[np.uint32],
        arrival_ns: npt.NDArray[np.uint64],
        *,
        salt: npt.NDArray[np.uint32] | None = None,
        session: npt.NDArray[np.uint32] | None = None,
        output_offsets: npt.NDArray[np.uint64] | None = None,
        output_ids: npt.NDArray[np.uint32] | None = None,
        priority: npt.NDArray[np.int32] | None = None,
        id_rank: npt.NDArray[np.uint32] | None = None,
    ) -> SglangWorkload: ...
    def __len__(self) -> int: ...
    def simulate(
        self,
        *,
        version: str,
        page_size: int,
        capacity_tokens: int | None,
        enable_caching: bool,
        policy: str,
        protected_threshold: int,
        threshold: int,
        next_prompt_estimate: int,
        schedule_policy: str,
        overlap: bool,
        chunked_prefill_size: int | None,
        max_prefill_tokens: int,
        max_running_requests: int,
        req_pool_size: int,
        schedule_conservativeness: float,
        max_new_slack: int,
        preemption_threshold: int | None,
        arrivals: str | _Turns,
        in_flight: int,
        with_output: bool,
        latency: _Latency,
        record_steps: bool = False,
        record_evictions: bool = False,
        record_tree: bool = False,
        validate: bool = False,
        fleet: Mapping[str, object] | None = None,
    ) -> _SglangRun: ...
    def hicache(
        self,
        *,
        version: str,
        page_size: int,
        capacity_tokens: int,
        host_tokens: int,
        policy: str,
        protected_threshold: int,
        threshold: int,
        next_prompt_estimate: int,
        write_policy: str,
        with_output: bool,
        validate: bool = False,
    ) -> _HiCacheRun: ...

@final
class VllmWorkload:
    def __new__(
        cls,
        offsets: npt.NDArray[np.uint64],
        ids: npt.NDArray[np.uint32] | npt.NDArray[np.uint64],
        unit: int,
        prompt_len: npt.NDArray[np.uint32],
        output_len: npt.NDArray[np.uint32],
        arrival_ns: npt.NDArray[np.uint64],
        block_size: int,
        *,
        salt: npt.NDArray[np.uint32] | None = None,
        output_offsets: npt.NDArray[np.uint64] | None = None,
        output_ids: npt.NDArray[np.uint32] | None = None,
        num_blocks: int | None = None,
        max_model_len: int | None = None,
        lookahead: bool = False,
    ) -> VllmWorkload: ...
    def __len__(self) -> int: ...
    @property
    def unique_blocks(self) -> int: ...
    def origins(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]: ...
    def simulate(self, **settings: Unpack[_VllmSettings]) -> _VllmRun: ...
    def serve_fleet(
        self, fleet: Mapping[str, object], settings: _VllmSettings
    ) -> dict[str, Any]: ...
    def simulate_offload(
        self, settings: _VllmSettings, offload: _OffloadSettings
    ) -> tuple[_VllmRun, _OffloadRun]: ...

def expand_ids(
    starts: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint64], hashed: bool
) -> npt.NDArray[np.uint64]: ...
def expand_tokens(
    starts: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint64], vocabulary: int
) -> npt.NDArray[np.uint32]: ...
