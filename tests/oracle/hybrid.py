"""Allocation and caching in all groups of vLLM 0.33: what a request holds, and what gets a key."""

from __future__ import annotations

from tests.oracle.hybrid_lookup import Lists
from tests.oracle.hybrid_states import States
from tests.oracle.kv_groups import NULL, Held, Request, align, cdiv


class Manager(States):
    """Block tables of running requests over the cache."""

    # What a group needs and gives back

    def skipped(self, g: int, tokens: int) -> int:
        """Tokens that no later token attends to."""
        group = self.config.groups[g]
        if group.type == "sliding_window":
            return max(0, tokens - group.window + 1)
        if group.type == "chunked_local":
            return align(tokens, group.chunk)
        return tokens - 1 if self.is_state(g) else 0

    def most_blocks(self, g: int) -> int:
        """Blocks that a request holds at once at most."""
        c, group = self.config, self.config.groups[g]
        step = c.batch_tokens * (2 if c.asynchronous else 1)
        if group.type == "sliding_window":
            return cdiv(min(group.window - 1 + step, c.max_model_len), group.block_size) + 1
        if group.type == "chunked_local":
            return cdiv(min(group.chunk + step, c.max_model_len), group.block_size)
        return 2**62

    def padded(self, g: int, tokens: int) -> int:
        """Tokens to hold, with a block for each draft where there is one state."""
        group = self.config.groups[g]
        return tokens + group.block_size * self.config.drafts * (group.type == "mamba")

    def need(  # noqa: PLR0917
        self,
        r: Request,
        g: int,
        tokens: int,
        main: int,
        total: int,
        hits: list[int],
        *,
        capped: bool,
    ) -> int:
        if self.is_state(g):
            return self.need_state(r, g, main, total, hits, capped=capped)
        bs, held = self.config.groups[g].block_size, r.held[g]
        required = cdiv(self.padded(g, tokens), bs)
        if capped:
            required = min(required, self.most_blocks(g))
        if held.tracked:
            return max(required - len(held.table), 0)
        k = self.skipped(g, total) // bs
        missing = max(required - max(k, len(hits) + len(held.table)), 0)
        continued = bool(hits) and total % bs != 0
        return missing + self.idle(hits[max(0, k - len(held.table)) :]) + continued

    # Allocation

    def allocate(
        self,
        r: Request,
        n: int,
        hit: int,
        hits: Lists,
        *,
        must_fit: bool = False,
        has_running: bool = False,
    ) -> bool:
        """Give a request room for ``n`` more tokens in every group; ``False`` if there is none."""
        c, pool = self.config, self.pool
        if not r.held:
            r.held = [Held() for _ in c.groups]
        self.extend_hashes(r)
        spare = int(c.watermark * c.num_blocks) if has_running else 0
        total = r.computed + hit
        groups = range(len(c.groups))
        if must_fit:
            known = min(r.num_tokens, c.max_model_len)
            needs = [self.need(r, g, known, known, total, hits[g], capped=True) for g in groups]
            if sum(needs) + spare > len(pool.free):
                return False
        main = total + n
        slots = min(main + c.slots_ahead, c.max_model_len)
        for g in groups:
            self.leave(r, g, max(0, total - r.in_flight))
        needs = [self.need(r, g, slots, main, total, hits[g], capped=False) for g in groups]
        if sum(needs) + spare > len(pool.free):
            return False
        if any(hits):
            for g in groups:
                self.adopt(r, g, total, hits[g])
        for g in groups:
            self.grow(r, g, slots, main)
        self.cache(r, min(main, r.num_tokens))
        return True

    def leave(self, r: Request, g: int, tokens: int) -> None:
        """Release what no later token attends to."""
        bs, held = self.config.groups[g].block_size, r.held[g]
        end = min(max(self.skipped(g, tokens), 0) // bs, len(held.table))
        released = []
        for i in reversed(range(held.retired, end)):
            if held.table[i] == NULL:
                if self.is_state(g):
                    continue
                break
            released.append(held.table[i])
            held.table[i] = NULL
        if self.is_state(g):
            held.retired = max(end, held.retired)
        self.pool.release(released)

    def adopt(self, r: Request, g: int, total: int, hits: list[int]) -> None:
        bs, held = self.config.groups[g].block_size, r.held[g]
        k = self.skipped(g, total) // bs
        held.table = [NULL] * k + hits[k:]
        for b in hits[k:]:
            if b != NULL:
                self.pool.touch(b)
        held.cached = len(held.table)
        held.tracked = True
        if total % bs:
            held.copy = (total // bs, hits[-1])
            held.cached = total // bs

    def grow(self, r: Request, g: int, slots: int, main: int) -> None:
        if self.is_state(g):
            self.grow_state(r, g, main)
            return
        held = r.held[g]
        required = cdiv(self.padded(g, slots), self.config.groups[g].block_size)
        new = self.take(r, g, required - len(held.table))
        held.table += new

    def take(self, r: Request, g: int, count: int) -> list[int]:
        """Take blocks; the first one continues another if a copy is pending."""
        held = r.held[g]
        new = [self.pool.take() for _ in range(max(count, 0) + (held.copy is not None))]
        if held.copy is None:
            return new
        (index, old), fresh = held.copy, new.pop(0)
        held.copy = None
        if self.is_state(g) and held.started:
            self.move_keys(old, fresh)
            self.pool.refs[old] += 1
        else:
            held.table[index] = fresh
            self.pool.refs[fresh] += 1
        self.holds[g] += [old, fresh]
        return new

    def move_keys(self, old: int, new: int) -> None:
        if old not in self.pool.primary:
            return
        (key, tokens), extra = self.pool.primary[old], self.pool.extra.get(old, [])
        self.pool.unhash(old)
        for k in [key, *extra]:
            self.pool.insert(k, new, tokens)
        self.created.add(key)

    def grow_state(self, r: Request, g: int, main: int) -> None:
        held, drafts = r.held[g], self.config.drafts
        size = len(held.table)
        required = cdiv(main, self.config.groups[g].block_size) + drafts
        if required > size or held.copy or held.export:
            first = required - drafts - 1
            exported = 1 if held.export else 0
            if size < first:
                held.table += [NULL] * (first - exported - size)
            if held.started:
                for i in range(size - drafts, size):
                    if i >= first - exported:
                        break
                    held.table.append(held.table[i])
                    held.table[i] = NULL
            held.table += self.take(r, g, required - len(held.table))
        held.started = True

    # Keys

    def cache(self, r: Request, tokens: int) -> None:
        """Give keys to the blocks that so many tokens fill."""
        c = self.config
        if not c.caching:
            return
        self.extend_hashes(r)
        for g, group in enumerate(c.groups):
            u = tokens
            if len(c.groups) > 1 and not c.fine:
                u = align(tokens, c.scheduler_block_size)
                if self.drops[g] and u:
                    u = min(tokens, u + group.block_size)
            begin = r.held[g].cached
            self.cache_full(r, g, u)
            if group.type == "mamba":
                key = self.cache_tail(r, g, u)
                table = r.held[g].table
                blocks = [table[i] for i in range(begin, r.held[g].cached) if table[i] != NULL]
                primaries = [self.pool.primary[b][0] for b in blocks if b in self.pool.primary]
                self.created |= {*primaries, *key}
            elif group.type == "full" and group.block_size > c.h:
                known = r.prompt if self.drops[g] else r.prompt - 1
                end = min(known // c.h, len(r.hashes)) * c.h
                place = end // group.block_size
                if 0 < end <= u and end % group.block_size and place < len(r.held[g].table):
                    self.partial(r, g, r.held[g].table[place], end)

    def cache_full(self, r: Request, g: int, tokens: int) -> None:
        bs, h, held = self.config.groups[g].block_size, self.config.h, r.held[g]
        end = min(tokens, len(r.hashes) * h) // bs
        for i in range(held.cached, end):
            block = held.table[i]
            if block != NULL and self.selected(r, g, i):
                self.pool.unhash(block)
                self.pool.insert((g, r.hashes[(i + 1) * bs // h - 1]), block, (i + 1) * bs)
        if end > held.cached:
            held.cached = end
            held.tracked = True

    def periodic(self, g: int, i: int) -> bool:
        c, group = self.config, self.config.groups[g]
        bs = group.block_size
        if c.retention == 0:
            return False
        if group.type == "mamba":
            return c.retention is None or (i + 1) % max(c.retention // bs, 1) == 0
        shift = int(self.drops[g])
        need = cdiv(group.window - 1, bs) + shift
        period = (c.alignment if c.retention is None else c.retention) // bs
        return need >= period or (i >= shift and (i - shift) % period >= period - need)

    def selected(self, r: Request, g: int, i: int) -> bool:
        """Whether a block of a window or a state is kept for others."""
        c, group = self.config, self.config.groups[g]
        bs = group.block_size
        if group.type in ("full", "chunked_local") or self.periodic(g, i):
            return True
        if c.retention is None:
            return False
        for x in self.boundaries(r, g):
            end = align(x, c.alignment) // bs
            if group.type == "mamba":
                if i == end - 1:
                    return True
            else:
                shift = int(self.drops[g])
                need = cdiv(group.window - 1, bs) + shift
                if end + shift - need <= i < end + shift:
                    return True
        return False

    def boundaries(self, r: Request, g: int) -> list[int]:
        s = self.config.scheduler_block_size
        found = [r.prompt - 1]
        if self.any_drops:
            found = [max(align(p, s) - s, 0) for p in (r.prompt - 1, r.prompt)]
        if r.junction:
            found.append(r.junction)
            if self.drops[g]:
                found.append(r.junction - self.config.groups[g].block_size)
        return found

    def partial(
        self, r: Request, g: int, block: int, tokens: int, *, replace: bool = False
    ) -> list[tuple[int, int]]:
        """Key a block by the tokens up to a length inside it; return the key.

        With look-ahead hashes the last one waits for the token behind it; until then there is none.
        """
        place = tokens // self.config.h - 1
        if block == NULL or place >= len(r.hashes):
            return []
        key = (g, r.hashes[place])
        known = block in self.pool.map.get(key, [])
        shorter = (self.pool.tokens_of(block) or tokens) < tokens
        if replace or (not known and shorter):
            self.pool.unhash(block)
        self.pool.insert(key, block, tokens)
        return [key]

    def cache_tail(  # noqa: PLR0911
        self, r: Request, g: int, u: int
    ) -> list[tuple[int, int]]:
        """Key the state at the end of the prompt, or the one that the prefill exported."""
        c, held = self.config, r.held[g]
        bs = c.groups[g].block_size
        if held.export is not None:
            pos, i = held.export
            block = held.table[i]
            periodic = pos % bs == 0 and self.periodic(g, pos // bs - 1)
            if not (periodic or pos in (self.save(r.prompt, c.alignment), r.junction)):
                self.pool.evict(block)
                return []
            if self.pool.tokens_of(block) == pos:
                return []
            return self.partial(r, g, block, pos, replace=True)
        at_junction = self.keeps_junctions and u == r.junction and r.computed < u <= r.prompt
        if u <= 0 or u % c.h or not (u == self.save(r.prompt, c.h) or at_junction):
            return []
        place = cdiv(u, bs) - 1
        if place >= len(held.table) or held.table[place] == NULL:
            return []
        block = held.table[place]
        if self.pool.tokens_of(block) == u:
            return []
        key = self.partial(r, g, block, u)
        if u % bs:
            held.copy = (place, block)
            held.cached = place
        return key

    # Steps and ends

    def begin_step(self) -> None:
        self.created.clear()

    def end_step(self) -> None:
        """Let go of what copies of this step read and wrote."""
        self.pool.release([b for holds in self.holds for b in holds])
        self.holds = [[] for _ in self.config.groups]

    def free(self, r: Request) -> None:
        for held in r.held:
            self.pool.release([b for b in reversed(held.table) if b != NULL])
        r.held = [Held() for _ in self.config.groups]
        r.computed = 0
