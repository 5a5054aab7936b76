//! The tree and the pool of pages that it shares with running requests.

use super::lease::Lease;
use super::policy::Policy;
use super::sequences::Sequences;
use super::tree::{Insertion, Match, RadixTree};
use super::trie::NodeId;
use super::version::Version;
use crate::error::{Error, Result};

/// How a [`RadixCache`] behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    /// Whose rules.
    pub version: Version,
    /// Tokens per page (SGLang's `page_size`).
    pub page_size: u32,
    /// Tokens of the pool (`max_total_num_tokens`), rounded down to whole pages. `None`: no limit.
    pub capacity_tokens: Option<u64>,
    /// Order of eviction.
    pub policy: Policy,
    /// `disable_radix_cache`: nothing is kept or found.
    pub disabled: bool,
}

impl CacheConfig {
    /// # Errors
    /// A page size of 0, a capacity below one page, a policy the version does not have.
    pub fn validate(&self) -> Result<()> {
        if self.page_size == 0 {
            return Err(Error::range("page_size is 0, it must be positive"));
        }
        if let Some(capacity) = self.capacity_tokens
            && (capacity < u64::from(self.page_size) || capacity > UNBOUNDED)
        {
            return Err(Error::range(format!(
                "a capacity of {capacity} tokens: give at least a page ({}) and at most 2^62",
                self.page_size
            )));
        }
        self.policy.check(self.version)
    }
}

/// Tokens of a pool without a limit.
const UNBOUNDED: u64 = 1 << 62;

/// Evictions in the order in which they happened, one row per call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvictionLog {
    /// Step, or number of the request.
    pub at: Vec<u64>,
    /// Tokens asked for.
    pub requested: Vec<u64>,
    /// Where the nodes of each call end in `lengths`.
    pub ends: Vec<u64>,
    /// Lengths of the removed nodes in order.
    pub lengths: Vec<u32>,
}

/// Sums of evictions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EvictionTotals {
    /// Calls, those that found nothing included.
    pub calls: u64,
    /// Nodes.
    pub nodes: u64,
    /// Tokens.
    pub tokens: u64,
}

/// The radix cache: a tree, a pool of pages, and requests that hold some of both.
#[derive(Debug)]
pub struct RadixCache<S> {
    tree: RadixTree<S>,
    capacity: u64,
    /// Tokens in pages that nobody owns.
    free: u64,
    /// Whether nothing is kept.
    disabled: bool,
    /// What evictions are recorded under.
    pub(super) now: u64,
    log: Option<EvictionLog>,
    totals: EvictionTotals,
    removed: Vec<u32>,
}

impl<S: Sequences> RadixCache<S> {
    /// An empty cache.
    ///
    /// # Errors
    /// As [`CacheConfig::validate`].
    pub fn new(config: &CacheConfig, sequences: S) -> Result<Self> {
        config.validate()?;
        let page = u64::from(config.page_size);
        let capacity = config.capacity_tokens.unwrap_or(UNBOUNDED) / page * page;
        Ok(Self {
            tree: RadixTree::new(config.version, config.policy, config.page_size, sequences),
            capacity,
            free: capacity,
            disabled: config.disabled,
            now: 0,
            log: None,
            totals: EvictionTotals::default(),
            removed: Vec::new(),
        })
    }

    /// Starts to keep what [`RadixCache::take_log`] returns.
    pub fn record_evictions(&mut self) {
        self.log = Some(EvictionLog::default());
    }

    /// The evictions since the last call; empty if they are not recorded.
    pub fn take_log(&mut self) -> EvictionLog {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &RadixTree<S> {
        &self.tree
    }

    /// The tree, for calls that leave the pool as it is: matching, locking.
    pub fn tree_mut(&mut self) -> &mut RadixTree<S> {
        &mut self.tree
    }

    /// Whether nothing is kept or found.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// Tokens of the pool.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Tokens in pages that nobody owns.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Tokens that are free or can be made so.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.free + self.tree.evictable()
    }

    /// Sums of evictions.
    #[must_use]
    pub fn evicted(&self) -> EvictionTotals {
        self.totals
    }

    /// Rounded up to whole pages.
    #[must_use]
    pub fn ceil(&self, tokens: u32) -> u64 {
        let page = u64::from(self.tree.page());
        let floor = u64::from(self.tree.floor(tokens));
        if floor == u64::from(tokens) {
            floor
        } else {
            floor + page
        }
    }

    /// Evicts at least so many tokens if there are as many to evict; returns how many went.
    pub fn evict(&mut self, tokens: u64) -> u64 {
        self.removed.clear();
        let freed = self.tree.evict(tokens, &mut self.removed);
        self.free += freed;
        self.totals.calls += 1;
        self.totals.nodes += self.removed.len() as u64;
        self.totals.tokens += freed;
        if let Some(log) = &mut self.log {
            log.at.push(self.now);
            log.requested.push(tokens);
            log.lengths.extend_from_slice(&self.removed);
            log.ends.push(log.lengths.len() as u64);
        }
        freed
    }

    /// Evicts if fewer than `demand` tokens are free: as much as is missing, or before 0.5.23 as much
    /// as was asked for.
    pub fn make_room(&mut self, demand: u64) {
        if demand <= self.free {
            return;
        }
        if self.tree.version().evicts_shortfall() {
            self.evict(demand - self.free);
        } else {
            self.evict(demand);
        }
    }

    /// Empties the cache. Refused while a request holds something.
    pub fn reset(&mut self) -> bool {
        if self.free + self.tree.evictable() < self.capacity || !self.tree.reset() {
            return false;
        }
        self.free = self.capacity;
        true
    }

    /// Finds the longest prefix of a request of `known` tokens and holds it. At least one token is
    /// left to compute.
    pub fn admit(&mut self, lease: &mut Lease, known: u32) -> u32 {
        let found = self.tree.find(lease.sequence, known.saturating_sub(1));
        self.hold(lease, found);
        found.tokens
    }

    /// Lets a request hold what was found for it.
    pub fn hold(&mut self, lease: &mut Lease, found: Match) {
        self.tree.lock(found.node);
        lease.allocated = found.tokens;
        lease.in_tree = found.tokens;
        lease.inserted = 0;
        lease.node = found.node;
    }

    /// Takes pages so that the first `upto` tokens have KV. Returns whether there was room; if not,
    /// nothing changed.
    pub fn take(&mut self, lease: &mut Lease, upto: u32) -> bool {
        let need = self.ceil(upto) - self.ceil(lease.allocated);
        if need > self.free {
            return false;
        }
        self.free -= need;
        lease.allocated = upto;
        true
    }

    /// Takes a page if one more token needs one. Returns whether there was room.
    pub(super) fn take_one(&mut self, lease: &mut Lease) -> bool {
        if self.tree.in_page(lease.allocated) == 0 {
            let page = u64::from(self.tree.page());
            if page > self.free {
                return false;
            }
            self.free -= page;
        }
        lease.allocated += 1;
        true
    }

    /// Sets the free tokens after requests have grown by steps that are counted elsewhere.
    pub(super) fn set_free(&mut self, tokens: u64) {
        self.free = tokens;
    }

    /// Makes room for `demand` tokens (and a page, if pages have several tokens), and takes pages so that
    /// the first `upto` tokens have KV. Returns `false` without any change if that is impossible.
    pub fn grow(&mut self, lease: &mut Lease, upto: u32, demand: u32) -> bool {
        if self.ceil(upto) - self.ceil(lease.allocated) > self.available() {
            return false;
        }
        let page = u64::from(self.tree.page());
        // A decode step (no demand of its own) asks for a page in any case.
        let slack = if page > 1 || demand == 0 { page } else { 0 };
        self.make_room(u64::from(demand) + slack);
        self.take(lease, upto)
    }

    /// Puts the whole pages of the first `len` tokens of a sequence into the tree, without a request.
    /// `None` without any change if there is no room.
    pub fn insert(&mut self, sequence: u32, len: u32, insertion: &Insertion) -> Option<Match> {
        let len = self.tree.floor(len);
        let there = self.tree.peek(sequence, len);
        // What is there must not be evicted to make room for the rest.
        self.tree.lock(there.node);
        let need = u64::from(len - there.tokens);
        let fits = need <= self.available();
        if fits {
            self.make_room(need);
        }
        self.tree.unlock(there.node);
        if !fits {
            return None;
        }
        self.free -= need;
        Some(self.tree.insert(sequence, len, insertion))
    }

    /// Publishes the first `upto` tokens, which have KV, while the request goes on. `chunked`: they
    /// are not the whole prompt.
    pub fn checkpoint(&mut self, lease: &mut Lease, upto: u32, chunked: bool) {
        if self.disabled {
            return;
        }
        let len = self.tree.floor(upto);
        let version = self.tree.version();
        let mut end = self.publish(lease, len, chunked);
        if version.is_0523() {
            lease.inserted = lease.inserted.max(len);
            let prompt = self.tree.floor(lease.prompt);
            if version.splits_at_prompt() && 0 < prompt && prompt < len {
                let insertion = Insertion {
                    priority: lease.priority + 1,
                    inserted: prompt,
                    chunked: false,
                };
                self.tree.insert(lease.sequence, prompt, &insertion);
            }
        }
        if !version.is_unified() {
            end = self.tree.find(lease.sequence, len).node;
        }
        self.tree.unlock(lease.node);
        self.tree.lock(end);
        lease.node = end;
        lease.in_tree = len;
    }

    /// Inserts the first `len` tokens and gives back the pages of those that were there already.
    fn publish(&mut self, lease: &Lease, len: u32, chunked: bool) -> NodeId {
        let insertion = Insertion {
            priority: lease.priority,
            inserted: lease.inserted,
            chunked,
        };
        let found = self.tree.insert(lease.sequence, len, &insertion);
        self.free += u64::from(found.tokens - lease.in_tree);
        found.node
    }

    /// Ends a request: its first `upto` tokens stay in the tree, its other pages become free.
    pub fn finish(&mut self, lease: &mut Lease, upto: u32) {
        if self.disabled || self.tree.version().is_0523() {
            self.checkpoint(lease, upto, false);
        } else {
            let len = self.tree.floor(upto);
            self.publish(lease, len, false);
            lease.in_tree = len;
        }
        self.drop_lease(lease);
    }

    /// Takes everything from a request that is not in the tree.
    pub fn drop_lease(&mut self, lease: &mut Lease) {
        self.free += self.ceil(lease.allocated) - u64::from(lease.in_tree);
        self.tree.unlock(lease.node);
        lease.node = NodeId::ROOT;
        lease.allocated = 0;
        lease.in_tree = 0;
        lease.inserted = 0;
    }

    /// Checks every invariant; `held` are the requests that hold something.
    ///
    /// # Errors
    /// [`Error::Bug`] about the first one that does not hold.
    pub fn validate<'l>(&self, held: impl Iterator<Item = &'l Lease>) -> Result<()> {
        self.tree.validate()?;
        let own: u64 = held
            .map(|l| self.ceil(l.allocated) - u64::from(l.in_tree))
            .sum();
        let used = self.tree.evictable() + self.tree.protected() + own;
        if self.free + used != self.capacity {
            return Err(Error::bug(format!(
                "{} tokens free, {used} used, but {} in all",
                self.free, self.capacity
            )));
        }
        Ok(())
    }
}
