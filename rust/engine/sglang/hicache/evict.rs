//! Eviction from the device and from the host.

use super::HiCache;
use crate::engine::sglang::sequences::Sequences;
use crate::engine::sglang::trie::NodeId;

impl<S: Sequences> HiCache<S> {
    /// Evicts device leaves until at least `tokens` tokens are gone; returns how many went.
    pub(super) fn evict(&mut self, tokens: u64) -> u64 {
        let freed = if self.is_unified() {
            self.evict_unified(tokens)
        } else {
            self.evict_classic(tokens)
        };
        self.calls.push((tokens, freed));
        freed
    }

    fn pop_device_leaf(&mut self) -> Option<NodeId> {
        let mut leaves = std::mem::take(&mut self.device_leaves);
        let leaf = leaves.pop(&self.trie, |id| self.is_device_leaf(id));
        self.device_leaves = leaves;
        leaf
    }

    fn evict_unified(&mut self, tokens: u64) -> u64 {
        let mut freed = 0;
        let mut kept = Vec::new();
        while freed < tokens
            && let Some(leaf) = self.pop_device_leaf()
        {
            let len = self.len(leaf);
            if self.copies(leaf).host || (self.writes_back() && self.back_up(leaf)) {
                self.leave_device(leaf);
            } else if !self.writes_back() || !self.is_busy(leaf) {
                self.drop_subtree(leaf);
            } else {
                kept.push(leaf);
                continue;
            }
            self.free += len;
            freed += len;
        }
        for leaf in kept {
            self.refresh(leaf);
        }
        freed
    }

    fn evict_classic(&mut self, tokens: u64) -> u64 {
        let mut freed = 0;
        let mut kept = Vec::new();
        // Nodes written back by this call: held on the host, their device pages not free yet.
        let mut written = Vec::new();
        while freed < tokens
            && let Some(leaf) = self.pop_device_leaf()
        {
            let len = self.len(leaf);
            if self.copies(leaf).host {
                self.leave_device(leaf);
                self.free += len;
            } else if !self.writes_back() {
                self.drop_subtree(leaf);
                self.free += len;
            } else if self.back_up(leaf) {
                self.lock_host(leaf);
                self.leave_device(leaf);
                written.push(leaf);
            } else {
                self.free_written(&mut written);
                if self.is_busy(leaf) {
                    kept.push(leaf);
                    continue;
                }
                self.drop_subtree(leaf);
                self.free += len;
            }
            freed += len;
        }
        self.free_written(&mut written);
        for leaf in kept {
            self.refresh(leaf);
        }
        freed
    }

    fn free_written(&mut self, written: &mut Vec<NodeId>) {
        for node in written.drain(..) {
            self.unlock_host(node);
            self.free += self.len(node);
        }
    }

    /// Whether something holds a node or one below.
    fn is_busy(&self, id: NodeId) -> bool {
        let copies = self.copies(id);
        self.trie.node(id).lock > 0
            || copies.host_lock > 0
            || copies.in_flight > 0
            || copies.children.iter().any(|&child| self.is_busy(child))
    }

    /// Removes a device leaf and everything below it from both tiers.
    fn drop_subtree(&mut self, id: NodeId) {
        for child in self.copies(id).children.clone() {
            self.drop_subtree(child);
        }
        if self.copies(id).device {
            self.leave_device(id);
        }
        if self.copies(id).host {
            self.leave_host(id);
        }
        self.remove(id);
    }

    /// Evicts from the host until at least `tokens` tokens are gone; returns how many went.
    pub(super) fn evict_host(&mut self, tokens: u64) -> u64 {
        let mut freed = 0;
        if self.is_unified() && self.writes_back() {
            freed += self.give_up_pairs(tokens, false);
            if freed < tokens {
                freed += self.give_up_pairs(tokens - freed, true);
            }
        }
        while freed < tokens {
            let mut leaves = std::mem::take(&mut self.host_leaves);
            let leaf = leaves.pop(&self.trie, |id| self.is_host_leaf(id));
            self.host_leaves = leaves;
            let Some(leaf) = leaf else {
                break;
            };
            freed += self.len(leaf);
            self.leave_host(leaf);
            self.remove(leaf);
        }
        freed
    }

    /// Gives up host copies of nodes that are on the device as well, those first that have been there
    /// longest; `leaves`: those of device leaves, too.
    fn give_up_pairs(&mut self, tokens: u64, leaves: bool) -> u64 {
        let mut freed = 0;
        let mut taken = Vec::new();
        for &id in self.pairs.values() {
            if freed >= tokens {
                break;
            }
            let copies = self.copies(id);
            if copies.host_lock == 0
                && copies.in_flight == 0
                && (leaves || !self.is_device_leaf(id))
            {
                freed += self.len(id);
                taken.push(id);
            }
        }
        for id in taken {
            self.leave_host(id);
        }
        freed
    }
}
