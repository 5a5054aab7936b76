//! The shape of the radix tree: nodes, and which child continues a sequence.
//!
//! Children are found by the first page of their tokens, so two children of a node may begin with
//! the same tokens as long as these are fewer than a page. Nothing here knows of time, locks or
//! eviction.

use hashbrown::HashTable;

use super::sequences::Sequences;
use crate::error::{Error, Result};
use crate::hash::keyed;
use crate::index::to_u32;

/// A node by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// The root: it has no tokens and is never evicted.
    pub const ROOT: Self = Self(0);

    /// The node's place in columns of nodes.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A run of tokens, a whole number of pages, that every sequence below it has in common.
#[derive(Debug, Clone)]
pub struct Node {
    /// The node above; a dead node is its own.
    pub parent: NodeId,
    /// A sequence that passes through the node.
    pub sequence: u32,
    /// Depth at which the node's tokens begin.
    pub start: u32,
    /// Depth at which they end.
    pub end: u32,
    /// Number of children.
    pub children: u32,
    /// Requests that hold it or a node below.
    pub lock: u32,
    /// Uses, as the version counts them.
    pub hits: u32,
    /// The longest path from the root that ever led through the node, in tokens.
    pub longest: u32,
    /// The highest priority it was inserted with.
    pub priority: i64,
    /// When it was used last.
    pub accessed: u64,
    /// When it was made.
    pub created: u64,
    /// Place among its siblings.
    pub order: u64,
    /// Page key of its first page.
    key: u64,
    /// Times the number was given to a node before.
    incarnation: u32,
}

impl Node {
    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.end - self.start
    }

    /// Whether it has no tokens: the root only.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }
}

/// The radix tree's nodes.
#[derive(Debug)]
pub struct Trie<S> {
    page: u32,
    sequences: S,
    nodes: Vec<Node>,
    unused: Vec<NodeId>,
    /// Nodes by parent and first page.
    table: HashTable<NodeId>,
    next_order: u64,
}

fn hash(parent: NodeId, key: u64) -> u64 {
    keyed::hash(u64::from(parent.0), key)
}

impl<S: Sequences> Trie<S> {
    /// A root alone. `page` is the number of tokens of a page, at least 1.
    #[must_use]
    pub fn new(page: u32, sequences: S) -> Self {
        let root = Node {
            parent: NodeId::ROOT,
            sequence: 0,
            start: 0,
            end: 0,
            children: 0,
            lock: 1,
            hits: 0,
            longest: 0,
            priority: 0,
            accessed: 0,
            created: 0,
            order: 0,
            key: 0,
            incarnation: 0,
        };
        Self {
            page,
            sequences,
            nodes: vec![root],
            unused: Vec::new(),
            table: HashTable::new(),
            next_order: 1,
        }
    }

    /// Tokens of a page.
    #[must_use]
    pub fn page(&self) -> u32 {
        self.page
    }

    /// Tokens in the last page of the first `tokens` tokens; 0 if it is full.
    #[inline]
    #[must_use]
    pub fn in_page(&self, tokens: u32) -> u32 {
        // Pages are powers of two in practice, which saves a division.
        if self.page.is_power_of_two() {
            tokens & (self.page - 1)
        } else {
            tokens % self.page
        }
    }

    /// Rounded down to whole pages.
    #[must_use]
    pub fn floor(&self, tokens: u32) -> u32 {
        tokens - self.in_page(tokens)
    }

    /// The sequences nodes refer to.
    #[must_use]
    pub fn sequences(&self) -> &S {
        &self.sequences
    }

    /// The sequences nodes refer to.
    pub fn sequences_mut(&mut self) -> &mut S {
        &mut self.sequences
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    /// Whether a number is that of a node that exists.
    #[must_use]
    pub fn is_alive(&self, id: NodeId) -> bool {
        self.nodes
            .get(id.index())
            .is_some_and(|node| id == NodeId::ROOT || node.parent != id)
    }

    /// How often the number was given to a node: tells it from others that had the number before.
    #[must_use]
    pub fn incarnation(&self, id: NodeId) -> u32 {
        self.nodes
            .get(id.index())
            .map_or(u32::MAX, |n| n.incarnation)
    }

    /// The numbers ever used: an upper bound of [`NodeId::index`].
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes other than the root.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        (1..to_u32(self.nodes.len()))
            .map(NodeId)
            .filter(|&id| self.is_alive(id))
    }

    /// The child of `parent` that continues `sequence`, which has at least a page more tokens.
    pub fn child(&self, parent: NodeId, sequence: u32) -> Option<NodeId> {
        let node = self.node(parent);
        if node.children == 0 {
            return None;
        }
        let start = node.end;
        let key = self.sequences.page_key(sequence, start, self.page);
        let same = |&id: &NodeId| {
            let child = self.node(id);
            child.key == key
                && child.parent == parent
                && self
                    .sequences
                    .same_page(child.sequence, sequence, start, self.page)
        };
        self.table.find(hash(parent, key), same).copied()
    }

    /// The depth, in whole pages and at most `limit`, up to which `sequence` runs through `id`, whose
    /// first page it has in common with it.
    #[must_use]
    pub fn common(&self, id: NodeId, sequence: u32, limit: u32) -> u32 {
        let node = self.node(id);
        if node.sequence == sequence {
            return node.end.min(limit);
        }
        let first = node.start + self.page;
        let to = node.end.min(limit);
        self.floor(self.sequences.common(node.sequence, sequence, first, to))
    }

    /// Puts a new node over the first tokens of `id`, up to depth `at`; it has everything else from
    /// `id`. Returns it.
    pub fn split(&mut self, id: NodeId, at: u32) -> NodeId {
        let mut upper = self.node(id).clone();
        let (sequence, parent, key) = (upper.sequence, upper.parent, upper.key);
        upper.end = at;
        upper.children = 1;
        self.sequences.hold(sequence);
        let upper = self.place(upper);
        let place = hash(parent, key);
        if let Ok(mut entry) = self.table.find_entry(place, |&other| other == id) {
            *entry.get_mut() = upper;
        }
        let key = self.sequences.page_key(sequence, at, self.page);
        let lower = self.node_mut(id);
        lower.parent = upper;
        lower.start = at;
        lower.key = key;
        self.enter(id);
        upper
    }

    /// Adds a leaf below `parent` for the tokens of `sequence` up to depth `end`.
    pub fn add(&mut self, parent: NodeId, sequence: u32, end: u32, priority: i64) -> NodeId {
        let start = self.node(parent).end;
        let key = self.sequences.page_key(sequence, start, self.page);
        self.sequences.hold(sequence);
        let order = self.next_order;
        self.next_order += 1;
        let id = self.place(Node {
            parent,
            sequence,
            start,
            end,
            children: 0,
            lock: 0,
            hits: 0,
            longest: end,
            priority,
            accessed: 0,
            created: 0,
            order,
            key,
            incarnation: 0,
        });
        self.node_mut(parent).children += 1;
        self.enter(id);
        id
    }

    /// Removes a leaf; returns its parent.
    pub fn remove(&mut self, id: NodeId) -> NodeId {
        let node = self.node(id);
        let (parent, sequence, place) = (node.parent, node.sequence, hash(node.parent, node.key));
        if let Ok(entry) = self.table.find_entry(place, |&other| other == id) {
            entry.remove();
        }
        self.sequences.release(sequence);
        self.node_mut(parent).children -= 1;
        self.node_mut(id).parent = id;
        self.unused.push(id);
        parent
    }

    fn place(&mut self, mut node: Node) -> NodeId {
        if let Some(id) = self.unused.pop() {
            node.incarnation = self.node(id).incarnation + 1;
            *self.node_mut(id) = node;
            return id;
        }
        node.incarnation = 0;
        self.nodes.push(node);
        NodeId(to_u32(self.nodes.len()) - 1)
    }

    fn enter(&mut self, id: NodeId) {
        let node = &self.nodes[id.index()];
        let nodes = &self.nodes;
        self.table
            .insert_unique(hash(node.parent, node.key), id, |&other| {
                let other = &nodes[other.index()];
                hash(other.parent, other.key)
            });
    }

    /// Checks every invariant of the shape.
    ///
    /// # Errors
    /// [`Error::Bug`] about the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        let mut children = vec![0; self.nodes.len()];
        let mut alive = 0;
        for id in self.ids() {
            let node = self.node(id);
            let above = self.node(node.parent);
            alive += 1;
            children[node.parent.index()] += 1;
            if !self.is_alive(node.parent) {
                return Err(Error::bug(format!("{id:?} hangs on a node that is gone")));
            }
            if node.is_empty() || node.start != above.end || !node.len().is_multiple_of(self.page) {
                return Err(Error::bug(format!(
                    "{id:?} covers {}..{}",
                    node.start, node.end
                )));
            }
            if self.child(node.parent, node.sequence) != Some(id) {
                return Err(Error::bug(format!("{id:?} is not found by its first page")));
            }
            if node.parent != NodeId::ROOT
                && self.common(node.parent, node.sequence, above.end) != above.end
            {
                return Err(Error::bug(format!("{id:?} does not continue its parent")));
            }
        }
        if alive != self.table.len() || alive + 1 + self.unused.len() != self.nodes.len() {
            return Err(Error::bug(format!(
                "{alive} nodes, {} in the table",
                self.table.len()
            )));
        }
        match (0..)
            .zip(&children)
            .find(|&(id, &n)| self.is_alive(NodeId(id)) && self.nodes[id as usize].children != n)
        {
            Some((id, n)) => Err(Error::bug(format!(
                "node {id} has {n} children, not as many as it counts"
            ))),
            None => Ok(()),
        }
    }
}
