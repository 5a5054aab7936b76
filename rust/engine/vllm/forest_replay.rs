//! A compiled trace through the manager: the forest says which blocks are the same.
//!
//! With full attention and slots released as vLLM does today, it goes by runs of blocks; otherwise slot
//! by slot, with the [`BlockNumbers`] of the forest as keys. Nothing is hashed.

use super::block_manager::UNBOUNDED;
use super::block_pool::check_slots;
use super::replay::{Clock, KeySource, Lengths, ReplayOutcome, check_run, run};
use super::{DenseIndex, ManagerConfig, ReleaseOrder, runs};
use crate::error::{Error, Result};
use crate::forest::{BlockNumbers, Forest};
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
    let lengths = Lengths {
        prompt: lengths.prompt_len,
        output_offsets: lengths.output_offsets,
    };
    let full_attention = config.sliding_window.is_none() && config.max_model_len == u32::MAX;
    if full_attention && config.release_order() == ReleaseOrder::UncachedFirst {
        check_run(requests, concurrency, clock)?;
        let slots = num_blocks.unwrap_or(UNBOUNDED);
        check_slots(slots)?;
        return runs::replay(
            forest,
            (ids, config.block_size),
            config.enable_caching,
            lengths,
            slots - 1,
            concurrency as usize,
            clock,
            stop,
        );
    }
    let numbers = BlockNumbers::new(forest, ids)?;
    let index = DenseIndex::new(to_usize(numbers.blocks()));
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

struct ForestBlocks<'f, 't> {
    numbers: BlockNumbers<'f>,
    block_size: u32,
    lengths: Lengths<'t>,
}

impl KeySource for ForestBlocks<'_, '_> {
    type Key = u32;

    fn prompt(&mut self, request: usize, keys: &mut Vec<u32>) {
        let node = self.numbers.forest().prompt_node()[request];
        let full = self.lengths.prompt[request] / self.block_size;
        self.numbers.path(node, full, keys);
    }

    fn output(&mut self, request: usize, keys: &mut Vec<u32>) -> Result<()> {
        let node = self.numbers.forest().last_node()[request];
        let tokens = u64::from(self.lengths.prompt[request])
            + u64::from(self.lengths.output(request)).saturating_sub(1);
        let full = to_u32(tokens / u64::from(self.block_size));
        self.numbers.path(node, full, keys);
        Ok(())
    }
}
