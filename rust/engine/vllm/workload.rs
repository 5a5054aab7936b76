//! A trace compiled for the scheduler: every full block as a dense id, derived once.

use hashbrown::HashTable;

use super::replay::{Ids, Prompts};
use crate::error::{Error, Result};
use crate::hash::{BlockKey, Chain, Context, Xxh3Chain, Xxh3Key};
use crate::index::to_usize;
use crate::serving::Requests;
use crate::stop::Stop;

/// Requests between two looks at the stop flag.
const STOP_INTERVAL: usize = 1024;
const NIL: u32 = u32::MAX;

/// Requests in the order of their arrival, with the ids of their full blocks.
///
/// Two blocks have the same id if and only if they hold the same tokens after the same prefix under
/// the same salt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    block_size: u32,
    requests: Requests,
    key_offsets: Vec<u64>,
    keys: Vec<u32>,
    num_keys: u32,
}

impl Workload {
    /// Compiles a trace. `output_len` in tokens; a request that asks for none still samples one, as
    /// the server does. `arrival_ns` in nanoseconds, ascending.
    ///
    /// Output tokens that `prompts` does not have are taken to be unlike any others.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if columns do not fit together, a prompt is empty, or
    /// there are more than
    /// 2^32 - 1 distinct blocks; [`Error::Interrupted`].
    pub fn compile(
        prompts: &Prompts<'_>,
        output_len: &[u32],
        arrival_ns: &[u64],
        block_size: u32,
        stop: &Stop,
    ) -> Result<Self> {
        prompts.validate(block_size)?;
        let requests = Requests::new(prompts.prompt_len, output_len, arrival_ns)?;
        let mut compiler = Compiler::default();
        let mut workload = Self {
            block_size,
            key_offsets: Vec::with_capacity(requests.len() + 1),
            requests,
            keys: Vec::new(),
            num_keys: 0,
        };
        workload.key_offsets.push(0);
        for request in workload.requests.indices() {
            let row = request as usize;
            if row.is_multiple_of(STOP_INTERVAL) {
                stop.check()?;
            }
            let requests = &workload.requests;
            // The last token is never computed.
            let tokens = requests.prompt_len(request) + requests.output_len(request) - 1;
            let blocks = (tokens / block_size) as usize;
            compiler.request(prompts, row, block_size, blocks, &mut workload.keys)?;
            workload.key_offsets.push(workload.keys.len() as u64);
        }
        workload.num_keys = compiler.next;
        Ok(workload)
    }

    /// The requests, without their tokens.
    #[must_use]
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Tokens per block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Ids of the full blocks of a request's prompt and output, without the last token.
    #[must_use]
    pub fn keys(&self, request: u32) -> &[u32] {
        let request = request as usize;
        &self.keys[to_usize(self.key_offsets[request])..to_usize(self.key_offsets[request + 1])]
    }

    /// Number of distinct blocks.
    #[must_use]
    pub fn num_keys(&self) -> u32 {
        self.num_keys
    }

    /// Where each block occurs first.
    #[must_use]
    pub fn origins(&self) -> Origins {
        let blocks = self.num_keys as usize;
        let mut origins = Origins {
            request: vec![0; blocks],
            position: vec![0; blocks],
        };
        let mut requests: Vec<u32> = self.requests.indices().collect();
        // Last to first, so that the first one stays.
        requests.reverse();
        for request in requests {
            for (position, &key) in (0..).zip(self.keys(request)) {
                origins.request[key as usize] = request;
                origins.position[key as usize] = position;
            }
        }
        origins
    }
}

/// Where blocks occur first, one entry per block id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// The first request that has the block.
    pub request: Vec<u32>,
    /// Its position in that request, in blocks.
    pub position: Vec<u32>,
}

/// A block of the trie.
struct Node {
    key: Xxh3Key,
    /// [`NIL`] if there is none.
    first_child: u32,
}

/// A trie of blocks. The first child of a block is stored with it, so that following a path that
/// was seen before, or adding one that was not, touches consecutive memory; only where sequences
/// diverge is there a table to look into.
#[derive(Default)]
struct Compiler {
    nodes: Vec<Node>,
    /// All children but the first ones, and those of the roots.
    others: HashTable<u32>,
    next: u32,
    hashes: Vec<Xxh3Key>,
    tokens: Vec<u32>,
}

impl Compiler {
    /// Appends the ids of the first `blocks` blocks of a request.
    fn request(
        &mut self,
        prompts: &Prompts<'_>,
        request: usize,
        block_size: u32,
        blocks: usize,
        keys: &mut Vec<u32>,
    ) -> Result<()> {
        prompts.keys(request, block_size, &mut self.hashes);
        self.output(prompts, request, block_size as usize);
        self.hashes.truncate(blocks);
        let mut parent = NIL;
        for i in 0..self.hashes.len() {
            parent = self.child(parent, self.hashes[i])?;
            keys.push(parent);
        }
        for _ in self.hashes.len()..blocks {
            // Outputs that nobody knows: no other sequence gets here.
            keys.push(self.add(Xxh3Key::default())?);
        }
        Ok(())
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

    fn child(&mut self, parent: u32, key: Xxh3Key) -> Result<u32> {
        if parent != NIL {
            let first = self.nodes[parent as usize].first_child;
            if first == NIL {
                let id = self.add(key)?;
                self.nodes[parent as usize].first_child = id;
                return Ok(id);
            }
            if self.nodes[first as usize].key == key {
                return Ok(first);
            }
        }
        let same = |&id: &u32| self.nodes[id as usize].key == key;
        if let Some(&id) = self.others.find(key.bits(), same) {
            return Ok(id);
        }
        let id = self.add(key)?;
        let hash = |&id: &u32| self.nodes[id as usize].key.bits();
        self.others.insert_unique(key.bits(), id, hash);
        Ok(id)
    }

    fn add(&mut self, key: Xxh3Key) -> Result<u32> {
        if self.next == NIL {
            return Err(Error::range(
                "the trace has more than 2^32 - 1 distinct blocks",
            ));
        }
        self.nodes.push(Node {
            key,
            first_child: NIL,
        });
        self.next += 1;
        Ok(self.next - 1)
    }
}
