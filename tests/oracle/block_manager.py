"""vLLM's KV-cache manager, 0.11 to 0.33, as plain Python lists and dicts.

A block's key is the tuple ``(isolation key, all tokens up to its end)``: no hash, so no collision.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Key = tuple[object, tuple[int, ...]]


def cdiv(a: int, b: int) -> int:
    return -(-a // b)


@dataclass
class Request:
    tokens: list[int]
    salt: object = None
    prompt: int = 0
    computed: int = 0
    cached: int = 0
    preemptions: int = 0
    table: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prompt = len(self.tokens)

    def key(self, block: int, block_size: int) -> Key:
        return (self.salt, tuple(self.tokens[: (block + 1) * block_size]))


class Pool:
    """Blocks ``0..num_blocks``; block 0 is the null block."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.free = list(range(1, num_blocks))
        self.refs = dict.fromkeys(range(num_blocks), 0)
        self.key_of: dict[int, Key] = {}
        self.map: dict[Key, list[int]] = {}
        self.evicted: list[tuple[int, Key]] = []
        self.now = 0.0
        self.taken: dict[int, float] = {}
        self.used: dict[int, float] = {}
        self.ages: list[tuple[float, float]] = []  # of evicted blocks: since taken, since used

    def forget(self, block: int) -> bool:
        key = self.key_of.pop(block, None)
        if key is None:
            return False
        self.map[key].remove(block)
        if not self.map[key]:
            del self.map[key]
        return True

    def take(self) -> int:
        block = self.free.pop(0)
        key = self.key_of.get(block)
        if key is not None:
            self.forget(block)
            self.evicted.append((block, key))
            self.ages.append((self.now - self.taken[block], self.now - self.used[block]))
        self.refs[block] = 1
        self.taken[block] = self.used[block] = self.now
        return block

    def release(self, blocks: list[int], *, uncached_first: bool) -> None:
        """Give back blocks in the order given."""
        zero = []
        for block in blocks:
            self.refs[block] -= 1
            if self.refs[block] == 0:
                zero.append(block)
        if not uncached_first:
            self.free += zero
            return
        self.free = [b for b in zero if b not in self.key_of] + self.free
        self.free += [b for b in zero if b in self.key_of]


class BlockManager:
    """One group of layers; full attention, or a sliding window of ``window`` tokens."""

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        *,
        caching: bool = True,
        window: int = 0,
        retention: int | None = None,
        batch_tokens: int | None = None,
        max_model_len: int = 2**32 - 1,
        watermark: float = 0.0,
        uncached_first: bool | str = True,
    ) -> None:
        self.pool = Pool(num_blocks)
        self.bs = block_size
        self.caching = caching
        self.window = window
        self.retention = retention
        self.batch_tokens = batch_tokens
        self.max_model_len = max_model_len
        rules = {"with caching": caching, "with a window": window > 0}
        self.uncached_first = bool(rules.get(str(uncached_first), uncached_first))
        self.watermark_blocks = int(watermark * num_blocks)

    @property
    def needed(self) -> int:
        return cdiv(self.window - 1, self.bs)

    def skipped(self, computed: int) -> int:
        return max(0, computed - self.window + 1) // self.bs if self.window else 0

    def lookup(self, r: Request) -> list[int]:
        """The hit blocks, with 0 for those that lie before the window."""
        if not self.caching:
            return []
        limit = (len(r.tokens) - 1) // self.bs
        found = [self.pool.map.get(r.key(i, self.bs), [0])[0] for i in range(limit)]
        if not self.window:
            return found[: found.index(0)] if 0 in found else found
        for i in reversed(range(limit)):
            run = found[i : i + self.needed]
            if len(run) == self.needed and 0 not in run:
                return [0] * i + run
        return found[: found.index(0)] if 0 in found else found

    def allocate(
        self,
        r: Request,
        n: int,
        hits: list[int],
        *,
        must_fit: bool,
        has_running: bool = False,
        waiting: bool = True,
    ) -> list[int] | None:
        pool, bs = self.pool, self.bs
        base = r.computed + len(hits) * bs
        wm = self.watermark_blocks if has_running and waiting else 0
        s = self.skipped(base) if waiting else 0
        evictable = sum(1 for b in hits[s:] if b and pool.refs[b] == 0)
        held = max(s, len(hits)) + len(r.table)

        if must_fit:
            required = cdiv(min(len(r.tokens), self.max_model_len), bs)
            if self.window and self.batch_tokens is not None:
                cap = min(self.window - 1 + self.batch_tokens, self.max_model_len)
                required = min(required, cdiv(cap, bs) + 1)
            if max(required - held, 0) + evictable + wm > len(pool.free):
                return None
        self.leave_window(r, base)
        required = cdiv(min(base + n, self.max_model_len), bs)
        missing = max(required - held, 0)
        if missing + evictable + wm > len(pool.free):
            return None
        if hits:
            r.table = [0] * s + hits[s:]
            for b in r.table:
                if b:
                    if pool.refs[b] == 0:
                        pool.free.remove(b)
                    pool.refs[b] += 1
                    pool.used[b] = pool.now
            r.cached = len(r.table)
        new = [pool.take() for _ in range(missing)]
        r.table += new
        self.cache(r, min(base + n, len(r.tokens)))
        return new

    def leave_window(self, r: Request, base: int) -> None:
        released = []
        for i in reversed(range(min(self.skipped(base), len(r.table)))):
            if r.table[i] == 0:
                break
            released.append(r.table[i])
            r.table[i] = 0
        self.pool.release(released, uncached_first=self.uncached_first)

    def cache(self, r: Request, tokens: int) -> None:
        if not self.caching:
            return
        for i in range(r.cached, tokens // self.bs):
            if r.table[i] and self.retains(r, i):
                key = r.key(i, self.bs)
                self.pool.key_of[r.table[i]] = key
                self.pool.map.setdefault(key, []).append(r.table[i])
        r.cached = max(r.cached, tokens // self.bs)

    def retains(self, r: Request, i: int) -> bool:
        if not self.window or self.retention is None:
            return True
        end = (r.prompt - 1) // self.bs
        at_end = end - self.needed <= i < end
        if self.retention == 0:
            return at_end
        g = self.retention // self.bs
        return self.needed >= g or i % g >= g - self.needed or at_end

    def free(self, r: Request) -> None:
        blocks = [b for b in reversed(r.table) if b]
        self.pool.release(blocks, uncached_first=self.uncached_first)
        r.table = []
        r.computed = r.cached = 0

    def reset(self) -> bool:
        if len(self.pool.free) != self.pool.num_blocks - 1:
            return False
        self.pool.map.clear()
        self.pool.key_of.clear()
        return True

    def evict(self, blocks: list[int]) -> None:
        for b in blocks:
            self.pool.forget(b)
