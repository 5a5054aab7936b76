//! Lookup, allocation, caching and release, for one sequence at a time.

use super::block_pool::PoolEvent;
use super::{BlockPool, KeyIndex, NULL_SLOT, Slot};
use super::{ManagerConfig, Retention, SlidingWindow};
use crate::error::{Error, Result};
use crate::stats::Residency;

/// What the manager knows of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Slots of the blocks, in order; 0 where a block left the window.
    pub table: Vec<Slot>,
    /// Known tokens: the prompt and what was sampled so far.
    pub num_tokens: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens whose KV exists.
    pub computed: u32,
    /// Leading blocks of the table that were considered for caching.
    pub cached: u32,
    /// A name for events.
    pub name: u64,
}

impl Sequence {
    /// A request of which nothing is computed.
    #[must_use]
    pub fn new(prompt_tokens: u32, name: u64) -> Self {
        let mut sequence = Self::default();
        sequence.restart(prompt_tokens, name);
        sequence
    }

    /// Makes this another request, keeping the memory of the table.
    pub fn restart(&mut self, prompt_tokens: u32, name: u64) {
        self.table.clear();
        self.num_tokens = prompt_tokens;
        self.prompt_tokens = prompt_tokens;
        self.computed = 0;
        self.cached = 0;
        self.name = name;
    }
}

/// There is not enough room for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// [`BlockPool::version`] before which asking again has the same result.
    pub until: u64,
    /// Whether that holds whatever chunk is asked for.
    pub whatever_chunk: bool,
}

/// vLLM's KV-cache manager for one group of layers.
///
/// Sequences are owned by the caller, as are the keys of their full blocks. A request is admitted by
/// [`Manager::lookup`] and then [`Manager::admit`]; [`Manager::grow`] takes slots for further tokens
/// and [`Manager::release`] gives them back.
#[derive(Debug, Clone)]
pub struct Manager<I: KeyIndex> {
    config: ManagerConfig,
    pool: BlockPool<I>,
    /// Slots found by the last lookup.
    hits: Vec<Slot>,
    scratch: Vec<Slot>,
}

impl<I: KeyIndex> Manager<I> {
    /// A manager of `num_slots` slots, the null block included.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if the configuration is not usable or there is no slot
    /// but the null block.
    pub fn new(num_slots: u32, config: ManagerConfig, index: I) -> Result<Self> {
        config.validate()?;
        if !(2..u32::MAX).contains(&num_slots) {
            return Err(Error::invalid(format!(
                "{num_slots} blocks: give 2 to {} (block 0 is the null block and never used)",
                u32::MAX - 1
            )));
        }
        Ok(Self {
            config,
            pool: BlockPool::new(num_slots, index),
            hits: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &BlockPool<I> {
        &self.pool
    }

    /// Sets the clock of the pool; see [`BlockPool::set_time`].
    pub fn set_time(&mut self, now: f64) {
        self.pool.set_time(now);
    }

    /// The residency of evicted blocks; see [`BlockPool::take_residency`].
    pub fn take_residency(&mut self) -> Option<Residency> {
        self.pool.take_residency()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ManagerConfig {
        &self.config
    }

    /// Starts recording events.
    pub fn record_events(&mut self) {
        self.pool.record_events();
    }

    /// The events since the last call.
    pub fn take_events(&mut self) -> Vec<PoolEvent<I::Key>> {
        self.pool.take_events()
    }

    /// Tokens of a sequence of `num_tokens` tokens that are in the cache (their full blocks). At most
    /// `num_tokens - 1`: at least one token is computed. Changes nothing but what the next
    /// [`Manager::admit`] uses.
    ///
    /// `keys` are those of all full blocks.
    pub fn lookup(&mut self, keys: &[I::Key], num_tokens: u32) -> u32 {
        self.hits.clear();
        if !self.config.enable_caching {
            return 0;
        }
        let limit = (num_tokens.saturating_sub(1) / self.config.block_size) as usize;
        let keys = &keys[..limit.min(keys.len())];
        match self.config.sliding_window {
            None => self.pool.find_run(keys, &mut self.hits),
            Some(sliding) => self.lookup_window(keys, self.needed_blocks(sliding)),
        }
        self.hits.len() as u32 * self.config.block_size
    }

    /// From the end: the first run of `needed` cached blocks, or else the run at the beginning.
    fn lookup_window(&mut self, keys: &[I::Key], needed: usize) {
        self.hits.resize(keys.len(), NULL_SLOT);
        let mut run = 0;
        for (i, key) in keys.iter().enumerate().rev() {
            let Some(slot) = self.pool.get(key) else {
                self.hits[i..=i + run].fill(NULL_SLOT);
                run = 0;
                continue;
            };
            self.hits[i] = slot;
            run += 1;
            if run == needed {
                self.hits.truncate(i + needed);
                return;
            }
        }
        self.hits.truncate(run);
    }

    /// Blocks that the next token of a sliding-window model attends to, at most.
    fn needed_blocks(&self, sliding: SlidingWindow) -> usize {
        (sliding.window - 1).div_ceil(self.config.block_size) as usize
    }

    /// Leading blocks that no longer matter once `computed` tokens are.
    fn skipped_blocks(&self, computed: u32) -> usize {
        let Some(sliding) = self.config.sliding_window else {
            return 0;
        };
        let tokens = (u64::from(computed) + 1).saturating_sub(u64::from(sliding.window));
        (tokens / u64::from(self.config.block_size)) as usize
    }

    /// Slots found by the last lookup that nobody uses.
    fn idle_hits(&self, skipped: usize) -> usize {
        let adopted = &self.hits[skipped.min(self.hits.len())..];
        let idle = |&&slot: &&Slot| slot != NULL_SLOT && self.pool.refs(slot) == 0;
        adopted.iter().filter(idle).count()
    }

    fn blocks(&self, tokens: u64) -> usize {
        let tokens = tokens.min(u64::from(self.config.max_model_len)) as u32;
        tokens.div_ceil(self.config.block_size) as usize
    }

    /// Admits a sequence that holds no slots: takes the blocks found by the last lookup, which must
    /// have been for this sequence, and slots for the `new_tokens` after them. Returns how many slots
    /// were newly taken (the end of the table), or [`NoRoom`]; then nothing
    /// has changed. `computed` becomes the number of hit tokens; the caller adds `new_tokens` once
    /// they are computed.
    ///
    /// With `must_fit` all known tokens have to fit, not only the `new_tokens`. With `beside_others`
    /// the watermark has to stay free.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn admit(
        &mut self,
        sequence: &mut Sequence,
        keys: &[I::Key],
        new_tokens: u32,
        must_fit: bool,
        beside_others: bool,
    ) -> std::result::Result<u32, NoRoom> {
        debug_assert!(sequence.table.is_empty() && sequence.computed == 0);
        let reserve = if beside_others {
            self.config.watermark_slots as usize
        } else {
            0
        };
        let base = self.hits.len() as u32 * self.config.block_size;
        let skipped = self.skipped_blocks(base);
        let idle = self.idle_hits(skipped);
        let held = skipped.max(self.hits.len());
        let free = self.pool.num_free() as usize;
        let version = self.pool.version();
        if must_fit {
            let mut required = self.blocks(u64::from(sequence.num_tokens));
            if let Some(SlidingWindow {
                window,
                batch_tokens: Some(batch),
                ..
            }) = self.config.sliding_window
            {
                let bound = self.blocks(u64::from(window) - 1 + u64::from(batch)) + 1;
                required = required.min(bound);
            }
            let needed = required.saturating_sub(held) + idle + reserve;
            if needed > free {
                // With full attention, `needed - free` is the length of the sequence less its blocks
                // in use and the free slots, and a change of one slot changes it by one at most.
                let full_attention = self.config.sliding_window.is_none();
                let deficit = if full_attention { needed - free } else { 1 };
                let until = version + deficit as u64;
                return Err(NoRoom {
                    until,
                    whatever_chunk: true,
                });
            }
        }
        let end = u64::from(base) + u64::from(new_tokens);
        let missing = self.blocks(end).saturating_sub(held);
        if missing + idle + reserve > free {
            return Err(NoRoom {
                until: version + 1,
                whatever_chunk: false,
            });
        }
        sequence.table.reserve(held + missing);
        sequence.table.resize(skipped, NULL_SLOT);
        for &slot in &self.hits[skipped.min(self.hits.len())..] {
            if slot != NULL_SLOT {
                self.pool.touch(slot);
            }
            sequence.table.push(slot);
        }
        sequence.cached = sequence.table.len() as u32;
        sequence.computed = base;
        self.pool.take(missing as u32, &mut sequence.table);
        self.cache(sequence, keys, end);
        Ok(missing as u32)
    }

    /// Takes slots for the next `new_tokens` after the computed ones. Returns how many were taken
    /// (the end of the table), or `None` if there is not enough room; then nothing has changed, but
    /// for blocks that left a sliding window, which are released in any case.
    pub fn grow(
        &mut self,
        sequence: &mut Sequence,
        keys: &[I::Key],
        new_tokens: u32,
    ) -> Option<u32> {
        if self.config.sliding_window.is_some() {
            self.leave_window(sequence);
        }
        let end = u64::from(sequence.computed) + u64::from(new_tokens);
        let missing = self.blocks(end).saturating_sub(sequence.table.len());
        if missing > 0 {
            if missing > self.pool.num_free() as usize {
                return None;
            }
            self.pool.take(missing as u32, &mut sequence.table);
        }
        self.cache(sequence, keys, end);
        Some(missing as u32)
    }

    /// Whether [`Manager::grow`] will release a block that left the window.
    #[must_use]
    pub fn will_release(&self, sequence: &Sequence) -> bool {
        let skipped = self
            .skipped_blocks(sequence.computed)
            .min(sequence.table.len());
        skipped > 0 && sequence.table[skipped - 1] != NULL_SLOT
    }

    /// Releases the blocks that no later token attends to.
    fn leave_window(&mut self, sequence: &mut Sequence) {
        let skipped = self
            .skipped_blocks(sequence.computed)
            .min(sequence.table.len());
        let start = sequence.table[..skipped]
            .iter()
            .rposition(|&slot| slot == NULL_SLOT)
            .map_or(0, |i| i + 1);
        if start < skipped {
            self.release_slots(&sequence.table[start..skipped]);
            sequence.table[start..skipped].fill(NULL_SLOT);
        }
    }

    fn release_slots(&mut self, slots: &[Slot]) {
        self.pool
            .release(slots, &mut self.scratch, self.config.uncached_first);
    }

    /// Caches the blocks that are full once `end` tokens are computed.
    fn cache(&mut self, sequence: &mut Sequence, keys: &[I::Key], end: u64) {
        let full = end.min(u64::from(sequence.num_tokens)) / u64::from(self.config.block_size);
        let (first, full) = (sequence.cached as usize, full as usize);
        if !self.config.enable_caching || full <= first {
            return;
        }
        sequence.cached = full as u32;
        let mut stored = self.pool.records_events().then(Vec::new);
        let blocks = sequence.table[first..full].iter().zip(&keys[first..full]);
        for (block, (&slot, &key)) in (first..full).zip(blocks) {
            if slot == NULL_SLOT || !self.retains(sequence, block) {
                continue;
            }
            self.pool.cache(slot, key);
            if let Some(stored) = &mut stored {
                stored.push((key, block as u32));
            }
        }
        if let Some(stored) = stored
            && !stored.is_empty()
        {
            let (keys, blocks) = stored.into_iter().unzip();
            self.pool.push_event(PoolEvent::Stored {
                keys,
                blocks,
                sequence: sequence.name,
            });
        }
    }

    /// Whether the retention interval lets a block have its hash.
    fn retains(&self, sequence: &Sequence, block: usize) -> bool {
        let Some(sliding) = self.config.sliding_window else {
            return true;
        };
        let needed = self.needed_blocks(sliding);
        let group = match sliding.retention {
            Retention::Dense => return true,
            Retention::PromptEnd => 0,
            Retention::Interval(tokens) => (tokens / self.config.block_size) as usize,
        };
        if group > 0 && (needed >= group || block % group >= group - needed) {
            return true;
        }
        let end = (sequence.prompt_tokens.saturating_sub(1) / self.config.block_size) as usize;
        block < end && block + needed >= end
    }

    /// Gives all slots back and forgets what was computed. Known tokens stay known.
    pub fn release(&mut self, sequence: &mut Sequence) {
        self.release_slots(&sequence.table);
        sequence.table.clear();
        sequence.computed = 0;
        sequence.cached = 0;
    }

    /// Forgets all cached blocks; refused (`false`) while a slot is in use.
    pub fn reset(&mut self) -> bool {
        self.pool.reset()
    }

    /// Forgets the blocks in these slots, in use or not.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if a slot does not exist; then nothing has changed.
    pub fn evict(&mut self, slots: &[Slot]) -> Result<()> {
        let num_slots = self.pool.num_slots();
        if let Some(slot) = slots.iter().find(|&&slot| slot >= num_slots) {
            return Err(Error::invalid(format!(
                "slot {slot} does not exist: the cache has slots 0 to {}",
                num_slots - 1
            )));
        }
        for &slot in slots {
            self.pool.forget(slot);
        }
        Ok(())
    }

    /// Checks every invariant of the pool, and that `sequences`, all that hold slots, account for
    /// every reference.
    ///
    /// # Errors
    /// [`crate::Error::Bug`] naming the first one that does not hold.
    pub fn validate<'s>(&self, sequences: impl IntoIterator<Item = &'s Sequence>) -> Result<()> {
        self.pool.validate()?;
        let mut refs = std::collections::BTreeMap::<Slot, u32>::new();
        for sequence in sequences {
            if sequence.cached as usize > sequence.table.len() {
                return Err(Error::bug(format!(
                    "{sequence:?}: more blocks cached than held"
                )));
            }
            let required = self.blocks(u64::from(sequence.computed));
            if sequence.table.len() < required {
                return Err(Error::bug(format!(
                    "{sequence:?}: computed tokens without a slot"
                )));
            }
            for &slot in sequence.table.iter().filter(|&&slot| slot != NULL_SLOT) {
                *refs.entry(slot).or_default() += 1;
            }
        }
        if !refs.into_iter().eq(self.pool.ref_counts()) {
            return Err(Error::bug("reference counts differ from the block tables"));
        }
        if !self.config.enable_caching && self.pool.num_cached() > 0 {
            return Err(Error::bug("blocks are cached although caching is off"));
        }
        Ok(())
    }
}
