//! Publishing what a request computed, and copying it to the host.

use super::{HiCache, Transfer};
use crate::engine::sglang::sequences::Sequences;
use crate::engine::sglang::tree::Insertion;
use crate::engine::sglang::trie::NodeId;

/// What an insertion found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inserted {
    /// Tokens beyond those the request already shared that were on the device: computed twice.
    pub duplicates: u64,
    /// Where the inserted tokens end.
    pub node: NodeId,
}

impl<S: Sequences> HiCache<S> {
    /// Puts the first `len` tokens (whole pages) of a sequence into the tree. Where a node is on the
    /// host only, the request's pages become its device copy. `shared`: leading tokens the request has
    /// from the tree.
    pub(super) fn insert(
        &mut self,
        sequence: u32,
        len: u32,
        insertion: &Insertion,
        shared: u32,
    ) -> Inserted {
        let (mut tokens, mut node) = (0, NodeId::ROOT);
        let mut duplicates = 0;
        while tokens < len
            && let Some(mut child) = self.trie.child(node, sequence)
        {
            let now = self.stamp();
            self.trie.node_mut(child).accessed = now;
            if !self.is_unified() {
                self.raise(child, insertion.priority);
            }
            tokens = self.trie.common(child, sequence, len);
            if tokens < self.trie.node(child).end {
                child = self.split(child, tokens);
            }
            self.raise(child, insertion.priority);
            self.refresh(child);
            node = child;
            let start = self.trie.node(child).start;
            if self.copies(child).device {
                duplicates += u64::from(tokens - start.max(shared).min(tokens));
                self.count(child, insertion);
            } else {
                self.enter_device(child);
                self.pair(child);
                if self.is_unified() {
                    self.count(child, insertion);
                }
            }
        }
        if tokens < len {
            node = self.add(node, sequence, len, insertion);
        }
        Inserted { duplicates, node }
    }

    fn raise(&mut self, id: NodeId, priority: i64) {
        let node = self.trie.node_mut(id);
        node.priority = node.priority.max(priority);
    }

    fn add(&mut self, parent: NodeId, sequence: u32, len: u32, insertion: &Insertion) -> NodeId {
        let leaf = self.trie.add(parent, sequence, len, insertion.priority);
        self.set_copies(leaf, super::Copies::default());
        self.copies_mut(parent).children.push(leaf);
        let (accessed, created) = (self.stamp(), self.stamp());
        let node = self.trie.node_mut(leaf);
        (node.accessed, node.created) = (accessed, created);
        self.enter_device(leaf);
        let mut above = parent;
        while above != NodeId::ROOT && self.trie.node(above).longest < len {
            let node = self.trie.node_mut(above);
            node.longest = len;
            above = node.parent;
        }
        self.count(leaf, insertion);
        leaf
    }

    /// Counts a use of a node, and copies it to the host if it was used often enough.
    fn count(&mut self, id: NodeId, insertion: &Insertion) {
        if self.writes_back() {
            return;
        }
        let unified = self.is_unified();
        let node = self.trie.node_mut(id);
        let counts = if unified {
            node.end > insertion.inserted
        } else {
            !insertion.chunked
        };
        if !counts {
            return;
        }
        node.hits += 1;
        let often = node.hits >= self.write_policy.threshold();
        self.refresh(id);
        if !often || self.copies(id).host {
            return;
        }
        if unified {
            self.back_up_path(id);
        } else {
            let parent = self.trie.node(id).parent;
            if parent == NodeId::ROOT || self.copies(parent).host {
                self.back_up_and_hold(id);
            }
        }
    }

    /// Copies a node and those above it that have no copy, topmost first, until one fails.
    fn back_up_path(&mut self, id: NodeId) {
        let mut path = Vec::new();
        let mut node = id;
        while node != NodeId::ROOT && !self.copies(node).host {
            path.push(node);
            node = self.trie.node(node).parent;
        }
        while let Some(node) = path.pop() {
            if !self.back_up_and_hold(node) {
                return;
            }
        }
    }

    /// Copies a node to the host and holds it until the copy is complete.
    fn back_up_and_hold(&mut self, id: NodeId) -> bool {
        if !self.back_up(id) {
            return false;
        }
        self.lock(id);
        self.copies_mut(id).in_flight += 1;
        self.transfers.push(Transfer {
            node: id,
            host_lock: false,
            nodes: vec![id],
        });
        true
    }

    /// Copies a node to the host, evicting there if need be. Returns whether there was room.
    pub(super) fn back_up(&mut self, id: NodeId) -> bool {
        let len = self.len(id);
        if len > self.host_free {
            if self.is_unified() {
                let lack = len - self.host_free;
                if self.evict_host(lack) < lack {
                    return false;
                }
            } else {
                self.evict_host(len);
            }
        }
        if len > self.host_free {
            return false;
        }
        self.host_free -= len;
        self.totals.written += len;
        self.enter_host(id);
        true
    }

    /// Completes all transfers.
    pub(super) fn complete_transfers(&mut self) {
        for transfer in std::mem::take(&mut self.transfers) {
            if transfer.host_lock {
                self.unlock_host(transfer.node);
            }
            self.unlock(transfer.node);
            for node in transfer.nodes {
                self.copies_mut(node).in_flight -= 1;
                self.pair(node);
            }
        }
    }
}
