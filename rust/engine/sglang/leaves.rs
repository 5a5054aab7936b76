//! Evictable leaves in the order in which they go.
//!
//! SGLang builds a heap of all leaves whenever it evicts. Here one heap lives on; it gives the same
//! order because the keys of leaves that are not touched do not change. A leaf whose key changes is
//! entered again and its old entry, recognised by its key, is dropped when it comes up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::policy::{EvictionKey, Policy};
use super::sequences::Sequences;
use super::trie::{NodeId, Trie};
use crate::error::{Error, Result};

type Entry = Reverse<(EvictionKey, NodeId)>;

/// The order of eviction.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    policy: Policy,
    heap: BinaryHeap<Entry>,
    /// Leaves that are new or whose key changed since the last eviction.
    changed: Vec<NodeId>,
}

/// Whether a node may be evicted now.
fn is_evictable<S: Sequences>(trie: &Trie<S>, id: NodeId) -> bool {
    let node = trie.node(id);
    node.lock == 0 && node.children == 0 && trie.is_alive(id)
}

impl Leaves {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// A node's key or state changed.
    pub fn touch<S: Sequences>(&mut self, trie: &mut Trie<S>, id: NodeId) {
        let node = trie.node_mut(id);
        if node.lock == 0 && node.children == 0 && !node.queued {
            node.queued = true;
            self.changed.push(id);
        }
    }

    /// Brings the order up to date before an eviction.
    pub fn settle<S: Sequences>(&mut self, trie: &mut Trie<S>) {
        if self.heap.len() > 2 * trie.numbers() + 64 {
            let policy = self.policy;
            self.heap.retain(|Reverse((key, id))| {
                is_evictable(trie, *id) && policy.key(trie.node(*id)) == *key
            });
        }
        while let Some(id) = self.changed.pop() {
            trie.node_mut(id).queued = false;
            self.push(trie, id);
        }
    }

    /// Enters a node if it may be evicted.
    pub fn push<S: Sequences>(&mut self, trie: &Trie<S>, id: NodeId) {
        if is_evictable(trie, id) {
            self.heap
                .push(Reverse((self.policy.key(trie.node(id)), id)));
        }
    }

    /// The next leaf to go.
    pub fn pop<S: Sequences>(&mut self, trie: &Trie<S>) -> Option<NodeId> {
        while let Some(Reverse((key, id))) = self.heap.pop() {
            if is_evictable(trie, id) && self.policy.key(trie.node(id)) == key {
                return Some(id);
            }
        }
        None
    }

    /// Checks that every evictable leaf is in the order, under its key.
    pub fn validate<S: Sequences>(&self, trie: &Trie<S>) -> Result<()> {
        let mut entered = vec![false; trie.numbers()];
        for Reverse((key, id)) in &self.heap {
            if trie.is_alive(*id) && self.policy.key(trie.node(*id)) == *key {
                entered[id.index()] = true;
            }
        }
        for id in &self.changed {
            entered[id.index()] = true;
        }
        match trie
            .ids()
            .find(|&id| is_evictable(trie, id) && !entered[id.index()])
        {
            Some(id) => Err(Error::bug(format!(
                "{id:?} may be evicted but is not in the order"
            ))),
            None => Ok(()),
        }
    }
}
