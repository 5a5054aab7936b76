//! The tree while it grows.
//!
//! Sequences come one after the other. Three of them, of letters for ids:
//!
//! ```text
//!   request 0  abcdef       request 1  abcdxy       request 2  abcd
//!
//!   after 0:   root ── abcdef            node 1 (0..6)
//!   after 1:   root ── abcd ─┬─ ef       node 2 (0..4) was split off above node 1 (4..6),
//!                            └─ xy       and node 3 (4..6) hangs on it
//!   after 2:   the same: request 2 ends where node 2 does
//! ```
//!
//! A node is known by its parent, its depths and a *guide*: a request that passes through it and
//! spells its ids. Splitting a node makes a new one *above* it, so a node number stays on the paths
//! of all requests that ended there, and a [`Position`] found before a split is right after it. The
//! nodes of a path are therefore in no order; [`super::number`] brings them into one.

// `Forest::compile` refuses traces whose requests or lengths do not fit; nodes are counted where they
// are made. What finds the way is the hot loop of compiling.
#![allow(clippy::cast_possible_truncation)]

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::NONE;
use crate::hash::keyed;
use crate::index::to_u32;
use crate::trace::{Id, Trace};

/// What hangs on a node, in four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Children(u32);

/// [`Children`] to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChildrenView {
    None,
    One(u32),
    /// They are in the builder's table.
    Many,
}

impl Children {
    const NONE: Self = Self(u32::MAX);
    const MANY: Self = Self(u32::MAX - 1);

    fn one(node: u32) -> Self {
        debug_assert!(node < Self::MANY.0);
        Self(node)
    }

    #[inline]
    pub fn view(self) -> ChildrenView {
        match self {
            Self::NONE => ChildrenView::None,
            Self::MANY => ChildrenView::Many,
            Self(node) => ChildrenView::One(node),
        }
    }
}

/// A node of the growing tree; its number may be smaller than its parent's. A root is its own parent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub parent: u32,
    /// Depth at which its parent ends, in ids.
    start: u32,
    /// Depth at which it ends, in ids.
    pub end: u32,
    /// A request whose sequence passes through it; [`NONE`] for a root.
    pub guide: u32,
    /// [`Id::fold`] of its first id.
    first: u32,
    pub children: Children,
}

/// Nodes whose guides led a walk that a position remembers, to refresh them.
const GUIDED: usize = 4;

/// A position in the tree that stays right while the tree grows: a depth on the way to a node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Position {
    /// Its depth, in ids.
    pub depth: u32,
    /// The node that holds the id before it, or one below; [`NONE`]: that of `request`.
    node: u32,
    /// An earlier request whose path it is on.
    request: u32,
    /// The nodes whose guides led here; 0, which is a root, for none.
    guided: [u32; GUIDED],
}

impl Position {
    /// On the way to the end of a node.
    fn on_node(node: u32, depth: u32) -> Self {
        Self {
            depth,
            node,
            request: NONE,
            guided: [0; GUIDED],
        }
    }
}

/// A tree that grows by one sequence after the other.
pub(super) struct ForestBuilder<'a, T> {
    trace: &'a Trace<'a, T>,
    nodes: Vec<Node>,
    roots: u32,
    /// The children of nodes that have several, by parent and first id.
    table: HashTable<u32>,
    /// The node where the sequence of each inserted request ends.
    last: Vec<u32>,
}

/// What a builder leaves behind.
pub(super) struct Parts {
    /// The nodes, of which the first are the roots.
    pub nodes: Vec<Node>,
    /// Number of roots.
    pub roots: u32,
    /// The children of nodes that have several, in no order.
    pub children: Vec<u32>,
    /// The node where the sequence of each request ends.
    pub last: Vec<u32>,
}

/// Hash by which a child is looked up; it only finds candidates, which are then compared.
fn hash_of(parent: u32, first: u32) -> u64 {
    keyed::hash(u64::from(parent), u64::from(first))
}

impl<'a, T: Id> ForestBuilder<'a, T> {
    /// A tree of nothing but `roots`, whose numbers are 0 and up.
    pub fn new(trace: &'a Trace<'a, T>, roots: u32) -> Self {
        let root = |parent| Node {
            parent,
            start: 0,
            end: 0,
            guide: NONE,
            first: 0,
            children: Children::NONE,
        };
        Self {
            trace,
            nodes: (0..roots).map(root).collect(),
            roots,
            table: HashTable::new(),
            last: Vec::with_capacity(trace.requests()),
        }
    }

    pub fn trace(&self) -> &'a Trace<'a, T> {
        self.trace
    }

    pub fn finish(self) -> Parts {
        Parts {
            nodes: self.nodes,
            roots: self.roots,
            children: self.table.into_iter().collect(),
            last: self.last,
        }
    }

    /// The position at `depth` of the path of `request`, which may be yet to be inserted.
    pub fn position_on(&self, request: u32, depth: u32, root: u32) -> Position {
        let node = match self.last.get(request as usize) {
            None => NONE,
            Some(&last) => self.ancestor_holding(last, root, depth),
        };
        Position {
            request,
            ..Position::on_node(node, depth)
        }
    }

    /// Goes down from the end of `node`, which is on the path of `request`, as far as the tree goes.
    pub fn walk(&self, request: usize, node: u32) -> Position {
        let length = self.trace.len(request);
        let mut position = Position::on_node(node, self.nodes[node as usize].end);
        let mut hops = 0;
        while (position.depth as usize) < length
            && let id = self.trace.id(request, position.depth as usize)
            && let Some(child) = self.child(position.node, id)
        {
            let guide = self.nodes[child as usize].guide as usize;
            let from = position.depth as usize + 1;
            position.depth = self.trace.common(request, guide, from) as u32;
            position.node = self.holder_between(child, self.last[guide], position.depth);
            if hops < GUIDED {
                position.guided[hops] = child;
                hops += 1;
            }
            if self.nodes[position.node as usize].end > position.depth {
                break;
            }
        }
        position
    }

    /// Inserts the sequence of the next request, which is known to lead to `position`; returns the
    /// node where its prompt ends.
    pub fn insert(&mut self, request: usize, root: u32, position: &Position) -> u32 {
        let length = self.trace.len(request);
        let mut node = self.node_ending_at(request, root, position);
        // Others may have come since the position was found.
        let further = self.walk(request, node);
        if further.depth > position.depth {
            node = self.node_ending_at(request, root, &further);
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
                children: Children::NONE,
            });
            self.add_child(node);
        }
        self.last.push(node);
        let prompt = self.trace.prompt(request).len();
        if prompt < length {
            return self.split_at(node, root, prompt as u32);
        }
        node
    }

    /// The node that ends at a position of the path of `request`, made if it is not there.
    fn node_ending_at(&mut self, request: usize, root: u32, position: &Position) -> u32 {
        self.refresh_guides(request, position);
        let node = match position.node {
            NONE => self.last[position.request as usize],
            node => node,
        };
        self.split_at(node, root, position.depth)
    }

    /// Makes `request` the guide of the nodes that led it: a late request goes furthest with those
    /// to come.
    fn refresh_guides(&mut self, request: usize, position: &Position) {
        for &node in position.guided.iter().take_while(|&&node| node != 0) {
            let node = &mut self.nodes[node as usize];
            if node.end <= position.depth {
                node.guide = request as u32;
            }
        }
    }

    /// The node on the path down to `node` that holds the id that ends at `depth`.
    fn ancestor_holding(&self, mut node: u32, root: u32, depth: u32) -> u32 {
        if depth == 0 {
            return root;
        }
        while self.nodes[node as usize].start >= depth {
            node = self.nodes[node as usize].parent;
        }
        node
    }

    /// [`Self::ancestor_holding`] for a depth that `upper`, on the way to `lower`, is not below:
    /// looked for from both sides, as either may be hundreds of turns away.
    fn holder_between(&self, mut upper: u32, mut lower: u32, depth: u32) -> u32 {
        loop {
            let Node { end, children, .. } = self.nodes[upper as usize];
            if end >= depth {
                return upper;
            }
            if let ChildrenView::One(child) = children.view() {
                upper = child;
            }
            let Node { start, parent, .. } = self.nodes[lower as usize];
            if start < depth {
                return lower;
            }
            lower = parent;
        }
    }

    /// The node that ends at `depth` on the path down to `node`. If there is none, the node that
    /// holds that depth is split: the part above it becomes a new node, the rest keeps its number.
    fn split_at(&mut self, node: u32, root: u32, depth: u32) -> u32 {
        let node = self.ancestor_holding(node, root, depth);
        let whole = self.nodes[node as usize];
        if whole.end == depth {
            return node;
        }
        let upper = self.push(Node {
            end: depth,
            children: Children::one(node),
            ..whole
        });
        let parent = &mut self.nodes[whole.parent as usize];
        if parent.children == Children::MANY {
            let entry = self
                .table
                .find_mut(hash_of(whole.parent, whole.first), |&n| n == node);
            *entry.expect("one of several children is in the table") = upper;
        } else {
            parent.children = Children::one(upper);
        }
        let first = self.trace.id(whole.guide as usize, depth as usize);
        let lower = &mut self.nodes[node as usize];
        (lower.parent, lower.start, lower.first) = (upper, depth, first.fold());
        upper
    }

    fn push(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        to_u32(self.nodes.len() - 1)
    }

    /// Makes a new node known to its parent.
    fn add_child(&mut self, node: u32) {
        let parent = self.nodes[node as usize].parent as usize;
        match self.nodes[parent].children.view() {
            ChildrenView::None => {
                self.nodes[parent].children = Children::one(node);
                return;
            }
            ChildrenView::One(only) => {
                self.nodes[parent].children = Children::MANY;
                self.add_to_table(only);
            }
            ChildrenView::Many => {}
        }
        self.add_to_table(node);
    }

    fn add_to_table(&mut self, node: u32) {
        let nodes = &self.nodes;
        let key = |&n: &u32| hash_of(nodes[n as usize].parent, nodes[n as usize].first);
        match self.table.entry(key(&node), |_| false, key) {
            Entry::Occupied(_) => unreachable!("nothing equals a new node"),
            Entry::Vacant(slot) => slot.insert(node),
        };
    }

    /// The child of `node` whose first id is `id`.
    fn child(&self, node: u32, id: T) -> Option<u32> {
        let Node { children, end, .. } = self.nodes[node as usize];
        let fold = id.fold();
        let fits = |&child: &u32| {
            let child = &self.nodes[child as usize];
            child.parent == node
                && child.first == fold
                && (T::FOLD_IS_EXACT || self.trace.id(child.guide as usize, end as usize) == id)
        };
        match children.view() {
            ChildrenView::None => None,
            ChildrenView::One(only) => Some(only).filter(fits),
            ChildrenView::Many => self.table.find(hash_of(node, fold), fits).copied(),
        }
    }
}
