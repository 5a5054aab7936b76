"""vLLM 0.33's KV cache with several groups of layers: groups, hashes and the pool they share.

An oracle for reading: lists and dicts, every block looked at. A hash is the number under which a
chain of tokens is filed, so there are no collisions. It shares nothing with the Rust engine. On it
stand `hybrid_lookup.py`, `hybrid_states.py`, `hybrid.py` and `hybrid_scheduler.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

NULL = 0
Key = tuple[int, int]  # group, hash


def cdiv(a: int, b: int) -> int:
    return -(-a // b)


def align(x: int, unit: int) -> int:
    return x // unit * unit


@dataclass(frozen=True)
class Group:
    """Layers that share one block table."""

    type: str
    block_size: int
    window: int = 0
    chunk: int = 0
    checkpoint_blocks: int = 0
    checkpoint_alignment: int | None = None
    eagle: bool = False

    @property
    def kind(self) -> tuple[object, ...]:
        """What groups that are looked up together have in common."""
        return (
            self.type,
            self.block_size,
            self.window,
            self.chunk,
            self.checkpoint_blocks,
            self.checkpoint_alignment,
        )


@dataclass(frozen=True)
class CacheConfig:
    groups: tuple[Group, ...]
    num_blocks: int
    caching: bool = True
    prefix_match_unit: int | None = None
    retention: int | None = 0
    max_model_len: int = 2**20
    batch_tokens: int = 2**40
    long_prefill_threshold: int = 0
    watermark: float = 0.0
    asynchronous: bool = False
    spec_method: str | None = None
    drafts: int = 0
    eagle_hits: str = "lookahead"
    junction_checkpoints: bool = False

    def __post_init__(self) -> None:
        assert not self.caching or all(size % self.h == 0 for size in self.sizes)

    @property
    def sizes(self) -> list[int]:
        return [g.block_size for g in self.groups]

    @property
    def scheduler_block_size(self) -> int:
        return math.lcm(*self.sizes)

    @property
    def h(self) -> int:
        """Tokens of a hash."""
        if not self.caching:
            return self.scheduler_block_size
        if len(self.groups) == 1:
            return self.sizes[0]
        return self.prefix_match_unit or math.gcd(*self.sizes)

    @property
    def fine(self) -> bool:
        """Hits may end inside a block."""
        mamba = [g for g in self.groups if g.type == "mamba"]
        local = [g for g in self.groups if g.type not in ("mamba", "full")]
        return (
            self.caching
            and len(self.groups) > 1
            and any(g.block_size > self.h for g in mamba)
            and all(g.block_size == self.h for g in local)
        )

    @property
    def alignment(self) -> int:
        """What lengths of hits are multiples of."""
        return self.h if self.fine else self.scheduler_block_size

    @property
    def has_states(self) -> bool:
        return self.caching and any(g.type == "mamba" for g in self.groups)

    @property
    def looks_ahead(self) -> int:
        """Further tokens that a hash covers."""
        return int(self.spec_method == "eagle" and self.eagle_hits == "lookahead")

    @property
    def slots_ahead(self) -> int:
        return self.drafts if self.spec_method == "eagle" else 0


class Hashes:
    """Chains of tokens by number."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[object, ...], int] = {}
        self.chains: list[tuple[int | None, tuple[int, ...], object, int | None]] = []

    def file(
        self, parent: int | None, tokens: tuple[int, ...], salt: object, following: int | None
    ) -> int:
        chain = (parent, tokens, salt, following)
        if chain not in self.numbers:
            self.numbers[chain] = len(self.chains)
            self.chains.append(chain)
        return self.numbers[chain]


class Pool:
    """Blocks ``0..num_blocks`` for all groups; block 0 is the null block."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.free = list(range(1, num_blocks))
        self.refs = [0] * num_blocks
        self.map: dict[Key, list[int]] = {}
        self.primary: dict[int, tuple[Key, int]] = {}  # and the tokens it stands for
        self.extra: dict[int, list[Key]] = {}
        self.evicted: list[tuple[int, Key]] = []

    def insert(self, key: Key, block: int, tokens: int) -> None:
        listed = self.map.get(key, [])
        if block in listed:
            return
        self.map.setdefault(key, []).append(block)
        if block in self.primary:
            self.extra.setdefault(block, []).append(key)
        else:
            self.primary[block] = (key, tokens)

    def unhash(self, block: int) -> None:
        if block not in self.primary:
            return
        for key in [self.primary.pop(block)[0], *self.extra.pop(block, [])]:
            self.map[key].remove(block)
            if not self.map[key]:
                del self.map[key]

    def evict(self, block: int) -> None:
        if block in self.primary:
            self.evicted.append((block, self.primary[block][0]))
            self.unhash(block)

    def take(self) -> int:
        block = self.free.pop(0)
        self.evict(block)
        self.refs[block] = 1
        return block

    def touch(self, block: int) -> None:
        if self.refs[block] == 0:
            self.free.remove(block)
        self.refs[block] += 1

    def release(self, blocks: list[int]) -> None:
        """Give back blocks in the order given."""
        zero = []
        for block in blocks:
            self.refs[block] -= 1
            if self.refs[block] == 0:
                zero.append(block)
        self.free[:0] = [b for b in zero if b not in self.primary]
        self.free += [b for b in zero if b in self.primary]

    def tokens_of(self, block: int) -> int | None:
        """Tokens that the block's primary key stands for."""
        return self.primary[block][1] if block in self.primary else None


@dataclass
class Held:
    """What a request holds in one group.

    ``started``, ``retired``, ``export`` (position and index of a state that this step's prefill
    leaves behind) belong to recurrent states; ``copy`` is an index and the block that is continued
    in another one.
    """

    table: list[int] = field(default_factory=list)
    cached: int = 0
    tracked: bool = False
    started: bool = False
    retired: int = 0
    export: tuple[int, int] | None = None
    copy: tuple[int, int] | None = None


@dataclass
class Request:
    tokens: list[int]
    salt: object = None
    prompt: int = 0
    computed: int = 0
    in_flight: int = 0
    junction: int = 0
    preemptions: int = 0
    hashes: list[int] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prompt = len(self.tokens)

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)
