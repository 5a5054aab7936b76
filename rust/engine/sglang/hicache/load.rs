//! Loading nodes back from the host.

use super::{Found, HiCache, Transfer};
use crate::engine::sglang::sequences::Sequences;
use crate::engine::sglang::trie::NodeId;

/// Tokens below which nothing is loaded (`load_back_threshold`).
const THRESHOLD: u32 = 10;

impl<S: Sequences> HiCache<S> {
    /// Loads what was found on the host only: all of it or nothing. Returns whether it did.
    pub(super) fn load_back(&mut self, found: &Found) -> bool {
        if found.host == 0 {
            return false;
        }
        if self.is_unified() {
            self.lock(found.last_device);
            let loaded = self.load_unified(found);
            self.unlock(found.last_device);
            loaded
        } else {
            self.load_classic(found)
        }
    }

    /// The nodes of a path that are on the host only, topmost first.
    fn host_only(&self, found: &Found) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        let mut node = found.last;
        while node != found.last_device {
            nodes.push(node);
            node = self.trie.node(node).parent;
        }
        nodes.reverse();
        nodes
    }

    fn load_classic(&mut self, found: &Found) -> bool {
        if found.host < THRESHOLD {
            return false;
        }
        let tokens = u64::from(found.host);
        let nodes = self.host_only(found);
        if tokens > self.free {
            self.lock(found.last_device);
            for &node in &nodes {
                self.lock_host(node);
            }
            self.evict(tokens);
            for &node in &nodes {
                self.unlock_host(node);
            }
            self.unlock(found.last_device);
        }
        if tokens > self.free {
            return false;
        }
        self.start_load(nodes, found);
        self.lock(found.last);
        true
    }

    fn load_unified(&mut self, found: &Found) -> bool {
        let last = found.last;
        let hold_host = self.copies(last).host || self.writes_back();
        self.lock(last);
        if hold_host {
            self.lock_host(last);
        }
        let tokens = u64::from(found.host);
        if found.host >= THRESHOLD {
            if tokens > self.free {
                self.evict(tokens - self.free);
            }
            if tokens <= self.free {
                let nodes = self.host_only(found);
                self.start_load(nodes, found);
                return true;
            }
        }
        if hold_host {
            self.unlock_host(last);
        }
        self.unlock(last);
        false
    }

    /// Takes device pages for nodes; the last one is, or will be, locked until they are loaded.
    fn start_load(&mut self, nodes: Vec<NodeId>, found: &Found) {
        let tokens = u64::from(found.host);
        self.free -= tokens;
        self.totals.loaded += tokens;
        for &node in &nodes {
            self.enter_device(node);
            self.pair(node);
            self.copies_mut(node).in_flight += 1;
        }
        self.transfers.push(Transfer {
            node: found.last,
            host_lock: self.is_unified(),
            nodes,
        });
    }
}
