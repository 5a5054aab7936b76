//! HiCache: the radix cache with host memory as a second tier.
//!
//! A node is on the device, on the host, or on both. Nodes are copied to the host when they are
//! inserted or evicted, depending on the [`WritePolicy`], and loaded back when a request needs them.
//! The rules are those of SGLang 0.5.16 (`mem_cache/hiradix_cache.py`) and of the unified tree of
//! 0.5.23. Requests go one after the other, and transfers are complete when their request ends.

mod evict;
mod insert;
mod load;
mod run;
mod tiers;

pub use run::{HiCacheLog, HiCacheTotals, run_hicache};

use super::leaves::Leaves;
use super::policy::Policy;
use super::sequences::Sequences;
use super::tree::STAMP;
use super::trie::{NodeId, Trie};
use super::version::{Version, choose};
use crate::error::{Error, Result};
use tiers::Copies;

/// When nodes are copied to the host (SGLang's `--hicache-write-policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WritePolicy {
    /// When they are inserted.
    #[default]
    WriteThrough,
    /// When they are used a second time.
    WriteThroughSelective,
    /// When they are evicted from the device.
    WriteBack,
}

impl WritePolicy {
    /// All policies, by name.
    pub const ALL: [(&'static str, Self); 3] = [
        ("write_through", Self::WriteThrough),
        ("write_through_selective", Self::WriteThroughSelective),
        ("write_back", Self::WriteBack),
    ];

    /// The policy of that name.
    ///
    /// # Errors
    /// [`Error::Range`] listing the names there are.
    pub fn from_name(name: &str) -> Result<Self> {
        choose("hicache_write_policy", name, &Self::ALL)
    }

    /// Uses from which a node is copied to the host.
    fn threshold(self) -> u32 {
        match self {
            Self::WriteThrough => 1,
            Self::WriteThroughSelective => 2,
            Self::WriteBack => u32::MAX,
        }
    }
}

/// How a cache of two tiers behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HiCacheConfig {
    /// Whose rules: 0.5.16 or the unified tree of 0.5.23.
    pub version: Version,
    /// Tokens per page.
    pub page_size: u32,
    /// Tokens of the device's pool, rounded down to whole pages.
    pub capacity_tokens: u64,
    /// Tokens of the host's pool, rounded down to whole pages.
    pub host_tokens: u64,
    /// Order of eviction in both tiers.
    pub policy: Policy,
    /// When nodes are copied to the host.
    pub write_policy: WritePolicy,
}

impl HiCacheConfig {
    /// # Errors
    /// A page size of 0, a pool below one page, a version without known rules for two tiers.
    pub fn validate(&self) -> Result<()> {
        if self.page_size == 0 {
            return Err(Error::range("page_size is 0, it must be positive"));
        }
        if !matches!(self.version, Version::Radix0516 | Version::Unified0523) {
            return Err(Error::range(
                "enable_hierarchical_cache: give version unified-0.5.23 or radix-0.5.16",
            ));
        }
        for (name, tokens) in [
            ("the device's pool", self.capacity_tokens),
            ("the host's pool", self.host_tokens),
        ] {
            if tokens < u64::from(self.page_size) {
                return Err(Error::range(format!(
                    "{name} has {tokens} tokens: give at least a page ({})",
                    self.page_size
                )));
            }
        }
        self.policy.check(self.version)
    }
}

/// A transfer that is not complete: its node stays locked.
#[derive(Debug, Clone)]
struct Transfer {
    /// The node that is locked until then.
    node: NodeId,
    /// Whether the node's host copy is locked as well.
    host_lock: bool,
    /// The nodes that are copied.
    nodes: Vec<NodeId>,
}

/// What a match found in each tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    /// Leading tokens on the device.
    device: u32,
    /// Tokens behind these that are on the host only.
    host: u32,
    /// The node where the tokens on the device end.
    last_device: NodeId,
    /// The node where all tokens found end.
    last: NodeId,
}

/// The radix tree on two tiers, and the pools of both.
#[derive(Debug)]
struct HiCache<S> {
    version: Version,
    write_policy: WritePolicy,
    trie: Trie<S>,
    /// Where each node is.
    copies: Vec<Copies>,
    clock: u64,
    /// Device tokens in nodes that nothing holds.
    evictable: u64,
    /// Device tokens in nodes that something holds.
    protected: u64,
    free: u64,
    host_free: u64,
    capacity: u64,
    host_capacity: u64,
    device_leaves: Leaves,
    host_leaves: Leaves,
    /// `write_back` of 0.5.23: nodes on both tiers, in the order in which they came to be there.
    pairs: std::collections::BTreeMap<u64, NodeId>,
    next_pair: u64,
    transfers: Vec<Transfer>,
    totals: HiCacheTotals,
    /// Tokens asked for and freed by each call of device eviction.
    calls: Vec<(u64, u64)>,
}

impl<S: Sequences> HiCache<S> {
    fn new(config: &HiCacheConfig, sequences: S) -> Result<Self> {
        config.validate()?;
        let page = u64::from(config.page_size);
        let (capacity, host_capacity) = (
            config.capacity_tokens / page * page,
            config.host_tokens / page * page,
        );
        Ok(Self {
            version: config.version,
            write_policy: config.write_policy,
            trie: Trie::new(config.page_size, sequences),
            copies: vec![Copies::default()],
            clock: 0,
            evictable: 0,
            protected: 0,
            free: capacity,
            host_free: host_capacity,
            capacity,
            host_capacity,
            device_leaves: Leaves::new(config.policy),
            host_leaves: Leaves::new(config.policy),
            pairs: std::collections::BTreeMap::new(),
            next_pair: 0,
            transfers: Vec::new(),
            totals: HiCacheTotals::default(),
            calls: Vec::new(),
        })
    }

    fn is_unified(&self) -> bool {
        self.version.is_unified()
    }

    fn writes_back(&self) -> bool {
        self.write_policy == WritePolicy::WriteBack
    }

    fn stamp(&mut self) -> u64 {
        self.clock += STAMP;
        self.clock
    }

    fn ceil(&self, tokens: u32) -> u64 {
        let page = u64::from(self.trie.page());
        u64::from(tokens).div_ceil(page) * page
    }

    /// The longest prefix of the first `limit` tokens of a sequence, in either tier.
    fn find(&mut self, sequence: u32, limit: u32) -> Found {
        let limit = self.trie.floor(limit);
        let (mut tokens, mut node) = (0, NodeId::ROOT);
        while tokens < limit
            && let Some(child) = self.trie.child(node, sequence)
        {
            if !self.is_unified() {
                self.trie.node_mut(child).accessed = self.clock + STAMP;
                self.clock += STAMP;
            }
            tokens = self.trie.common(child, sequence, limit);
            if tokens < self.trie.node(child).end {
                node = self.split(child, tokens);
                break;
            }
            self.refresh(child);
            node = child;
        }
        if self.is_unified() && limit > 0 {
            self.stamp_upwards(node);
        }
        let last = node;
        while node != NodeId::ROOT && !self.copies[node.index()].device {
            node = self.trie.node(node).parent;
        }
        let device = self.trie.node(node).end;
        Found {
            device,
            host: tokens - device,
            last_device: node,
            last,
        }
    }

    /// Makes a path the most recent, deeper nodes more recent than those above.
    fn stamp_upwards(&mut self, mut node: NodeId) {
        let mut time = self.stamp();
        let oldest = time - (STAMP - 1);
        while node != NodeId::ROOT {
            self.trie.node_mut(node).accessed = time;
            self.refresh(node);
            node = self.trie.node(node).parent;
            time = (time - 1).max(oldest);
        }
    }

    /// Cuts a node in two at depth `at`; returns the upper part. Both parts are where the whole was.
    fn split(&mut self, lower: NodeId, at: u32) -> NodeId {
        let parent = self.trie.node(lower).parent;
        let upper = self.trie.split(lower, at);
        let (accessed, created) = (self.stamp(), self.stamp());
        self.trie.node_mut(upper).accessed = accessed;
        if self.is_unified() {
            let now = self.stamp();
            self.trie.node_mut(lower).accessed = now;
        } else {
            self.trie.node_mut(upper).created = created;
        }
        let copies = self.copies[lower.index()].upper_part(lower);
        self.set_copies(upper, copies);
        if self.copies[lower.index()].pair.is_some() {
            self.pair(upper);
        }
        self.copies[parent.index()].replace_child(lower, upper);
        self.refresh(lower);
        self.refresh(upper);
        upper
    }
}
