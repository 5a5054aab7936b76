//! Evictable leaves in the order in which they go.
//!
//! SGLang builds a heap of all leaves whenever it evicts. Here one heap lives on; it gives the same
//! order because the keys of leaves that are not touched do not change. A leaf whose key changes is
//! entered again and its old entry, recognised by its key, is dropped when it comes up.
//!
//! Which nodes are leaves that may go, the caller says: `eligible`.

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
    /// Whether a node is among these.
    queued: Vec<bool>,
}

impl Leaves {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// A leaf that may go is new, or its key changed.
    pub fn touch(&mut self, id: NodeId) {
        if id.index() >= self.queued.len() {
            self.queued.resize(id.index() + 1, false);
        }
        if !self.queued[id.index()] {
            self.queued[id.index()] = true;
            self.changed.push(id);
        }
    }

    /// Brings the order up to date before a leaf is taken.
    pub fn settle<S: Sequences>(&mut self, trie: &Trie<S>, eligible: impl Fn(NodeId) -> bool) {
        if self.heap.len() > 2 * trie.numbers() + 64 {
            let policy = self.policy;
            self.heap
                .retain(|Reverse((key, id))| eligible(*id) && policy.key(trie.node(*id)) == *key);
        }
        while let Some(id) = self.changed.pop() {
            self.queued[id.index()] = false;
            if eligible(id) {
                self.heap
                    .push(Reverse((self.policy.key(trie.node(id)), id)));
            }
        }
    }

    /// Takes the next leaf to go.
    pub fn pop<S: Sequences>(
        &mut self,
        trie: &Trie<S>,
        eligible: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        self.settle(trie, &eligible);
        while let Some(Reverse((key, id))) = self.heap.pop() {
            if eligible(id) && self.policy.key(trie.node(id)) == key {
                return Some(id);
            }
        }
        None
    }

    /// Checks that every leaf that may go is in the order, under its key.
    ///
    /// # Errors
    /// [`Error::Bug`] about the first one that is not.
    pub fn validate<S: Sequences>(
        &self,
        trie: &Trie<S>,
        eligible: impl Fn(NodeId) -> bool,
    ) -> Result<()> {
        let mut entered = vec![false; trie.numbers()];
        for Reverse((key, id)) in &self.heap {
            if trie.is_alive(*id) && self.policy.key(trie.node(*id)) == *key {
                entered[id.index()] = true;
            }
        }
        for id in &self.changed {
            entered[id.index()] = true;
        }
        match trie.ids().find(|&id| eligible(id) && !entered[id.index()]) {
            Some(id) => Err(Error::bug(format!(
                "{id:?} may be evicted but is not in the order"
            ))),
            None => Ok(()),
        }
    }
}
