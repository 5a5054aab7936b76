"""Typed surface of the Rust extension."""

from collections.abc import Sequence
from typing import Literal, TypeAlias, TypedDict, final

import numpy as np
import numpy.typing as npt

_Tokens: TypeAlias = Sequence[int] | npt.NDArray[np.integer]
_RequestId: TypeAlias = str | int
_MultiModal: TypeAlias = Sequence[tuple[str, int, int]]
_Algorithm: TypeAlias = Literal["xxh3", "sha256_cbor", "sha256", "xxhash_cbor", "xxhash"]

class _CacheStats(TypedDict):
    requests: int
    queries: int
    hits: int

class _BlockManagerReplay(TypedDict):
    hit_tokens: npt.NDArray[np.uint32]
    request_evictions: npt.NDArray[np.uint32]
    evictions: int
    allocated: int
    peak_used: int
    cached_end: int

__all__ = [
    "DEBUG_BUILD",
    "Allocation",
    "BlockManager",
    "__version__",
    "digest_columns",
    "hash_blocks",
    "replay_block_manager",
]

__version__: str
DEBUG_BUILD: bool

def digest_columns(columns: Sequence[npt.NDArray[np.uint8]]) -> str: ...
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
) -> _BlockManagerReplay: ...

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
