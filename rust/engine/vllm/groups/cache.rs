//! vLLM's KV-cache manager for several groups.

use std::collections::HashSet;

use super::allocation::Wanted;
use super::coordinator::{Agreement, Answer, Rules, Search};
use super::lease::GroupLease;
use super::pool::GroupKey;
use super::{GroupKind, GroupedLease, GroupsConfig, Layout, SharedPool};
use crate::engine::vllm::{NULL_SLOT, Slot};
use crate::error::Result;
use crate::index::to_u32;
use crate::serving::{
    CacheEvent, CacheSnapshot, CacheUsage, Demand, Hit, HitLimits, KvCache, NoRoom, Progress,
};

/// vLLM's KV-cache manager for several groups of layers over one pool.
#[derive(Debug, Clone)]
pub struct GroupedCache {
    pub(super) config: GroupsConfig,
    pub(super) layout: Layout,
    pub(super) pool: SharedPool,
    num_slots: u32,
    /// Slots found by the last lookup, for each group.
    pub(super) found: Vec<Vec<Slot>>,
    /// What the last lookup found.
    agreement: Agreement,
    answers: Vec<Answer>,
    /// States cached in this step, which are not computed yet.
    pub(super) created: HashSet<GroupKey>,
    /// Slots held to the end of the step, for each group: copied blocks and their copies in turn.
    pub(super) holds: Vec<Vec<Slot>>,
    pub(super) scratch: Vec<Slot>,
}

impl GroupedCache {
    /// A cache of `num_slots` slots, the null block included, for blocks that have numbers below
    /// `num_keys`.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) if the groups do not go together, or there is no slot but the
    /// null block; [`Error::Memory`](crate::Error::Memory).
    pub fn new(num_slots: u32, config: GroupsConfig, num_keys: u32) -> Result<Self> {
        let layout = Layout::new(&config)?;
        let groups = config.groups.len();
        Ok(Self {
            pool: SharedPool::new(num_slots, to_u32(groups), num_keys)?,
            num_slots,
            found: vec![Vec::new(); groups],
            agreement: Agreement::default(),
            answers: vec![Answer::default(); layout.classes.len()],
            created: HashSet::new(),
            holds: vec![Vec::new(); groups],
            scratch: Vec::new(),
            config,
            layout,
        })
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &SharedPool {
        &self.pool
    }

    /// What follows from the groups.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Starts recording events.
    pub fn record_events(&mut self) {
        self.pool.record_events();
    }

    /// The keys of the hashes that are known of a request with `num_tokens` tokens.
    pub(super) fn known_keys<'k>(&self, keys: &'k [u32], num_tokens: u32) -> &'k [u32] {
        let hashes = self.layout.hashes(num_tokens) as usize;
        &keys[..hashes.min(keys.len())]
    }

    fn slots(&self, main: u32) -> u32 {
        let slots = main.saturating_add(self.config.lookahead_slots);
        slots.min(self.config.max_model_len)
    }

    /// Whether so many slots are free. `None` needed: not in this step, though maybe in the next one without
    /// any change.
    fn check_room(&self, needed: Option<i64>, reserve: u32) -> std::result::Result<(), NoRoom> {
        let free = i64::from(self.pool.num_free());
        let version = self.pool.version();
        let until = match needed {
            Some(needed) if needed + i64::from(reserve) <= free => return Ok(()),
            Some(_) => version + 1,
            None => version,
        };
        Err(NoRoom {
            until,
            whatever_chunk: false,
        })
    }

    fn take(&mut self, lease: &mut GroupedLease, wanted: Wanted) -> u32 {
        let before = self.pool.num_free();
        self.grow(lease, wanted);
        before - self.pool.num_free()
    }
}

impl KvCache for GroupedCache {
    type Key = u32;
    type Lease = GroupedLease;

    fn lookup(&mut self, keys: &[u32], num_tokens: u32) -> Hit {
        self.agreement = Agreement::default();
        if !self.config.enable_caching {
            self.found.iter_mut().for_each(Vec::clear);
            return Hit::default();
        }
        let hashes = self.layout.hashes(num_tokens) as usize;
        let mut search = Search {
            pool: &self.pool,
            layout: &self.layout,
            keys: &keys[..hashes.min(keys.len())],
            found: &mut self.found,
            answers: &mut self.answers,
            rules: Rules::All,
        };
        self.agreement = search.agree(num_tokens, |_| true);
        if self.agreement.hit == 0 {
            self.found.iter_mut().for_each(Vec::clear);
        }
        Hit::on_device(self.agreement.hit)
    }

    fn junction(&self) -> u32 {
        let Agreement { hit, best } = self.agreement;
        if best > hit { best } else { 0 }
    }

    fn hit_limits(&self, keys: &[u32], num_tokens: u32) -> HitLimits {
        self.limits_of(keys, num_tokens, self.agreement.hit)
    }

    fn admit(
        &mut self,
        lease: &mut GroupedLease,
        keys: &[u32],
        progress: &Progress,
        demand: Demand,
    ) -> std::result::Result<u32, NoRoom> {
        let groups = self.config.groups.len();
        lease.groups.resize_with(groups, GroupLease::default);
        lease.junction = self.junction();
        lease.name = demand.name;
        let reserve = if demand.beside_others {
            self.config.watermark_slots
        } else {
            0
        };
        let total = self.agreement.hit;
        if demand.must_fit {
            let all = progress.num_tokens.min(self.config.max_model_len);
            let whole = Wanted {
                total,
                main: all,
                slots: all,
                capped: true,
            };
            let needed = self.needed(lease, progress, whole, true);
            self.check_room(needed, reserve)?;
        }
        let main = total + demand.new_tokens;
        let wanted = Wanted {
            total,
            main,
            slots: self.slots(main),
            capped: false,
        };
        let needed = self.needed(lease, progress, wanted, true);
        self.check_room(needed, reserve)?;
        if total > 0 {
            self.adopt(lease, total);
        }
        let taken = self.take(lease, wanted);
        self.cache(lease, keys, progress, main.min(progress.num_tokens), 0);
        Ok(taken)
    }

    fn extend(
        &mut self,
        lease: &mut GroupedLease,
        keys: &[u32],
        progress: &Progress,
        new_tokens: u32,
    ) -> std::result::Result<u32, NoRoom> {
        self.leave(lease, progress.settled());
        let total = progress.computed;
        let main = total + new_tokens;
        let wanted = Wanted {
            total,
            main,
            slots: self.slots(main),
            capped: false,
        };
        let needed = self.needed(lease, progress, wanted, false);
        self.check_room(needed, 0)?;
        let taken = self.take(lease, wanted);
        self.cache(lease, keys, progress, main.min(progress.num_tokens), total);
        Ok(taken)
    }

    fn chunk(&self, lease: Option<&GroupedLease>, progress: &Progress, tokens: u32) -> u32 {
        if tokens == 0 {
            return 0;
        }
        let junction = lease.map_or_else(|| self.junction(), |lease| lease.junction);
        self.cut(junction, progress, tokens)
    }

    fn settle(&mut self, lease: &mut GroupedLease, keys: &[u32], progress: &Progress) {
        self.cache(lease, keys, progress, progress.settled(), progress.computed);
    }

    fn begin_step(&mut self) {
        self.created.clear();
    }

    fn end_step(&mut self) {
        self.release_holds();
    }

    fn release(&mut self, lease: &mut GroupedLease) {
        for number in 0..lease.groups.len() {
            let order = self.release_order(number);
            let held = &mut lease.groups[number];
            let slots = held.table.iter().rev().copied();
            self.pool.release(slots, &mut self.scratch, order);
            held.clear();
        }
        lease.junction = 0;
    }

    fn quiet_tokens(&self, lease: &GroupedLease, progress: &Progress) -> u32 {
        let groups = 0..self.config.groups.len();
        let quiet = groups.map(|number| self.group_quiet_tokens(number, lease, progress));
        quiet.min().unwrap_or(0)
    }

    fn version(&self) -> u64 {
        self.pool.version()
    }

    fn enable_caching(&self) -> bool {
        self.config.enable_caching
    }

    fn max_model_len(&self) -> u32 {
        self.config.max_model_len
    }

    /// The smallest of the groups.
    fn block_size(&self) -> u32 {
        self.layout.smallest_block
    }

    fn usage(&self) -> CacheUsage {
        CacheUsage {
            usable: self.num_slots - 1,
            free: self.pool.num_free(),
            cached: self.pool.num_cached(),
            evictions: self.pool.evictions(),
        }
    }

    fn num_groups(&self) -> u32 {
        to_u32(self.config.groups.len())
    }

    fn table<'l>(&self, lease: &'l GroupedLease, group: u32) -> &'l [u32] {
        let held = lease.groups.get(group as usize);
        held.map_or(&[], |held| &held.table)
    }

    fn snapshot(&self) -> CacheSnapshot<u32> {
        CacheSnapshot {
            free: self.free_queue(),
            refs: self.pool.ref_counts().collect(),
            cached: self.pool.cached().collect(),
        }
    }

    fn free_queue(&self) -> Vec<u32> {
        self.pool.free_slots().collect()
    }

    fn take_events(&mut self) -> Vec<CacheEvent<u32>> {
        self.pool.take_events()
    }

    fn validate<'l>(
        &self,
        leases: impl IntoIterator<Item = (&'l GroupedLease, &'l Progress)>,
    ) -> Result<()> {
        self.check(leases.into_iter())
    }
}

impl GroupedCache {
    /// How many tokens a request can decode before anything happens to its blocks in one group.
    fn group_quiet_tokens(&self, number: usize, lease: &GroupedLease, progress: &Progress) -> u32 {
        let held = &lease.groups[number];
        let group = &self.config.groups[number];
        let size = group.block_size;
        let (at, settled) = (progress.computed % size, progress.settled());
        // Up to the next token that is the first of a block.
        let until = |at: u32, size: u32| (size - at % size) % size;
        let mut tokens = until(at, size);
        if self.config.enable_caching && progress.in_flight == 0 {
            tokens = tokens.min(size - 1 - at);
        }
        if held.copy.is_some() {
            return 0;
        }
        let skipped = ((self.skipped(number, settled) / size) as usize).min(held.table.len());
        let leaves = skipped > 0 && held.table[skipped - 1] != NULL_SLOT;
        match group.kind {
            GroupKind::Full => tokens,
            _ if leaves => 0,
            GroupKind::SlidingWindow { window } => {
                tokens.min(until(settled % size + size - (window - 1) % size, size))
            }
            GroupKind::ChunkedLocal { chunk } => tokens.min(until(settled, chunk)),
            // A state is given back when the next block has one token.
            GroupKind::Mamba { .. } => tokens.min(until(settled % size + size - 1, size)),
        }
    }
}
