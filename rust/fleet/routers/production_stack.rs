//! `prefixaware` of vLLM's production-stack.

use std::sync::Arc;

use super::sglang::tokens_of;
use super::simple::least_loaded;
use crate::fleet::replicas::Replicas;
use crate::fleet::router::{Arrival, Decision, Router, Setting, View};
use crate::fleet::traffic::{Blocks, Unit};
use crate::fleet::tree::{AHEAD, BlockTree, Node, ROOT, above, look_ahead};

/// Characters of a chunk.
const CHUNK: u32 = 128;

/// `prefixaware` of production-stack (a6c01db): a trie of chunks of 128 characters; any of the replicas
/// that had the deepest known chunk. Nothing is forgotten, and load plays no part, so that a shared first
/// chunk binds all traffic to the replica that had it first.
#[derive(Debug)]
pub struct PrefixAware {
    tree: Arc<BlockTree>,
    /// Characters that have to match.
    least_match: u32,
    /// The chunks, and who had them.
    nodes: Vec<Node<Replicas>>,
    known: u32,
    holders: Replicas,
    characters: u32,
    prompt_tokens: u32,
}

impl PrefixAware {
    /// An empty trie.
    ///
    /// # Errors
    /// As [`Traffic::tree`](crate::fleet::Traffic::tree).
    pub fn new(setting: &Setting<'_>, prefix_min_match_length: u32) -> crate::Result<Self> {
        let tree = setting
            .traffic
            .tree(Blocks::full(Unit::Characters, CHUNK).with_partial())?;
        Ok(Self {
            least_match: prefix_min_match_length,
            nodes: tree.nodes(Replicas::NONE),
            tree,
            known: 0,
            holders: Replicas::NONE,
            characters: 0,
            prompt_tokens: 0,
        })
    }
}

impl Router for PrefixAware {
    fn route(&mut self, arrival: &Arrival, view: &View<'_>) -> Decision {
        let mut at = self.tree.leaf(arrival.request);
        let mut node = &self.nodes[at as usize];
        while at != ROOT && node.kept.and(view.available).is_empty() {
            at = node.segment.parent;
            node = &self.nodes[at as usize];
        }
        self.known = node.segment.end.saturating_mul(CHUNK);
        self.holders = node.kept.and(view.available);
        self.characters = self.tree.length(arrival.request);
        self.prompt_tokens = arrival.prompt_tokens;
        if self.known < self.least_match {
            return Decision::one(least_loaded(view.available, view).lowest());
        }
        if at == ROOT {
            return Decision::among(view.available);
        }
        Decision::among(self.holders)
    }

    fn believed(&self, replica: usize) -> Option<u32> {
        let known = if self.holders.has(replica) {
            self.known
        } else {
            0
        };
        Some(tokens_of(known, self.characters, self.prompt_tokens))
    }

    fn booked(&mut self, arrival: &Arrival, _: &View<'_>, replica: usize) {
        let mut at = self.tree.leaf(arrival.request);
        while at != ROOT && !self.nodes[at as usize].kept.has(replica) {
            let node = &mut self.nodes[at as usize];
            node.kept.add(replica);
            at = node.segment.parent;
        }
    }

    fn ahead(&mut self, requests: std::ops::Range<usize>) {
        let mut buffer = [ROOT; AHEAD];
        let leaves = self.tree.leaves(&requests, &mut buffer);
        look_ahead(leaves, |_, at| (above(&self.nodes, at), 0));
    }

    /// Characters that matched, the last chunk counted whole.
    fn note(&self, notes: &mut Vec<f64>) {
        notes.push(f64::from(self.known));
    }

    fn resized(&mut self, available: Replicas) {
        for node in &mut self.nodes {
            node.kept = node.kept.and(available);
        }
    }
}
