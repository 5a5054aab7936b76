//! Compiling a trace into a forest.
//!
//! Two phases, because reading the tokens is what costs. The first compares every request with the
//! previous turn of its session, in parallel and without looking at the tree; it reads nearly all
//! the tokens there are, at the speed of memory. The second inserts the requests one after the
//! other, starting where the first phase found them to leave their session's path, so that what was
//! compared is not read again. A request without an earlier turn walks down from its root.
//!
//! Walking does not stop at every node. At a node, the *guide*, the last request that went this
//! way, is compared as far as it goes; the walk continues where the two part. A conversation of
//! hundreds of turns is thereby crossed in one step. No hash is ever trusted: every match is a
//! comparison of the units themselves.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rayon::prelude::*;

use super::number::number;
use super::units::{Sequences, Unit};
use super::{Forest, NONE};
use crate::error::{Error, Result};
use crate::stop::Stop;

/// Requests between two looks at the stop flag.
const BATCH: usize = 1024;

/// What is known of a request before it is inserted: it shares `units` units with `request`.
#[derive(Debug, Clone, Copy)]
struct Hint {
    request: u32,
    units: u32,
}

/// Nodes while they are being made: a parent may have a larger number than its child.
pub(super) struct Draft {
    pub parent: Vec<u32>,
    pub end: Vec<u32>,
    pub representative: Vec<u32>,
    pub roots: u32,
}

impl Forest {
    /// Compiles the sequences of a trace.
    ///
    /// `salt` holds an isolation code per request: sequences under different codes share nothing.
    /// `session` holds a conversation code per request; it makes compiling faster and never changes
    /// the forest.
    ///
    /// # Errors
    /// [`Error::Invalid`] if columns have different lengths or the trace has 2^31 or more requests;
    /// [`Error::Interrupted`] if asked to stop.
    pub fn compile<T: Unit>(
        sequences: &Sequences<'_, T>,
        salt: Option<&[u32]>,
        session: Option<&[u32]>,
        stop: &Stop,
    ) -> Result<Self> {
        let requests = sequences.requests();
        for (name, column) in [("salt", salt), ("session", session)] {
            if let Some(codes) = column
                && codes.len() != requests
            {
                return Err(Error::invalid(format!(
                    "{name}: {} rows, but {requests} prompts",
                    codes.len()
                )));
            }
        }
        if requests >= 1 << 31 {
            return Err(Error::invalid("2^31 requests or more in one trace"));
        }
        let roots = salt.map_or(1, |codes| codes.iter().max().map_or(1, |&m| m + 1));
        let hints = match session {
            Some(codes) => hints(sequences, salt, codes, stop)?,
            None => Vec::new(),
        };
        let mut builder = Builder::new(sequences, roots);
        let mut prompt_node = vec![0; requests];
        for request in 0..requests {
            if request % BATCH == 0 {
                stop.check()?;
            }
            let root = salt.map_or(0, |codes| codes[request]);
            let hint = hints.get(request).filter(|hint| hint.request != NONE);
            prompt_node[request] = builder.insert(request, root, hint);
        }
        drop(hints);
        let Builder { draft, last, .. } = builder;
        Ok(number(
            draft,
            prompt_node,
            last,
            sequences.unit(),
            sequences.has_outputs(),
            sequences.partial_blocks(),
        ))
    }
}

/// Compares every request with the latest earlier one of its session and salt.
fn hints<T: Unit>(
    sequences: &Sequences<'_, T>,
    salt: Option<&[u32]>,
    session: &[u32],
    stop: &Stop,
) -> Result<Vec<Hint>> {
    let sessions = session.iter().max().map_or(0, |&m| m as usize + 1);
    let mut latest = vec![NONE; sessions];
    let mut hints: Vec<Hint> = session
        .iter()
        .enumerate()
        .map(|(i, &code)| {
            let earlier = std::mem::replace(&mut latest[code as usize], i as u32);
            let same_salt = earlier != NONE && salt.is_none_or(|s| s[earlier as usize] == s[i]);
            Hint {
                request: if same_salt { earlier } else { NONE },
                units: 0,
            }
        })
        .collect();
    drop(latest);
    hints
        .par_chunks_mut(BATCH)
        .enumerate()
        .try_for_each(|(chunk, hints)| {
            stop.check()?;
            for (i, hint) in hints.iter_mut().enumerate() {
                if hint.request != NONE {
                    let request = chunk * BATCH + i;
                    hint.units = sequences.common(request, hint.request as usize, 0) as u32;
                }
            }
            Ok(())
        })?;
    Ok(hints)
}

struct Builder<'a, T> {
    sequences: &'a Sequences<'a, T>,
    draft: Draft,
    /// [`Unit::fold`] of the first unit of each node.
    first: Vec<u32>,
    /// Every node but the roots, by parent and first unit.
    children: HashTable<u32>,
    /// The node where the sequence of each request ends.
    last: Vec<u32>,
}

/// Hash of a child's place; only finds candidates, which are then compared.
fn hash(parent: u32, first: u32) -> u64 {
    let key = (u64::from(parent) << 32) | u64::from(first);
    let mixed = (key ^ (key >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

impl<'a, T: Unit> Builder<'a, T> {
    fn new(sequences: &'a Sequences<'a, T>, roots: u32) -> Self {
        Self {
            sequences,
            draft: Draft {
                parent: (0..roots).collect(),
                end: vec![0; roots as usize],
                representative: vec![NONE; roots as usize],
                roots,
            },
            first: vec![0; roots as usize],
            children: HashTable::new(),
            last: vec![NONE; sequences.requests()],
        }
    }

    /// Inserts the sequence of `request`; returns the node where its prompt ends.
    fn insert(&mut self, request: usize, root: u32, hint: Option<&Hint>) -> u32 {
        let length = self.sequences.len(request);
        let mut node = match hint {
            Some(hint) => self.locate(hint.request as usize, root, hint.units),
            None => root,
        };
        loop {
            let depth = self.draft.end[node as usize] as usize;
            if depth == length {
                break;
            }
            let unit = self.sequences.get(request, depth);
            let Some(child) = self.child(node, unit, depth) else {
                node = self.push(node, length as u32, request as u32, unit.fold());
                self.link(node);
                break;
            };
            let guide = self.draft.representative[child as usize];
            let common = self.sequences.common(request, guide as usize, depth + 1);
            if common >= self.draft.end[child as usize] as usize {
                self.draft.representative[child as usize] = request as u32;
            }
            node = self.locate(guide as usize, root, common as u32);
        }
        self.last[request] = node;
        let prompt = self.sequences.prompt(request).len();
        if prompt < length {
            return self.locate(request, root, prompt as u32);
        }
        node
    }

    /// The node at depth `depth` on the path of an inserted request, made if it is not there.
    fn locate(&mut self, request: usize, root: u32, depth: u32) -> u32 {
        if depth == 0 {
            return root;
        }
        let mut node = self.last[request];
        let mut parent = self.draft.parent[node as usize];
        while self.draft.end[parent as usize] >= depth {
            node = parent;
            parent = self.draft.parent[node as usize];
        }
        if self.draft.end[node as usize] == depth {
            return node;
        }
        self.split(node, depth)
    }

    /// Cuts `node` at `depth`; returns the new upper part.
    fn split(&mut self, node: u32, depth: u32) -> u32 {
        let at = node as usize;
        let guide = self.draft.representative[at];
        let (parent, first) = (self.draft.parent[at], self.first[at]);
        let upper = self.push(parent, depth, guide, first);
        let entry = self
            .children
            .find_mut(hash(parent, first), |&n| n == node)
            .expect("every node but a root is linked");
        *entry = upper;
        self.draft.parent[at] = upper;
        self.first[at] = self.sequences.get(guide as usize, depth as usize).fold();
        self.link(node);
        upper
    }

    fn push(&mut self, parent: u32, end: u32, representative: u32, first: u32) -> u32 {
        self.draft.parent.push(parent);
        self.draft.end.push(end);
        self.draft.representative.push(representative);
        self.first.push(first);
        (self.first.len() - 1) as u32
    }

    /// Makes `node` known to its parent.
    fn link(&mut self, node: u32) {
        let (parent, first) = (&self.draft.parent, &self.first);
        let key = |n: u32| hash(parent[n as usize], first[n as usize]);
        let hash = key(node);
        match self.children.entry(hash, |_| false, |&n| key(n)) {
            Entry::Occupied(_) => unreachable!("nothing equals a new node"),
            Entry::Vacant(place) => place.insert(node),
        };
    }

    /// The child of `node` (at `depth`) whose first unit is `unit`.
    fn child(&self, node: u32, unit: T, depth: usize) -> Option<u32> {
        let fold = unit.fold();
        self.children
            .find(hash(node, fold), |&child| {
                let at = child as usize;
                self.draft.parent[at] == node
                    && self.first[at] == fold
                    && (T::FOLD_IS_EXACT
                        || self
                            .sequences
                            .get(self.draft.representative[at] as usize, depth)
                            == unit)
            })
            .copied()
    }
}
