"""Groups of recurrent states in vLLM 0.33: where steps end, and the blocks a state needs."""

from __future__ import annotations

from tests.oracle.hybrid_lookup import Cache
from tests.oracle.kv_groups import NULL, Request, align, cdiv


class States(Cache):
    """Rules of groups that keep states at chosen lengths."""

    def is_state(self, g: int) -> bool:
        """Whether the group keeps states at chosen lengths; without caching it keeps one."""
        return self.config.caching and self.config.groups[g].type == "mamba"

    def idle(self, hits: list[int]) -> int:
        """Hit blocks that are in the free queue and will leave it."""
        return sum(1 for b in hits if b != NULL and self.pool.refs[b] == 0)

    def save(self, tokens: int, unit: int) -> int:
        """Where a state saved in a prefill of so many tokens can be used again."""
        p = tokens if self.any_drops else tokens - max(1, self.config.looks_ahead)
        p = align(p, unit)
        return max(p - unit if self.any_drops else p, 0)

    def can_export(
        self, start: int, end: int, pos: int, block_size: int, alignment: int | None
    ) -> bool:
        return (
            alignment is not None
            and start % self.config.h == 0
            and cdiv(end, block_size) - 2 > (start - 1) // block_size
            and start + self.config.h <= pos
            and start < pos < end
            and (pos - start) % alignment == 0
        )

    def exports(self, r: Request, g: int, start: int, end: int, pos: int) -> bool:
        c, group, held = self.config, self.config.groups[g], r.held[g]
        bs, size = group.block_size, len(held.table)
        prefill_end = max(r.prompt, r.num_tokens - 1) if c.retention == 0 else 0
        i = cdiv(end, bs) - 2
        if not (group.checkpoint_blocks and end >= prefill_end and i >= 0):
            return False
        if not self.can_export(start, end, pos, bs, group.checkpoint_alignment):
            return False
        return i >= size or held.table[i] == NULL or (held.started and i >= size - c.drafts)

    def cut(self, r: Request, start: int, n: int) -> int:
        """End a step of a model with states where a state is of use."""
        c = self.config
        prefill_end = max(r.prompt, r.num_tokens - 1)
        if not c.has_states or start >= prefill_end:
            return n
        small, end = min(c.sizes), start + n
        states = [g for g in c.groups if g.type == "mamba"]
        limits = [c.batch_tokens, *([c.long_prefill_threshold] if c.long_prefill_threshold else [])]
        inside = (
            all(g.checkpoint_blocks for g in states)
            and end >= prefill_end
            and self.can_export(
                start,
                end,
                self.save(prefill_end, c.h if c.fine else c.scheduler_block_size),
                small,
                states[0].checkpoint_alignment,
            )
        )
        last = 0 if inside else self.save(r.num_tokens, small)
        if end < prefill_end:
            aligned = align(end, small)
            if aligned > start or small <= min(limits):
                end = aligned
        tail = self.save(r.prompt, c.h) if c.fine and not inside else 0
        stops = [last]
        if start % small and not inside:
            stops.append(align(start, small) + small)
        if last < tail < r.prompt:
            stops.append(tail)
        if start < r.junction < end:
            whole = self.keeps_junctions and r.junction <= r.prompt
            stops.append(r.junction if whole else start + align(r.junction - start, small))
        return min([stop for stop in stops if start < stop < end], default=end) - start

    def need_state(
        self, r: Request, g: int, main: int, total: int, hits: list[int], *, capped: bool
    ) -> int:
        c, held = self.config, r.held[g]
        bs, size = c.groups[g].block_size, len(held.table)
        last = self.pool.primary.get(hits[-1]) if hits else None
        if last is not None and last[0] in self.created:
            return c.num_blocks + 1
        n = cdiv(main, bs) + c.drafts - len(hits) - size
        continued = (bool(hits) and total % bs != 0) or held.copy is not None
        if continued:
            n = max(n, 0) + 1
        place = self.save(main, c.alignment)
        pos = place if self.exports(r, g, total, main, place) else 0
        if not capped:
            held.export = (pos, cdiv(main, bs) - 2) if pos else None
        if n > 0:
            n = min(n, 1 + continued + (pos > 0) + (0 if held.started else c.drafts))
        return n + self.idle(hits)
