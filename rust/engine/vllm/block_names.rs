//! Blocks by number: equal ones, after equal ones, have the same.

use hashbrown::HashTable;

use super::replay::{Ids, Prompts};
use crate::error::{Error, Result};
use crate::hash::{BlockKey, Chain, Context, Xxh3Chain, Xxh3Key};
use crate::index::{to_u32, to_usize};
use crate::room::reserve;

const NIL: u32 = u32::MAX;

/// A block of the trie.
struct Node {
    key: Xxh3Key,
    id: u32,
    /// A node, or [`NIL`] if there is none.
    first_child: u32,
}

/// A trie of blocks. The first child of a block is stored with it, so that following a path that
/// was seen before, or adding one that was not, touches consecutive memory; only where sequences
/// diverge is there a table to look into.
#[derive(Default)]
pub(super) struct BlockNames {
    nodes: Vec<Node>,
    /// All children but the first ones, and those of the roots.
    others: HashTable<u32>,
    next: u32,
    hashes: Vec<Xxh3Key>,
    tokens: Vec<u32>,
    /// Whether ids also cover the token after their block.
    lookahead: bool,
}

impl BlockNames {
    /// No names yet. With `lookahead` blocks that differ in the token behind them have different ones.
    pub fn new(lookahead: bool) -> Self {
        Self {
            lookahead,
            ..Self::default()
        }
    }

    /// Number of names.
    pub fn len(&self) -> u32 {
        self.next
    }

    /// Appends the ids of the first `blocks` blocks of a request.
    pub fn request(
        &mut self,
        prompts: &Prompts<'_>,
        request: usize,
        block_size: u32,
        blocks: usize,
        keys: &mut Vec<u32>,
    ) -> Result<()> {
        if self.lookahead {
            self.lookahead(prompts, request, block_size as usize);
        } else {
            prompts.keys(request, block_size, &mut self.hashes);
            self.output(prompts, request, block_size as usize);
        }
        self.hashes.truncate(blocks);
        let mut parent = NIL;
        for i in 0..self.hashes.len() {
            parent = self.child(parent, self.hashes[i])?;
            keys.push(self.nodes[parent as usize].id);
        }
        for _ in self.hashes.len()..blocks {
            // Outputs that nobody knows: no other sequence gets here, so the trie does not hold them.
            keys.push(self.id()?);
        }
        Ok(())
    }

    /// Computes the hashes of blocks that also cover the token behind them. Blocks that are equal up to
    /// there are equal in their first token, which becomes a part of the root, and in the blocks that begin
    /// one token later.
    fn lookahead(&mut self, prompts: &Prompts<'_>, request: usize, block_size: usize) {
        self.hashes.clear();
        let Ids::Tokens(tokens) = prompts.ids else {
            return;
        };
        let start = to_usize(prompts.offsets[request]);
        self.tokens.clear();
        let prompt = &tokens[start..to_usize(prompts.offsets[request + 1])];
        self.tokens.extend_from_slice(prompt);
        if let Some((offsets, outputs)) = prompts.outputs {
            let output = to_usize(offsets[request])..to_usize(offsets[request + 1]);
            self.tokens.extend_from_slice(&outputs[output]);
        }
        let plain = Context::default();
        let (first, rest) = self.tokens.split_at(1);
        let root = prompts.root(request);
        Xxh3Chain.extend(root, &plain, 0, first, 1, &mut self.hashes);
        let Some(root) = self.hashes.pop() else {
            return;
        };
        Xxh3Chain.extend(root, &plain, 0, rest, block_size, &mut self.hashes);
    }

    /// Appends the hashes of the blocks that known output tokens complete.
    fn output(&mut self, prompts: &Prompts<'_>, request: usize, block_size: usize) {
        let (Some((offsets, outputs)), Ids::Tokens(tokens)) = (prompts.outputs, prompts.ids) else {
            return;
        };
        let output = &outputs[to_usize(offsets[request])..to_usize(offsets[request + 1])];
        let (start, end) = (
            to_usize(prompts.offsets[request]),
            prompts.offsets[request + 1],
        );
        let prompt = &tokens[start..to_usize(end)];
        self.tokens.clear();
        self.tokens
            .extend_from_slice(&prompt[prompt.len() - prompt.len() % block_size..]);
        self.tokens.extend_from_slice(output);
        let last = self.hashes.last().copied();
        let parent = last.unwrap_or_else(|| prompts.root(request));
        let plain = Context::default();
        Xxh3Chain.extend(
            parent,
            &plain,
            0,
            &self.tokens,
            block_size,
            &mut self.hashes,
        );
    }

    /// The node of a block behind another one.
    fn child(&mut self, parent: u32, key: Xxh3Key) -> Result<u32> {
        if parent != NIL {
            let first = self.nodes[parent as usize].first_child;
            if first == NIL {
                let node = self.add(key)?;
                self.nodes[parent as usize].first_child = node;
                return Ok(node);
            }
            if self.nodes[first as usize].key == key {
                return Ok(first);
            }
        }
        let same = |&node: &u32| self.nodes[node as usize].key == key;
        if let Some(&node) = self.others.find(key.bits(), same) {
            return Ok(node);
        }
        let node = self.add(key)?;
        let hash = |&node: &u32| self.nodes[node as usize].key.bits();
        self.others.insert_unique(key.bits(), node, hash);
        Ok(node)
    }

    fn add(&mut self, key: Xxh3Key) -> Result<u32> {
        let id = self.id()?;
        if self.nodes.len() == self.nodes.capacity() {
            let more = (self.nodes.len() as u64).max(64);
            reserve(&mut self.nodes, more)?;
        }
        self.nodes.push(Node {
            key,
            id,
            first_child: NIL,
        });
        Ok(to_u32(self.nodes.len() - 1))
    }

    /// A number for a block that was not there before.
    fn id(&mut self) -> Result<u32> {
        if self.next == NIL {
            return Err(Error::range(
                "the trace has more than 2^32 - 1 distinct blocks",
            ));
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}
