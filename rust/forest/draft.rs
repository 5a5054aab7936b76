//! The tree while it is being made.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::NONE;
use crate::trace::{Id, Trace};

/// In place of an only child: there are several, in the table.
pub(super) const SEVERAL: u32 = NONE - 1;

/// A node of the draft; its number may be smaller than its parent's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub parent: u32,
    /// Depth at which its parent ends, in units.
    start: u32,
    /// Depth at which it ends, in units.
    pub end: u32,
    /// A request whose sequence passes through it.
    pub guide: u32,
    /// [`Id::fold`] of its first unit.
    pub first: u32,
    /// Its only child, [`NONE`] or [`SEVERAL`].
    pub child: u32,
}

/// Guides that a walk remembers to renew.
const ENTRIES: usize = 4;

/// A position in the tree that stays right while the tree grows: a depth on the way to a node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// Its depth.
    pub units: u32,
    /// The node that holds the unit before it, or one below; [`NONE`]: that of `request`.
    node: u32,
    /// An earlier request whose path it is on.
    request: u32,
    /// The nodes whose guides led here; 0 for none.
    entries: [u32; ENTRIES],
}

impl Place {
    /// The end of a node.
    fn at(node: u32, units: u32) -> Self {
        Self {
            units,
            node,
            request: NONE,
            entries: [0; ENTRIES],
        }
    }
}

/// A tree that grows.
pub(super) struct Draft<'a, T> {
    trace: &'a Trace<'a, T>,
    nodes: Vec<Node>,
    roots: u32,
    /// The children of nodes that have several, by parent and first unit.
    children: HashTable<u32>,
    /// The node where the sequence of each inserted request ends.
    last: Vec<u32>,
}

/// Hash of a child's place; only finds candidates, which are then compared.
fn hash(node: &Node) -> u64 {
    hash_of(node.parent, node.first)
}

fn hash_of(parent: u32, first: u32) -> u64 {
    let key = (u64::from(parent) << 32) | u64::from(first);
    let mixed = (key ^ (key >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

impl<'a, T: Id> Draft<'a, T> {
    pub fn new(trace: &'a Trace<'a, T>, roots: u32) -> Self {
        let root = |parent| Node {
            parent,
            start: 0,
            end: 0,
            guide: NONE,
            first: 0,
            child: NONE,
        };
        Self {
            trace,
            nodes: (0..roots).map(root).collect(),
            roots,
            children: HashTable::new(),
            last: Vec::with_capacity(trace.requests()),
        }
    }

    pub fn trace(&self) -> &'a Trace<'a, T> {
        self.trace
    }

    /// Numbers of the roots: 0 and up.
    pub fn roots(&self) -> u32 {
        self.roots
    }

    /// Takes the tree apart: nodes, children of nodes that have several (in no order), and where
    /// each request ends.
    pub fn finish(self) -> (Vec<Node>, Vec<u32>, Vec<u32>) {
        (self.nodes, self.children.into_iter().collect(), self.last)
    }

    /// `units` down the path of `request`, which may be yet to be inserted.
    pub fn on(&self, request: u32, units: u32, root: u32) -> Place {
        let last = self.last.get(request as usize);
        Place {
            request,
            ..Place::at(last.map_or(NONE, |&n| self.above(n, root, units)), units)
        }
    }

    /// Goes down from the end of `node`, which is on the path of `request`, as far as it goes.
    pub fn walk(&self, request: usize, node: u32) -> Place {
        let length = self.trace.len(request);
        let mut place = Place::at(node, self.nodes[node as usize].end);
        let mut hops = 0;
        while (place.units as usize) < length
            && let unit = self.trace.id(request, place.units as usize)
            && let Some(child) = self.child(place.node, unit)
        {
            let guide = self.nodes[child as usize].guide as usize;
            let from = place.units as usize + 1;
            place.units = self.trace.common(request, guide, from) as u32;
            place.node = self.between(child, self.last[guide], place.units);
            if hops < ENTRIES {
                place.entries[hops] = child;
                hops += 1;
            }
            if self.nodes[place.node as usize].end > place.units {
                break;
            }
        }
        place
    }

    /// Inserts the sequence of the next request, which is known to lead to `place`; returns the node
    /// where its prompt ends.
    pub fn insert(&mut self, request: usize, root: u32, place: &Place) -> u32 {
        let length = self.trace.len(request);
        let mut node = self.take(request, root, place);
        // Others may have come since the place was found.
        let further = self.walk(request, node);
        if further.units > place.units {
            node = self.take(request, root, &further);
        }
        let depth = self.nodes[node as usize].end as usize;
        if depth < length {
            let first = self.trace.id(request, depth).fold();
            node = self.push(Node {
                parent: node,
                start: depth as u32,
                end: length as u32,
                guide: request as u32,
                first,
                child: NONE,
            });
            self.link(node);
        }
        self.last.push(node);
        let prompt = self.trace.prompt(request).len();
        if prompt < length {
            return self.cut(node, root, prompt as u32);
        }
        node
    }

    /// The node that ends at `place`, which is on the path of `request`.
    fn take(&mut self, request: usize, root: u32, place: &Place) -> u32 {
        for &entry in place.entries.iter().take_while(|&&entry| entry != 0) {
            let entry = &mut self.nodes[entry as usize];
            if entry.end <= place.units {
                entry.guide = request as u32;
            }
        }
        let node = if place.node == NONE {
            self.last[place.request as usize]
        } else {
            place.node
        };
        self.cut(node, root, place.units)
    }

    /// The node on the path down to `node` that holds the unit that ends at `depth`.
    fn above(&self, mut node: u32, root: u32, depth: u32) -> u32 {
        if depth == 0 {
            return root;
        }
        while self.nodes[node as usize].start >= depth {
            node = self.nodes[node as usize].parent;
        }
        node
    }

    /// [`Self::above`] for a depth that `upper`, on the way to `lower`, is not below: looked for from
    /// both sides, as either may be hundreds of turns away.
    fn between(&self, mut upper: u32, mut lower: u32, depth: u32) -> u32 {
        loop {
            let Node { end, child, .. } = self.nodes[upper as usize];
            if end >= depth {
                return upper;
            }
            if child < SEVERAL {
                upper = child;
            }
            let Node { start, parent, .. } = self.nodes[lower as usize];
            if start < depth {
                return lower;
            }
            lower = parent;
        }
    }

    /// The node that ends at `depth` on the path down to `node`, made if it is not there.
    fn cut(&mut self, node: u32, root: u32, depth: u32) -> u32 {
        let node = self.above(node, root, depth);
        let lower = self.nodes[node as usize];
        if lower.end == depth {
            return node;
        }
        let upper = self.push(Node {
            end: depth,
            child: node,
            ..lower
        });
        let above = &mut self.nodes[lower.parent as usize];
        if above.child == SEVERAL {
            let entry = self.children.find_mut(hash(&lower), |&n| n == node);
            *entry.expect("one of several children is in the table") = upper;
        } else {
            above.child = upper;
        }
        let first = self.trace.id(lower.guide as usize, depth as usize);
        let lower = &mut self.nodes[node as usize];
        (lower.parent, lower.start, lower.first) = (upper, depth, first.fold());
        upper
    }

    fn push(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    /// Makes a new node known to its parent.
    fn link(&mut self, node: u32) {
        let parent = self.nodes[node as usize].parent as usize;
        let only = self.nodes[parent].child;
        if only == NONE {
            self.nodes[parent].child = node;
            return;
        }
        if only != SEVERAL {
            self.nodes[parent].child = SEVERAL;
            self.list(only);
        }
        self.list(node);
    }

    /// Puts a node into the table.
    fn list(&mut self, node: u32) {
        let nodes = &self.nodes;
        let key = |&n: &u32| hash(&nodes[n as usize]);
        match self.children.entry(key(&node), |_| false, key) {
            Entry::Occupied(_) => unreachable!("nothing equals a new node"),
            Entry::Vacant(slot) => slot.insert(node),
        };
    }

    /// The child of `node` whose first unit is `unit`.
    fn child(&self, node: u32, unit: T) -> Option<u32> {
        let Node { child, end, .. } = self.nodes[node as usize];
        let fold = unit.fold();
        let fits = |&child: &u32| {
            let Node {
                parent,
                first,
                guide,
                ..
            } = self.nodes[child as usize];
            parent == node
                && first == fold
                && (T::FOLD_IS_EXACT || self.trace.id(guide as usize, end as usize) == unit)
        };
        match child {
            NONE => None,
            SEVERAL => self.children.find(hash_of(node, fold), fits).copied(),
            only => Some(only).filter(fits),
        }
    }
}
