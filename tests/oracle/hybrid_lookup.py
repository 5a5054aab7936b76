"""The longest prefix that all groups of vLLM 0.33 hold: lookup by class, and their agreement."""

from __future__ import annotations

import math

from tests.oracle.kv_groups import NULL, CacheConfig, Hashes, Key, Pool, Request, align, cdiv

Lists = list[list[int]]  # hit blocks of each group


class Cache:
    """The KV cache manager: lookup over all groups, allocation in all groups."""

    def __init__(self, config: CacheConfig) -> None:
        self.config = config
        self.hashes = Hashes()
        self.pool = Pool(config.num_blocks)
        self.created: set[Key] = set()
        self.holds: list[list[int]] = [[] for _ in config.groups]
        marked = [g.eagle for g in config.groups]
        dropping = config.spec_method == "eagle" and config.eagle_hits == "drop" and config.caching
        self.classes: list[list[int]] = []
        for g, group in enumerate(config.groups):
            for members in self.classes:
                if config.groups[members[0]].kind == group.kind:
                    members.append(g)
                    break
            else:
                self.classes.append([g])
        self.classes.sort(key=lambda members: config.groups[members[0]].type != "full")
        self.drops = [False] * len(config.groups)
        for members in self.classes:
            drops = dropping and (not any(marked) or any(marked[g] for g in members))
            for g in members:
                self.drops[g] = drops
        self.any_drops = any(self.drops)
        self.keeps_junctions = (
            config.junction_checkpoints and config.fine and (any(marked) or self.any_drops)
        )

    # Hashes

    def extend_hashes(self, r: Request) -> None:
        h, ahead = self.config.h, self.config.looks_ahead
        for i in range(len(r.hashes), (r.num_tokens - ahead) // h):
            end = (i + 1) * h
            parent = r.hashes[-1] if i else None
            following = r.tokens[end] if ahead else None
            salt = None if i else r.salt
            tokens = tuple(r.tokens[end - h : end])
            r.hashes.append(self.hashes.file(parent, tokens, salt, following))

    def found(self, r: Request, g: int, end: int) -> int | None:
        """The oldest block of a group that holds the tokens up to a length."""
        place = end // self.config.h - 1
        if place >= len(r.hashes):
            return None
        return self.pool.map.get((g, r.hashes[place]), [None])[0]

    def found_by_all(self, r: Request, members: list[int], end: int) -> list[int] | None:
        blocks = [self.found(r, g, end) for g in members]
        return None if None in blocks else [b for b in blocks if b is not None]

    # Lookup

    def lookup(self, r: Request) -> tuple[Lists, int]:  # noqa: PLR0912
        """The hit blocks of each group and the length all groups agree on."""
        c = self.config
        none: Lists = [[] for _ in c.groups]
        r.junction = 0
        if not c.caching:
            return none, 0
        self.extend_hashes(r)
        if len(c.groups) == 1:
            lists, hit = self.lookup_class(r, [0], r.num_tokens - 1, drop=self.drops[0])
            return lists, hit
        best, hit = 0, r.num_tokens - 1
        proven: set[int] = set()
        lengths: dict[int, int] = {}
        found = none
        while True:
            cur = hit
            for place, members in enumerate(self.classes):
                group = c.groups[members[0]]
                if group.type == "full" and place in lengths:
                    cur = min(cur, lengths[place])
                    continue
                drop = self.drops[members[0]] and place not in proven
                limit = cur
                if drop and group.type != "mamba":
                    partial = c.fine and group.type == "full" and group.block_size > c.h
                    unit = c.h if partial else group.block_size
                    limit = min(cur + unit, len(r.hashes) * c.h)
                lists, new = self.lookup_class(r, members, limit, drop=drop)
                if drop:
                    proven.add(place)
                elif new < cur:
                    proven.clear()
                cur = lengths[place] = new
                best = max(best, cur)
                for g, blocks in zip(members, lists, strict=True):
                    found[g] = blocks
            if cur >= hit:
                break
            hit = cur
            first = c.groups[self.classes[0][0]]
            if len(self.classes) == 2 and first.type == "full":
                break
        for g, group in enumerate(c.groups):
            if group.type == "full":
                found[g] = found[g][: cdiv(hit, group.block_size)]
        r.junction = best if best > hit else 0
        return found, hit

    def lookup_class(
        self, r: Request, members: list[int], limit: int, *, drop: bool
    ) -> tuple[Lists, int]:
        kind = self.config.groups[members[0]].type
        if kind == "full":
            return self.lookup_full(r, members, limit, drop=drop)
        if kind == "sliding_window":
            return self.lookup_window(r, members, limit, drop=drop)
        if kind == "chunked_local":
            return self.lookup_chunk(r, members, limit)
        return self.lookup_state(r, members, limit)

    def lookup_full(
        self, r: Request, members: list[int], limit: int, *, drop: bool
    ) -> tuple[Lists, int]:
        bs, unit, h = (
            self.config.groups[members[0]].block_size,
            self.config.alignment,
            self.config.h,
        )
        rows: list[list[int]] = []
        while (len(rows) + 1) * bs <= limit:
            blocks = self.found_by_all(r, members, (len(rows) + 1) * bs)
            if blocks is None:
                break
            rows.append(blocks)
        hit = len(rows) * bs
        if unit < bs:
            for end in range(min(align(limit, h), hit + bs - h), hit, -h):
                blocks = self.found_by_all(r, members, end)
                if blocks is not None:
                    rows.append(blocks)
                    hit = end
                    break
        if drop and hit:
            hit -= min(unit, bs)
        hit = align(hit, unit)
        return self.columns(rows[: cdiv(hit, bs)], members), hit

    def lookup_window(
        self, r: Request, members: list[int], limit: int, *, drop: bool
    ) -> tuple[Lists, int]:
        group, unit = self.config.groups[members[0]], self.config.alignment
        bs = group.block_size
        need = cdiv(group.window - 1, bs) + drop
        run: list[list[int]] = []
        start = 0
        for i in reversed(range(limit // bs)):
            blocks = self.found_by_all(r, members, (i + 1) * bs)
            if blocks is None:
                run = []
                continue
            edge = (i if drop else i + 1) * bs
            if not run and edge % unit:
                continue
            run.insert(0, blocks)
            if len(run) == need:
                start = i
                break
        k = start + len(run)
        if len(run) < need:
            while k * bs % unit:
                k -= 1
        if drop and k:
            k -= 1
            while k * bs % unit:
                k -= 1
        rows = [[NULL] * len(members)] * start + run
        return self.columns(rows[:k], members), k * bs

    def lookup_chunk(self, r: Request, members: list[int], limit: int) -> tuple[Lists, int]:
        group = self.config.groups[members[0]]
        bs = group.block_size
        rows = [[NULL] * len(members)] * (align(limit, group.chunk) // bs)
        while (len(rows) + 1) * bs <= limit:
            blocks = self.found_by_all(r, members, (len(rows) + 1) * bs)
            if blocks is None:
                break
            rows.append(blocks)
        return self.columns(rows, members), len(rows) * bs

    def lookup_state(self, r: Request, members: list[int], limit: int) -> tuple[Lists, int]:
        c = self.config
        bs = c.groups[members[0]].block_size
        step = c.h if c.fine else math.lcm(bs, c.alignment)
        for end in range(align(limit, step), 0, -step):
            blocks = self.found_by_all(r, members, end)
            if blocks is not None:
                rows = [[NULL] * len(members)] * (cdiv(end, bs) - 1) + [blocks]
                return self.columns(rows, members), end
        return self.columns([], members), 0

    @staticmethod
    def columns(rows: list[list[int]], members: list[int]) -> Lists:
        return [[row[m] for row in rows] for m in range(len(members))]
