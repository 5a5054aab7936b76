//! The radix tree: matching, inserting, locking and evicting, with the times each version keeps.
//!
//! The rules are those of `python/sglang/srt/mem_cache/radix_cache.py` and, for the unified tree,
//! `unified_radix_cache.py` with its compiled core. A match changes the tree: it may split a node,
//! and it makes the path more recent. [`Version`] says what differs.

use super::leaves::Leaves;
use super::policy::Policy;
use super::sequences::Sequences;
use super::trie::{Node, NodeId, Trie};
use super::version::Version;
use crate::error::{Error, Result};

/// Steps between two stamps: room for the nodes of one path between them.
pub(super) const STAMP: u64 = 1 << 20;

/// How long a prefix is in the tree, and the node where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Tokens, a whole number of pages.
    pub tokens: u32,
    /// The node where they end.
    pub node: NodeId,
}

/// How a sequence is inserted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Insertion {
    /// The nodes on the path get at least this priority.
    pub priority: i64,
    /// Tokens the same request inserted before: their nodes are not counted again (0.5.23).
    pub inserted: u32,
    /// Whether this is not the last chunk of the prompt (0.5.16 does not count it).
    pub chunked: bool,
}

/// Whether a node may be evicted now.
fn is_evictable<S: Sequences>(trie: &Trie<S>, id: NodeId) -> bool {
    let node = trie.node(id);
    node.lock == 0 && node.children == 0 && trie.is_alive(id)
}

/// The radix tree of one version of SGLang.
#[derive(Debug)]
pub struct RadixTree<S> {
    version: Version,
    policy: Policy,
    trie: Trie<S>,
    leaves: Leaves,
    clock: u64,
    /// Tokens in nodes that nothing holds.
    evictable: u64,
    /// Tokens in nodes that a request holds.
    protected: u64,
}

impl<S: Sequences> RadixTree<S> {
    /// An empty tree with pages of `page` tokens, at least 1.
    #[must_use]
    pub fn new(version: Version, policy: Policy, page: u32, sequences: S) -> Self {
        Self {
            version,
            policy,
            trie: Trie::new(page, sequences),
            leaves: Leaves::new(policy),
            clock: 0,
            evictable: 0,
            protected: 0,
        }
    }

    /// The version whose rules it follows.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The order of eviction.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The shape.
    #[must_use]
    pub fn trie(&self) -> &Trie<S> {
        &self.trie
    }

    /// The sequences nodes refer to.
    pub fn sequences_mut(&mut self) -> &mut S {
        self.trie.sequences_mut()
    }

    /// Tokens of a page.
    #[must_use]
    pub fn page(&self) -> u32 {
        self.trie.page()
    }

    /// Tokens in the last page of the first `tokens` tokens; 0 if it is full.
    #[inline]
    #[must_use]
    pub fn in_page(&self, tokens: u32) -> u32 {
        self.trie.in_page(tokens)
    }

    /// Rounded down to whole pages.
    #[must_use]
    pub fn floor(&self, tokens: u32) -> u32 {
        self.trie.floor(tokens)
    }

    /// Tokens in nodes that nothing holds.
    #[must_use]
    pub fn evictable(&self) -> u64 {
        self.evictable
    }

    /// Tokens in nodes that a request holds.
    #[must_use]
    pub fn protected(&self) -> u64 {
        self.protected
    }

    /// A node's key or state changed.
    fn touch(&mut self, id: NodeId) {
        if is_evictable(&self.trie, id) {
            self.leaves.touch(id);
        }
    }

    fn stamp(&mut self) -> u64 {
        self.clock += STAMP;
        self.clock
    }

    /// The longest prefix of the first `limit` tokens of a sequence that is in the tree.
    pub fn find(&mut self, sequence: u32, limit: u32) -> Match {
        let limit = self.floor(limit);
        let mut found = Match {
            tokens: 0,
            node: NodeId::ROOT,
        };
        if limit == 0 {
            return found;
        }
        let unified = self.version.is_unified();
        let now = if unified { 0 } else { self.stamp() };
        while found.tokens < limit
            && let Some(child) = self.trie.child(found.node, sequence)
        {
            if !unified {
                self.trie.node_mut(child).accessed = now;
            }
            found.tokens = self.trie.common(child, sequence, limit);
            if found.tokens < self.trie.node(child).end {
                found.node = self.split(child, found.tokens);
                break;
            }
            found.node = child;
        }
        if unified {
            self.stamp_upwards(found.node);
        }
        self.touch(found.node);
        found
    }

    /// What [`RadixTree::find`] would find, without changing anything. The node may go on beyond the
    /// tokens found.
    #[must_use]
    pub fn peek(&self, sequence: u32, limit: u32) -> Match {
        let limit = self.floor(limit);
        let mut found = Match {
            tokens: 0,
            node: NodeId::ROOT,
        };
        while found.tokens < limit
            && let Some(child) = self.trie.child(found.node, sequence)
        {
            found.tokens = self.trie.common(child, sequence, limit);
            found.node = child;
            if found.tokens < self.trie.node(child).end {
                break;
            }
        }
        found
    }

    /// Makes a path the most recent, deeper nodes more recent than those above.
    fn stamp_upwards(&mut self, mut node: NodeId) {
        let mut time = self.stamp();
        let oldest = time - (STAMP - 1);
        while node != NodeId::ROOT {
            let touched = self.trie.node_mut(node);
            touched.accessed = time;
            node = touched.parent;
            time = (time - 1).max(oldest);
        }
    }

    /// Cuts a node in two at depth `at`; returns the upper part.
    fn split(&mut self, lower: NodeId, at: u32) -> NodeId {
        let upper = self.trie.split(lower, at);
        let (accessed, created) = (self.stamp(), self.stamp());
        let node = self.trie.node_mut(upper);
        node.accessed = accessed;
        if self.version.is_unified() {
            let now = self.stamp();
            self.trie.node_mut(lower).accessed = now;
        } else {
            node.created = created;
        }
        self.touch(lower);
        upper
    }

    /// Puts the first `len` tokens of a sequence into the tree, in whole pages. Returns how many of
    /// them were there and the node where they end.
    pub fn insert(&mut self, sequence: u32, len: u32, insertion: &Insertion) -> Match {
        let len = self.floor(len);
        let unified = self.version.is_unified();
        let now = if unified { 0 } else { self.stamp() };
        let mut found = Match {
            tokens: 0,
            node: NodeId::ROOT,
        };
        while found.tokens < len
            && let Some(mut child) = self.trie.child(found.node, sequence)
        {
            let now = if unified { self.stamp() } else { now };
            self.trie.node_mut(child).accessed = now;
            found.tokens = self.trie.common(child, sequence, len);
            if found.tokens < self.trie.node(child).end {
                child = self.split(child, found.tokens);
            }
            let node = self.trie.node_mut(child);
            node.priority = node.priority.max(insertion.priority);
            self.count(child, insertion);
            found.node = child;
        }
        self.touch(found.node);
        if found.tokens < len {
            found.node = self.add(found.node, sequence, len, insertion);
        }
        found
    }

    fn add(&mut self, parent: NodeId, sequence: u32, len: u32, insertion: &Insertion) -> NodeId {
        let leaf = self.trie.add(parent, sequence, len, insertion.priority);
        let (accessed, created) = (self.stamp(), self.stamp());
        let node = self.trie.node_mut(leaf);
        (node.accessed, node.created) = (accessed, created);
        self.evictable += u64::from(node.len());
        self.count(leaf, insertion);
        self.touch(leaf);
        let mut above = parent;
        while above != NodeId::ROOT && self.trie.node(above).longest < len {
            let node = self.trie.node_mut(above);
            node.longest = len;
            above = node.parent;
        }
        leaf
    }

    /// Counts a use of a node by an insertion.
    fn count(&mut self, id: NodeId, insertion: &Insertion) {
        let node = self.trie.node_mut(id);
        let counts = match self.version {
            Version::Radix0509 => false,
            Version::Radix0516 => !insertion.chunked,
            Version::Radix0523 | Version::Unified0523 => node.end > insertion.inserted,
        };
        node.hits += u32::from(counts);
    }

    /// Keeps a node and all above it from eviction.
    pub fn lock(&mut self, mut id: NodeId) {
        while id != NodeId::ROOT {
            let node = self.trie.node_mut(id);
            if node.lock == 0 {
                self.evictable -= u64::from(node.len());
                self.protected += u64::from(node.len());
            }
            node.lock += 1;
            id = node.parent;
        }
    }

    /// Takes one [`RadixTree::lock`] back.
    pub fn unlock(&mut self, mut id: NodeId) {
        self.unlock_one(id);
        self.touch(id);
        while id != NodeId::ROOT {
            id = self.trie.node(id).parent;
            self.unlock_one(id);
        }
    }

    fn unlock_one(&mut self, id: NodeId) {
        if id == NodeId::ROOT {
            return;
        }
        let node = self.trie.node_mut(id);
        node.lock -= 1;
        if node.lock == 0 {
            self.evictable += u64::from(node.len());
            self.protected -= u64::from(node.len());
        }
    }

    /// Evicts leaves until at least `tokens` tokens are gone or no leaf is left to evict. Appends the
    /// lengths of the nodes that went to `removed`; returns their sum.
    pub fn evict(&mut self, tokens: u64, removed: &mut Vec<u32>) -> u64 {
        let mut freed = 0;
        while freed < tokens
            && let Some(leaf) = self
                .leaves
                .pop(&self.trie, |id| is_evictable(&self.trie, id))
        {
            let len = self.trie.node(leaf).len();
            freed += u64::from(len);
            removed.push(len);
            let parent = self.trie.remove(leaf);
            if parent != NodeId::ROOT {
                self.touch(parent);
            }
        }
        self.evictable -= freed;
        freed
    }

    /// Empties the tree. Refused while a node is locked.
    pub fn reset(&mut self) -> bool {
        if self.protected > 0 {
            return false;
        }
        let mut removed = Vec::new();
        self.evict(u64::MAX, &mut removed);
        true
    }

    /// Nodes other than the root, as pairs of number and node.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.trie.ids().map(|id| (id, self.trie.node(id)))
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] about the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.trie.validate()?;
        self.leaves
            .validate(&self.trie, |id| is_evictable(&self.trie, id))?;
        let (mut evictable, mut protected) = (0, 0);
        for (id, node) in self.nodes() {
            let above = self.trie.node(node.parent);
            if node.parent != NodeId::ROOT && above.lock < node.lock {
                return Err(Error::bug(format!(
                    "{id:?} is locked more often than its parent"
                )));
            }
            if node.longest < node.end {
                return Err(Error::bug(format!("{id:?} forgot its own length")));
            }
            let sum = if node.lock == 0 {
                &mut evictable
            } else {
                &mut protected
            };
            *sum += u64::from(node.len());
        }
        if (evictable, protected) != (self.evictable, self.protected) {
            return Err(Error::bug(format!(
                "{evictable} evictable and {protected} protected tokens, not {} and {}",
                self.evictable, self.protected
            )));
        }
        if self.policy.check(self.version).is_err() {
            return Err(Error::bug("a policy that the version does not have"));
        }
        Ok(())
    }
}
