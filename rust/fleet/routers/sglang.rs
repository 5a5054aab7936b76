//! `cache_aware` of sglang-router 0.3.2.

use std::sync::Arc;

use super::simple::least_loaded;
use super::tenant_tree::TenantTree;
use crate::fleet::replicas::Replicas;
use crate::fleet::router::{Arrival, Decision, Router, Setting, TextIndex, View};
use crate::fleet::traffic::{Blocks, Unit};
use crate::fleet::tree::BlockTree;

/// Thresholds, under SGLang's names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CacheAwareConfig {
    /// Share of the text that has to be known for its owner to be taken.
    pub cache_threshold: f64,
    /// Difference of loads beyond which caches are ignored.
    pub balance_abs_threshold: u32,
    /// Ratio of loads beyond which caches are ignored.
    pub balance_rel_threshold: f64,
    /// Seconds between evictions from the tree.
    pub eviction_interval_secs: f64,
    /// Characters kept of each replica when the tree is evicted from.
    pub max_tree_size: u64,
}

impl Default for CacheAwareConfig {
    fn default() -> Self {
        Self {
            cache_threshold: 0.3,
            balance_abs_threshold: 64,
            balance_rel_threshold: 1.5,
            eviction_interval_secs: 60.0,
            max_tree_size: 1 << 26,
        }
    }
}

/// Which way a decision of [`CacheAware`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// The loads were too different.
    Load,
    /// The owner of the known text.
    Match,
    /// Too little was known.
    NoMatch,
}

/// `cache_aware` of sglang-router 0.3.2: the owner of the text that is known, unless loads are too
/// different or too little of the text is known; then the least loaded.
#[derive(Debug)]
pub struct CacheAware {
    config: CacheAwareConfig,
    tree: Arc<BlockTree>,
    tenants: TenantTree,
    next_eviction: Option<f64>,
    replicas: usize,
    branch: Branch,
    /// Characters known of the text, and their owner.
    matched: (u32, usize),
    characters: u32,
    prompt_tokens: u32,
}

impl CacheAware {
    /// An empty tree.
    ///
    /// # Errors
    /// As [`Traffic::tree`](crate::fleet::Traffic::tree).
    pub fn new(setting: &Setting<'_>, config: CacheAwareConfig) -> crate::Result<Self> {
        let tree = setting.traffic.tree(Blocks::full(Unit::Characters, 1))?;
        let start = setting.traffic.columns().timestamp.first().copied();
        let interval = config.eviction_interval_secs;
        Ok(Self {
            tenants: TenantTree::new(&tree, setting.replicas),
            next_eviction: start
                .map(|start| start + interval)
                .filter(|_| interval > 0.0),
            config,
            tree,
            replicas: setting.replicas,
            branch: Branch::NoMatch,
            matched: (0, 0),
            characters: 0,
            prompt_tokens: 0,
        })
    }

    fn evict(&mut self, now: f64) {
        while let Some(due) = self.next_eviction.filter(|&due| due <= now) {
            self.tenants.evict(self.config.max_tree_size);
            let interval = self.config.eviction_interval_secs;
            // Nothing is added between two passes that are due at once.
            self.next_eviction =
                Some(due + interval * ((now - due) / interval).floor().max(0.0) + interval);
        }
    }
}

impl Router for CacheAware {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // As the router does.
    fn route(&mut self, arrival: &Arrival, view: &View<'_>) -> Decision {
        self.evict(arrival.time);
        let loads = || view.available.into_iter().map(|w| view.loads[w]);
        let (least, most) = (loads().min().unwrap_or(0), loads().max().unwrap_or(0));
        let ratio = self.config.balance_rel_threshold as f32;
        self.characters = self.tree.length(arrival.request);
        self.prompt_tokens = arrival.prompt_tokens;
        self.matched = (0, 0);
        if most - least > self.config.balance_abs_threshold && most as f32 > least as f32 * ratio {
            self.branch = Branch::Load;
            let first = least_loaded(view.available, view).lowest();
            return Decision::by_load(Replicas::one(first));
        }
        let leaf = self.tree.leaf(arrival.request);
        self.matched = self.tenants.find(leaf);
        let (matched, owner) = self.matched;
        let share = if self.characters == 0 {
            0.0
        } else {
            matched as f32 / self.characters as f32
        };
        if share > self.config.cache_threshold as f32 && view.available.has(owner) {
            self.branch = Branch::Match;
            return Decision::one(owner);
        }
        self.branch = Branch::NoMatch;
        Decision::one(least_loaded(view.available, view).lowest())
    }

    fn believed(&self, replica: usize) -> Option<u32> {
        let (matched, owner) = self.matched;
        let known = if replica == owner { matched } else { 0 };
        Some(tokens_of(known, self.characters, self.prompt_tokens))
    }

    fn booked(&mut self, arrival: &Arrival, _: &View<'_>, replica: usize) {
        let leaf = self.tree.leaf(arrival.request);
        self.tenants.insert(leaf, replica);
    }

    fn ahead(&mut self, requests: std::ops::Range<usize>) {
        self.tenants.ahead(&self.tree, &requests);
    }

    fn resized(&mut self, available: Replicas) {
        if available != Replicas::first(self.replicas) {
            self.tenants.keep(available);
        }
    }

    /// The branch (0: load, 1: match, 2: no match) and the characters that matched.
    fn note(&self, notes: &mut Vec<f64>) {
        notes.extend([f64::from(self.branch as u8), f64::from(self.matched.0)]);
    }

    fn index(&self) -> Option<TextIndex> {
        Some(self.tenants.index(&self.tree))
    }

    fn validate(&self) -> crate::Result<()> {
        self.tenants.validate()
    }
}

/// The tokens that a leading part of a text is, if they are spread evenly.
#[allow(clippy::cast_possible_truncation)] // At most `tokens`.
pub(super) fn tokens_of(part: u32, whole: u32, tokens: u32) -> u32 {
    if whole == 0 {
        return 0;
    }
    (u64::from(part.min(whole)) * u64::from(tokens) / u64::from(whole)) as u32
}
