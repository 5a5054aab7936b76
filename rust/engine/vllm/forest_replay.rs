//! A compiled trace through the manager: the forest says which blocks are the same.
//!
//! Block k of a sequence is where the forest's tree stands after (k + 1) blocks, so that a node that
//! ends at depth e and begins at depth s has `e / b - s / b` blocks of its own, numbered in a row. No
//! token is looked at and nothing is hashed: two blocks have one number exactly if their prefixes are
//! the same tokens under the same salt.

use super::replay::{Clock, KeySource, Lengths, ReplayOutcome, run};
use super::{DenseIndex, ManagerConfig};
use crate::error::{Error, Result};
use crate::forest::Forest;
use crate::index::{to_u32, to_usize};
use crate::stop::Stop;

/// What a forest does not say of its requests.
#[derive(Debug, Clone, Copy)]
pub struct ForestLengths<'t> {
    /// Tokens per prompt.
    pub prompt_len: &'t [u32],
    /// Offsets of the outputs, if they are appended; the forest must have been compiled with them.
    pub output_offsets: Option<&'t [u64]>,
}

/// Replays a compiled trace through the manager; all else as [`super::replay::replay`].
///
/// # Errors
/// [`Error::Shape`] or [`Error::Range`] if the columns are not of this forest, the forest has no blocks
/// of this size, or a request can never fit; [`Error::Interrupted`].
pub fn replay_forest(
    forest: &Forest,
    lengths: ForestLengths<'_>,
    config: &ManagerConfig,
    num_blocks: Option<u32>,
    concurrency: u32,
    clock: Option<Clock<'_>>,
    stop: &Stop,
) -> Result<ReplayOutcome> {
    let requests = forest.requests();
    let ids = forest.ids_per_block(config.block_size)?;
    if forest.partial_blocks() {
        return Err(Error::range(
            "a server has no partial blocks: compile the trace without them",
        ));
    }
    if lengths.prompt_len.len() != requests {
        return Err(Error::shape(format!(
            "{} prompt lengths for {requests} requests",
            lengths.prompt_len.len()
        )));
    }
    if let Some(offsets) = lengths.output_offsets {
        let ascending = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        if forest.output_node().is_none() || offsets.len() != requests + 1 || !ascending {
            return Err(Error::shape(format!(
                "the outputs are not those of a forest of {requests} requests with outputs"
            )));
        }
    }
    let numbers = BlockNumbers::new(forest, ids)?;
    let index = DenseIndex::new(to_usize(numbers.blocks));
    let lengths = Lengths {
        prompt: lengths.prompt_len,
        output_offsets: lengths.output_offsets,
    };
    let source = ForestBlocks {
        numbers,
        block_size: config.block_size,
        lengths,
    };
    run(
        source,
        index,
        lengths,
        config,
        num_blocks,
        concurrency,
        clock,
        stop,
    )
}

/// Numbers of blocks by the place in the forest where they end.
struct BlockNumbers<'f> {
    forest: &'f Forest,
    ids_per_block: u32,
    /// The number of the first block that ends in each node.
    first: Vec<u32>,
    blocks: u64,
}

impl<'f> BlockNumbers<'f> {
    fn new(forest: &'f Forest, ids_per_block: u32) -> Result<Self> {
        let mut first = Vec::with_capacity(forest.nodes());
        let mut blocks = 0_u64;
        for (&end, &above) in forest.end().iter().zip(forest.parent()) {
            first.push(u32::try_from(blocks).map_err(|_| too_many())?);
            blocks += u64::from(end / ids_per_block)
                - u64::from(forest.end()[above as usize] / ids_per_block);
        }
        u32::try_from(blocks).map_err(|_| too_many())?;
        Ok(Self {
            forest,
            ids_per_block,
            first,
            blocks,
        })
    }

    /// Sets `keys` to the numbers of the first `count` blocks on the path to `node`.
    fn path(&self, mut node: u32, count: u32, keys: &mut Vec<u32>) {
        keys.clear();
        keys.resize(count as usize, 0);
        let (ends, parents) = (self.forest.end(), self.forest.parent());
        loop {
            let above = parents[node as usize];
            let start = ends[above as usize] / self.ids_per_block;
            let end = (ends[node as usize] / self.ids_per_block).min(count);
            if start < end {
                let first = self.first[node as usize];
                for (key, number) in keys[start as usize..end as usize].iter_mut().zip(first..) {
                    *key = number;
                }
            }
            if above == node {
                return;
            }
            node = above;
        }
    }
}

fn too_many() -> Error {
    Error::range("more than 2^32 - 1 distinct blocks: choose larger blocks")
}

struct ForestBlocks<'f, 't> {
    numbers: BlockNumbers<'f>,
    block_size: u32,
    lengths: Lengths<'t>,
}

impl KeySource for ForestBlocks<'_, '_> {
    type Key = u32;

    fn prompt(&mut self, request: usize, keys: &mut Vec<u32>) {
        let node = self.numbers.forest.prompt_node()[request];
        let full = self.lengths.prompt[request] / self.block_size;
        self.numbers.path(node, full, keys);
    }

    fn output(&mut self, request: usize, keys: &mut Vec<u32>) -> Result<()> {
        let node = self.numbers.forest.last_node()[request];
        let tokens = u64::from(self.lengths.prompt[request])
            + u64::from(self.lengths.output(request)).saturating_sub(1);
        let full = to_u32(tokens / u64::from(self.block_size));
        self.numbers.path(node, full, keys);
        Ok(())
    }
}
