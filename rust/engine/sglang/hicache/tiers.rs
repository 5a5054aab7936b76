//! Where nodes are, and what holds them there.

use super::HiCache;
use crate::engine::sglang::sequences::Sequences;
use crate::engine::sglang::trie::NodeId;
use crate::error::{Error, Result};

/// Where a node is.
#[derive(Debug, Clone, Default)]
pub(super) struct Copies {
    pub device: bool,
    pub host: bool,
    /// Holds of the host copy alone.
    pub host_lock: u32,
    /// Transfers of the node that are not complete.
    pub in_flight: u32,
    pub children: Vec<NodeId>,
    /// Children on the device.
    pub device_children: u32,
    /// Children on the host.
    pub host_children: u32,
    /// Place in the order of nodes on both tiers.
    pub pair: Option<u64>,
}

impl Copies {
    /// The copies of the upper part of a node that is cut; `lower` becomes its only child.
    pub fn upper_part(&self, lower: NodeId) -> Self {
        Self {
            device: self.device,
            host: self.host,
            children: vec![lower],
            device_children: u32::from(self.device),
            host_children: u32::from(self.host),
            ..Self::default()
        }
    }

    pub fn replace_child(&mut self, old: NodeId, new: NodeId) {
        for child in &mut self.children {
            if *child == old {
                *child = new;
            }
        }
    }
}

impl<S: Sequences> HiCache<S> {
    pub(super) fn set_copies(&mut self, id: NodeId, copies: Copies) {
        if id.index() >= self.copies.len() {
            self.copies.resize_with(id.index() + 1, Copies::default);
        }
        self.copies[id.index()] = copies;
    }

    pub(super) fn copies(&self, id: NodeId) -> &Copies {
        &self.copies[id.index()]
    }

    pub(super) fn copies_mut(&mut self, id: NodeId) -> &mut Copies {
        &mut self.copies[id.index()]
    }

    pub(super) fn len(&self, id: NodeId) -> u64 {
        u64::from(self.trie.node(id).len())
    }

    /// Whether a node may be evicted from the device.
    pub(super) fn is_device_leaf(&self, id: NodeId) -> bool {
        if id == NodeId::ROOT || !self.trie.is_alive(id) {
            return false;
        }
        let copies = self.copies(id);
        copies.device && copies.device_children == 0 && self.trie.node(id).lock == 0
    }

    /// Whether a node may be evicted from the host.
    pub(super) fn is_host_leaf(&self, id: NodeId) -> bool {
        if id == NodeId::ROOT || !self.trie.is_alive(id) {
            return false;
        }
        let (copies, node) = (self.copies(id), self.trie.node(id));
        let childless = if self.is_unified() {
            node.children == 0
        } else {
            copies.host_children == 0
        };
        childless && copies.host && !copies.device && node.lock == 0 && copies.host_lock == 0
    }

    /// A node's key or state changed: it may have become a leaf of either tier.
    pub(super) fn refresh(&mut self, id: NodeId) {
        if self.is_device_leaf(id) {
            self.device_leaves.touch(id);
        }
        if self.is_host_leaf(id) {
            self.host_leaves.touch(id);
        }
    }

    /// Enters a node on both tiers into their order.
    pub(super) fn pair(&mut self, id: NodeId) {
        let copies = &self.copies[id.index()];
        if !(self.is_unified() && self.writes_back() && copies.device && copies.host)
            || copies.pair.is_some()
        {
            return;
        }
        let place = self.next_pair;
        self.next_pair += 1;
        self.pairs.insert(place, id);
        self.copies_mut(id).pair = Some(place);
    }

    fn unpair(&mut self, id: NodeId) {
        if let Some(place) = self.copies_mut(id).pair.take() {
            self.pairs.remove(&place);
        }
    }

    /// A node is on the device now; its pages were taken before.
    pub(super) fn enter_device(&mut self, id: NodeId) {
        let len = self.len(id);
        if self.trie.node(id).lock == 0 {
            self.evictable += len;
        } else {
            self.protected += len;
        }
        let parent = self.trie.node(id).parent;
        self.copies_mut(id).device = true;
        self.copies_mut(parent).device_children += 1;
        self.refresh(id);
    }

    /// A node without a lock is no longer on the device. Its pages become free later.
    pub(super) fn leave_device(&mut self, id: NodeId) {
        self.evictable -= self.len(id);
        let parent = self.trie.node(id).parent;
        self.unpair(id);
        self.copies_mut(id).device = false;
        self.copies_mut(parent).device_children -= 1;
        self.refresh(id);
        self.refresh(parent);
    }

    /// A node is on the host now; its pages were taken before.
    pub(super) fn enter_host(&mut self, id: NodeId) {
        let parent = self.trie.node(id).parent;
        self.copies_mut(id).host = true;
        self.copies_mut(parent).host_children += 1;
    }

    /// A node's host copy is given up.
    pub(super) fn leave_host(&mut self, id: NodeId) {
        let len = self.len(id);
        self.host_free += len;
        self.totals.host_evicted += len;
        let parent = self.trie.node(id).parent;
        self.unpair(id);
        self.copies_mut(id).host = false;
        self.copies_mut(parent).host_children -= 1;
        self.refresh(parent);
    }

    /// Removes a node without children that is nowhere any more.
    pub(super) fn remove(&mut self, id: NodeId) {
        let parent = self.trie.remove(id);
        self.copies_mut(parent)
            .children
            .retain(|&child| child != id);
        self.set_copies(id, Copies::default());
        self.refresh(parent);
    }

    /// Keeps a node and all above it on the device, as far as they are.
    pub(super) fn lock(&mut self, mut id: NodeId) {
        while id != NodeId::ROOT {
            let len = self.len(id);
            let device = self.copies(id).device;
            let node = self.trie.node_mut(id);
            node.lock += 1;
            if node.lock == 1 && device {
                self.evictable -= len;
                self.protected += len;
            }
            id = self.trie.node(id).parent;
        }
    }

    /// Takes one [`HiCache::lock`] back.
    pub(super) fn unlock(&mut self, mut id: NodeId) {
        while id != NodeId::ROOT {
            let len = self.len(id);
            let device = self.copies(id).device;
            let node = self.trie.node_mut(id);
            node.lock -= 1;
            if node.lock == 0 && device {
                self.evictable += len;
                self.protected -= len;
            }
            self.refresh(id);
            id = self.trie.node(id).parent;
        }
    }

    pub(super) fn lock_host(&mut self, id: NodeId) {
        self.copies_mut(id).host_lock += 1;
    }

    pub(super) fn unlock_host(&mut self, id: NodeId) {
        self.copies_mut(id).host_lock -= 1;
        self.refresh(id);
    }

    /// Checks every invariant; `own`: tokens of pages that requests hold themselves.
    ///
    /// # Errors
    /// [`Error::Bug`] about the first one that does not hold.
    pub(super) fn validate(&self, own: u64) -> Result<()> {
        self.trie.validate()?;
        self.device_leaves
            .validate(&self.trie, |id| self.is_device_leaf(id))?;
        self.host_leaves
            .validate(&self.trie, |id| self.is_host_leaf(id))?;
        let (mut evictable, mut protected, mut host) = (0, 0, 0);
        for id in self.trie.ids() {
            let (node, copies) = (self.trie.node(id), self.copies(id));
            if !copies.device && !copies.host {
                return Err(Error::bug(format!("{id:?} is nowhere")));
            }
            if copies.device && node.parent != NodeId::ROOT && !self.copies(node.parent).device {
                return Err(Error::bug(format!(
                    "{id:?} is on the device without its parent"
                )));
            }
            if copies.children.len() != node.children as usize {
                return Err(Error::bug(format!("{id:?} does not know its children")));
            }
            match (copies.device, node.lock) {
                (false, _) => {}
                (true, 0) => evictable += self.len(id),
                (true, _) => protected += self.len(id),
            }
            host += if copies.host { self.len(id) } else { 0 };
        }
        if (evictable, protected) != (self.evictable, self.protected)
            || self.free + evictable + protected + own != self.capacity
        {
            return Err(Error::bug(format!(
                "device: {evictable} + {protected} + {own} used, {} free",
                self.free
            )));
        }
        if host + self.host_free != self.host_capacity {
            return Err(Error::bug(format!(
                "host: {host} used, {} free",
                self.host_free
            )));
        }
        Ok(())
    }
}
