//! States: Mamba, gated delta net, short convolution. Only the state after a prefix matters, and only the
//! states that were kept can be gone on from (vLLM's `MambaManager`, mode `align`).
//!
//! A step leaves one running state (and one per guess), the block of its last token. To keep states where
//! later requests want them, prefills end at block boundaries ([`GroupedCache::cut`]), unless the kernels can
//! export a state from inside a step, the *checkpoint*.

use super::allocation::Wanted;
use super::caching::Known;
use super::coordinator::Search;
use super::layout::align;
use super::lease::{GroupLease, GroupedLease};
use super::pool::GroupKey;
use super::{Class, GroupKind, GroupedCache};
use crate::engine::vllm::{NULL_SLOT, Retention, Slot};
use crate::index::to_u32;
use crate::serving::Progress;

/// The longest prefix whose state is cached.
pub(super) fn find(search: &mut Search<'_>, class: &Class, limit: u32) -> u32 {
    let step = search.alignment(class);
    for lengths in (1..=limit / step).rev() {
        let tokens = lengths * step;
        let nulls = (tokens - 1) / class.block_size;
        let hash = (tokens / search.layout.hash_unit) as usize - 1;
        if class
            .members
            .iter()
            .any(|&member| search.slot(member, hash).is_none())
        {
            continue;
        }
        search.start(class, nulls as usize);
        search.push(class, hash);
        return tokens;
    }
    search.start(class, 0);
    0
}

/// A step of a request, from its first token to behind its last.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Whether a state at `tokens` can be exported from inside the step, by kernels that do so at multiples
    /// of `alignment` from its start, into a block of `size` tokens; hashes every `unit` tokens.
    fn exports(self, tokens: u32, alignment: u32, size: u32, unit: u32) -> bool {
        let Self { start, end } = self;
        let blocks_before = i64::from(end.div_ceil(size)) - 2;
        let first_block = (i64::from(start) - 1).div_euclid(i64::from(size));
        start.is_multiple_of(unit)
            && blocks_before > first_block
            && start + unit <= tokens
            && start < tokens
            && tokens < end
            && (tokens - start).is_multiple_of(alignment)
    }
}

fn prefill_end(progress: &Progress) -> u32 {
    progress.prompt_tokens.max(progress.num_tokens - 1)
}

impl GroupedCache {
    /// The last multiple of `unit` at which a state that a prefill of `tokens` tokens saves can be used again.
    fn saved(&self, tokens: u32, unit: u32) -> u32 {
        if self.layout.any_drops() {
            align(tokens, unit).saturating_sub(unit)
        } else {
            align(tokens.saturating_sub(self.layout.lookahead.max(1)), unit)
        }
    }

    fn checkpoint_alignment(&self, number: usize) -> Option<u32> {
        match self.config.groups[number].kind {
            GroupKind::Mamba {
                checkpoint_alignment,
            } => checkpoint_alignment,
            _ => None,
        }
    }

    /// Whether the states of the prompt are exported from inside the step, for all groups.
    fn is_exported(&self, span: Span, prefill_end: u32) -> bool {
        if span.end < prefill_end {
            return false;
        }
        let mut mambas = self
            .config
            .groups
            .iter()
            .filter_map(|group| match group.kind {
                GroupKind::Mamba {
                    checkpoint_alignment,
                } => Some(checkpoint_alignment),
                _ => None,
            });
        let Some(Some(alignment)) = mambas.next() else {
            return false;
        };
        let layout = &self.layout;
        let unit = if layout.fine {
            layout.hash_unit
        } else {
            layout.scheduler_block
        };
        let tokens = self.saved(prefill_end, unit);
        mambas.all(|other| other.is_some())
            && span.exports(tokens, alignment, layout.smallest_block, layout.hash_unit)
    }

    /// How many of `tokens` tokens a step computes, so that it ends where a state is to be kept.
    pub(super) fn cut(&self, junction: u32, progress: &Progress, tokens: u32) -> u32 {
        let start = progress.computed;
        let prefill_end = prefill_end(progress);
        if !self.layout.keeps_states || start >= prefill_end {
            return tokens;
        }
        let block = self.layout.smallest_block;
        let unit = self.layout.hash_unit;
        let prompt = progress.prompt_tokens;
        let mut end = start + tokens;
        let inside = self.is_exported(Span { start, end }, prefill_end);
        let last = if inside {
            0
        } else {
            self.saved(progress.num_tokens, block)
        };
        if end < prefill_end {
            let aligned = align(end, block);
            if aligned > start || block <= self.config.chunk_tokens {
                end = aligned;
            }
        }
        let tail = if self.layout.fine && !inside {
            self.saved(prompt, unit)
        } else {
            0
        };
        let parting = if self.layout.junction_checkpoints && junction <= prompt {
            junction
        } else {
            start + align(junction.saturating_sub(start), block)
        };
        let stops = [
            (!start.is_multiple_of(block) && !inside).then(|| align(start, block) + block),
            Some(last),
            (last < tail && tail < prompt).then_some(tail),
            (start < junction && junction < end).then_some(parting),
        ];
        let inner = stops
            .into_iter()
            .flatten()
            .filter(|&stop| start < stop && stop < end);
        inner.min().unwrap_or(end).saturating_sub(start)
    }

    /// Whether a step that ends at `end` exports the state at `tokens` in a group; see [`Span::exports`].
    fn wants_checkpoint(
        &self,
        number: usize,
        held: &GroupLease,
        progress: &Progress,
        span: Span,
        tokens: u32,
    ) -> bool {
        let Some(alignment) = self.checkpoint_alignment(number) else {
            return false;
        };
        let size = self.config.groups[number].block_size;
        let least = match self.config.retention {
            Retention::PromptEnd => prefill_end(progress),
            Retention::Dense | Retention::Interval(_) => 0,
        };
        if span.end < least || !span.exports(tokens, alignment, size, self.layout.hash_unit) {
            return false;
        }
        let Some(index) = span.end.div_ceil(size).checked_sub(2) else {
            return false;
        };
        let (index, length) = (index as usize, held.table.len());
        let drafts = self.config.draft_tokens as usize;
        index >= length
            || held.table[index] == NULL_SLOT
            || (held.started && index + drafts >= length)
    }

    /// Slots that a group needs: fewer than none if its table is longer than it has to be. `None`: what was
    /// found is still being computed.
    pub(super) fn state_needs(
        &self,
        number: usize,
        held: &mut GroupLease,
        progress: &Progress,
        wanted: Wanted,
        hits: &[Slot],
    ) -> Option<i64> {
        if let Some(&last) = hits.last()
            && last != NULL_SLOT
            && let Some((key, _)) = self.pool.primary(last)
            && self.created.contains(&key)
        {
            return None;
        }
        let size = self.config.groups[number].block_size;
        let drafts = i64::from(self.config.draft_tokens);
        let blocks = wanted.main.div_ceil(size);
        let there = to_u32(hits.len() + held.table.len());
        let mut needed = i64::from(blocks) + drafts - i64::from(there);
        let found_part = !hits.is_empty() && !wanted.total.is_multiple_of(size);
        let copies = found_part || held.copy.is_some();
        if copies {
            needed = needed.max(0) + 1;
        }
        let saved = self.saved(wanted.main, self.layout.alignment);
        let span = Span {
            start: wanted.total,
            end: wanted.main,
        };
        let exports = saved > 0 && self.wants_checkpoint(number, held, progress, span, saved);
        if !wanted.capped {
            held.checkpoint = exports.then(|| (saved, blocks as usize - 2));
        }
        if needed > 0 {
            let of_drafts = if held.started { 0 } else { drafts };
            needed = needed.min(1 + i64::from(copies) + i64::from(exports) + of_drafts);
        }
        Some(needed + self.idle_hits(hits, 0))
    }

    /// Makes room for the states of a step that ends at `main` tokens.
    pub(super) fn grow_states(&mut self, number: usize, held: &mut GroupLease, main: u32) {
        let size = self.config.groups[number].block_size;
        let drafts = self.config.draft_tokens as usize;
        let required = main.div_ceil(size) as usize + drafts;
        let length = held.table.len();
        if required <= length && held.copy.is_none() && held.checkpoint.is_none() {
            held.started = true;
            return;
        }
        // The running state after this step, and before it the exported one.
        let running = required.saturating_sub(drafts + 1);
        let before = running.saturating_sub(usize::from(held.checkpoint.is_some()));
        if length < before {
            held.table.resize(before, NULL_SLOT);
        }
        if held.started {
            // The slots of guesses move on.
            for i in length.saturating_sub(drafts)..length.min(before) {
                let slot = std::mem::replace(&mut held.table[i], NULL_SLOT);
                held.table.push(slot);
            }
        }
        if let Some((index, from)) = held.copy.take() {
            let slot = self.pool.take_one();
            if held.started {
                self.copy_state(number, from, slot);
            } else {
                self.copy_held(number, held, (index, from), slot);
            }
        }
        let missing = required.saturating_sub(held.table.len());
        self.pool.take(missing, &mut held.table);
        held.started = true;
    }

    /// Caches the state that the step ends with or exports, if it is worth it. `first`: blocks considered
    /// before.
    pub(super) fn cache_state(
        &mut self,
        number: usize,
        lease: &mut GroupedLease,
        known: &Known<'_>,
        usable: u32,
        first: u32,
    ) {
        let held = &mut lease.groups[number];
        let slots = held.table[first.min(held.cached) as usize..held.cached as usize].iter();
        for &slot in slots.filter(|&&slot| slot != NULL_SLOT) {
            if let Some((key, _)) = self.pool.primary(slot) {
                self.created.insert(key);
            }
        }
        if let Some((tokens, index)) = held.checkpoint {
            let slot = held.table[index];
            if !self.keeps_checkpoint(number, known, lease.junction, tokens) {
                self.pool.evict(slot);
                return;
            }
            self.cache_state_at(number, known, slot, tokens, true);
            return;
        }
        if !self.ends_at_state(known, lease.junction, usable) {
            return;
        }
        let size = self.config.groups[number].block_size;
        let index = usable.div_ceil(size) as usize - 1;
        let Some(&slot) = held.table.get(index) else {
            return;
        };
        if self.cache_state_at(number, known, slot, usable, false) && !usable.is_multiple_of(size) {
            held.copy = Some((index, slot));
            held.cached = to_u32(index);
        }
    }

    fn keeps_checkpoint(
        &self,
        number: usize,
        known: &Known<'_>,
        junction: u32,
        tokens: u32,
    ) -> bool {
        let prompt = known.progress.prompt_tokens;
        let size = self.config.groups[number].block_size;
        let selection = self.selection(number, prompt, junction);
        tokens == self.saved(prompt, self.layout.alignment)
            || (tokens.is_multiple_of(size) && selection.is_periodic(tokens / size - 1))
            || tokens == junction
    }

    /// Whether the step was cut so that it ends at a state to be kept.
    fn ends_at_state(&self, known: &Known<'_>, junction: u32, usable: u32) -> bool {
        let unit = self.layout.hash_unit;
        if usable == 0 || !usable.is_multiple_of(unit) {
            return false;
        }
        let prompt = known.progress.prompt_tokens;
        let parts = self.layout.junction_checkpoints
            && usable == junction
            && known.before < usable
            && usable <= prompt;
        usable == self.saved(prompt, unit) || parts
    }

    /// Lists a slot under the key of the first `tokens` tokens, unless it is its primary one. Returns whether
    /// it did.
    fn cache_state_at(
        &mut self,
        number: usize,
        known: &Known<'_>,
        slot: Slot,
        tokens: u32,
        replace: bool,
    ) -> bool {
        let Some(&key) = known
            .keys
            .get((tokens / self.layout.hash_unit) as usize - 1)
        else {
            return false;
        };
        let stands_for = self.pool.primary(slot).map(|(_, tokens)| tokens);
        if slot == NULL_SLOT || stands_for == Some(tokens) {
            return false;
        }
        let group = to_u32(number);
        self.cache_part(slot, GroupKey { group, key }, tokens, replace);
        self.created.insert(GroupKey { group, key });
        true
    }
}
