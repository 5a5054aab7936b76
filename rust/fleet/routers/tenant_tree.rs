//! The tree of routed texts of sglang-router 0.3.2: who brought which text.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::error::{Error, Result};
use crate::fleet::replicas::Replicas;
use crate::fleet::router::{TextIndex, TextNode};
use crate::fleet::tree::{AHEAD, BlockTree, Node as Place, ROOT, above, look_ahead};
use crate::index::{RequestIx, to_u32};

const NONE: u32 = u32::MAX;

/// A node of the tree: a run of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    /// Its last segment.
    bottom: u32,
    parent: u32,
    /// Characters it has.
    length: u32,
    children: u32,
    tenants: Replicas,
    owner: usize,
}

/// One radix tree over characters for all replicas.
///
/// It lives on the segments of the final tree of all texts: a node is a run of segments, which is split
/// where a later text leaves it. `owner` is fixed when a node is made; a replica that comes to it later
/// is a tenant. Only evicting takes anything away.
#[derive(Debug)]
pub struct TenantTree {
    replicas: usize,
    nodes: Vec<Node>,
    free: Vec<u32>,
    /// By node, then replica: when it was last used.
    epochs: Vec<u64>,
    /// The segments, and the node that holds each.
    places: Vec<Place<u32>>,
    /// Characters counted for each replica.
    sizes: Vec<u64>,
    epoch: u64,
}

impl TenantTree {
    /// The root alone, of which all replicas are tenants.
    #[must_use]
    pub fn new(tree: &BlockTree, replicas: usize) -> Self {
        let root = Node {
            bottom: ROOT,
            parent: 0,
            length: 0,
            children: 0,
            tenants: Replicas::first(replicas),
            owner: 0,
        };
        let mut places = tree.nodes(NONE);
        places[ROOT as usize].kept = 0;
        Self {
            replicas,
            nodes: vec![root],
            free: Vec::new(),
            epochs: vec![0; replicas],
            places,
            sizes: vec![0; replicas],
            epoch: 0,
        }
    }

    fn tick(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch - 1
    }

    fn epoch_mut(&mut self, node: u32, replica: usize) -> &mut u64 {
        &mut self.epochs[node as usize * self.replicas + replica]
    }

    /// Looks at what the next requests will touch.
    pub(super) fn ahead(&self, tree: &BlockTree, requests: &std::ops::Range<usize>) {
        let mut buffer = [ROOT; AHEAD];
        let leaves = tree.leaves(requests, &mut buffer);
        look_ahead(leaves, |_, at| {
            let place = &self.places[at as usize];
            match self.nodes.get(place.kept as usize) {
                None => (place.segment.parent, 0),
                Some(node) => {
                    let epoch = self.epochs[place.kept as usize * self.replicas];
                    (ROOT, node.parent ^ u32::from(epoch == 0))
                }
            }
        });
    }

    fn end(&self, at: u32) -> u32 {
        self.places[at as usize].segment.end
    }

    /// The deepest segment on the path to `leaf` that is in the tree.
    #[inline]
    fn reach(&self, leaf: u32) -> u32 {
        let mut at = leaf;
        while self.places[at as usize].kept == NONE {
            at = above(&self.places, at);
        }
        at
    }

    /// Characters of the text that are known, and whose they are.
    #[inline]
    pub fn find(&mut self, leaf: u32) -> (u32, usize) {
        let reached = self.reach(leaf);
        let node = self.places[reached as usize].kept;
        let found = &mut self.nodes[node as usize];
        if !found.tenants.has(found.owner) {
            found.owner = found.tenants.lowest();
        }
        let owner = found.owner;
        let epoch = self.tick();
        if epoch.is_multiple_of(8) {
            *self.epoch_mut(node, owner) = epoch;
        }
        (self.end(reached), owner)
    }

    /// Adds the text that ends at `leaf` for a replica.
    #[inline]
    pub fn insert(&mut self, leaf: u32, replica: usize) {
        let reached = self.reach(leaf);
        let node = self.split(reached);
        let mut at = node;
        while !self.nodes[at as usize].tenants.has(replica) {
            self.nodes[at as usize].tenants.add(replica);
            *self.epoch_mut(at, replica) = 0;
            self.sizes[replica] += u64::from(self.nodes[at as usize].length);
            at = self.nodes[at as usize].parent;
        }
        let epoch = self.tick();
        if reached == leaf {
            *self.epoch_mut(node, replica) = epoch;
            return;
        }
        let length = self.end(leaf) - self.end(reached);
        let new = self.add(Node {
            bottom: leaf,
            parent: node,
            length,
            children: 0,
            tenants: Replicas::one(replica),
            owner: replica,
        });
        *self.epoch_mut(new, replica) = epoch;
        self.nodes[node as usize].children += 1;
        self.sizes[replica] += u64::from(length);
        let mut at = leaf;
        while at != reached {
            self.places[at as usize].kept = new;
            at = above(&self.places, at);
        }
    }

    fn add(&mut self, node: Node) -> u32 {
        if let Some(place) = self.free.pop() {
            self.nodes[place as usize] = node;
            return place;
        }
        self.nodes.push(node);
        self.epochs.extend((0..self.replicas).map(|_| 0));
        to_u32(self.nodes.len() - 1)
    }

    /// Makes a node end at a segment that it holds; returns the node that ends there.
    fn split(&mut self, at: u32) -> u32 {
        let lower = self.places[at as usize].kept;
        let node = self.nodes[lower as usize];
        if node.bottom == at {
            return lower;
        }
        let top = self.nodes[node.parent as usize].bottom;
        let length = self.end(at) - self.end(top);
        let upper = self.add(Node {
            bottom: at,
            length,
            children: 1,
            ..node
        });
        for replica in node.tenants {
            *self.epoch_mut(upper, replica) = *self.epoch_mut(lower, replica);
        }
        self.nodes[lower as usize].parent = upper;
        self.nodes[lower as usize].length -= length;
        let mut segment = at;
        while segment != top {
            self.places[segment as usize].kept = upper;
            segment = above(&self.places, segment);
        }
        upper
    }

    /// Takes away what each replica used longest ago, leaves first, until it has at most `most`
    /// characters.
    pub fn evict(&mut self, most: u64) {
        if self.sizes.iter().all(|&size| size <= most) {
            return;
        }
        let mut below = vec![0_u32; self.nodes.len() * self.replicas];
        for (place, node) in self.nodes.iter().enumerate().skip(1) {
            for replica in node.tenants {
                debug_assert_ne!(to_u32(place), node.parent);
                below[node.parent as usize * self.replicas + replica] += 1;
            }
        }
        let mut leaves = BinaryHeap::new();
        for (place, node) in self.nodes.iter().enumerate().skip(1) {
            for replica in node.tenants {
                if below[place * self.replicas + replica] == 0 {
                    let epoch = self.epochs[place * self.replicas + replica];
                    leaves.push(Reverse((epoch, to_u32(place), replica)));
                }
            }
        }
        while let Some(Reverse((_, place, replica))) = leaves.pop() {
            if self.sizes[replica] <= most {
                continue;
            }
            let node = &mut self.nodes[place as usize];
            node.tenants = node.tenants.without(Replicas::one(replica));
            self.sizes[replica] -= u64::from(node.length);
            let node = *node;
            if node.tenants.is_empty() && node.children == 0 {
                self.drop_node(place);
            }
            if node.parent == 0 {
                continue;
            }
            let above = node.parent as usize * self.replicas + replica;
            below[above] -= 1;
            if below[above] == 0 {
                leaves.push(Reverse((self.epochs[above], node.parent, replica)));
            }
        }
    }

    fn drop_node(&mut self, place: u32) {
        let node = self.nodes[place as usize];
        self.nodes[node.parent as usize].children -= 1;
        let mut at = node.bottom;
        while self.places[at as usize].kept == place {
            self.places[at as usize].kept = NONE;
            at = above(&self.places, at);
        }
        self.free.push(place);
    }

    /// Forgets replicas that are gone.
    pub fn keep(&mut self, available: Replicas) {
        for replica in 0..self.replicas {
            if !available.has(replica) {
                self.sizes[replica] = 0;
            }
        }
        for node in self.nodes.iter_mut().skip(1) {
            node.tenants = node.tenants.and(available);
        }
        loop {
            let empty: Vec<u32> = (1..to_u32(self.nodes.len()))
                .filter(|&place| {
                    let node = self.nodes[place as usize];
                    node.tenants.is_empty()
                        && node.children == 0
                        && self.places[node.bottom as usize].kept == place
                })
                .collect();
            if empty.is_empty() {
                return;
            }
            for place in empty {
                self.drop_node(place);
            }
        }
    }

    /// The tree as others see it.
    #[must_use]
    pub fn index(&self, tree: &BlockTree) -> TextIndex {
        let live = |&(place, node): &(usize, &Node)| {
            place == 0 || self.places[node.bottom as usize].kept == to_u32(place)
        };
        let all: Vec<(usize, &Node)> = self.nodes.iter().enumerate().filter(live).collect();
        let mut number = vec![0; self.nodes.len()];
        for (new, &(place, _)) in all.iter().enumerate() {
            number[place] = to_u32(new);
        }
        let nodes = all.iter().map(|&(_, node)| {
            let end = tree.segment(node.bottom).end;
            TextNode {
                parent: number[node.parent as usize],
                request: tree.first(node.bottom).map_or(0, RequestIx::get),
                start: end - node.length,
                end,
                tenants: node.tenants,
                owner: to_u32(node.owner),
            }
        });
        TextIndex {
            nodes: nodes.collect(),
            sizes: self.sizes.clone(),
        }
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        let mut sizes = vec![0; self.replicas];
        for (place, node) in self.nodes.iter().enumerate().skip(1) {
            if self.places[node.bottom as usize].kept != to_u32(place) {
                continue;
            }
            let above = self.nodes[node.parent as usize];
            if !node.tenants.without(above.tenants).is_empty() {
                return Err(Error::bug(format!(
                    "node {place} has a tenant its parent has not"
                )));
            }
            for replica in node.tenants {
                sizes[replica] += u64::from(node.length);
            }
        }
        if sizes != self.sizes {
            return Err(Error::bug("the sizes of tenants do not add up"));
        }
        Ok(())
    }
}
