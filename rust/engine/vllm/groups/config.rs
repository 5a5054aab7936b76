//! What groups there are, and how their caches behave.

use crate::engine::vllm::{Retention, UncachedFirst};
use crate::error::{Error, Result};

/// Tokens of a block, window or chunk at most: more than any model's context.
const LONGEST: u32 = 1 << 30;

/// What the layers of a group attend to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// All tokens.
    Full,
    /// The last `window` tokens, the current one included; at least 2.
    SlidingWindow {
        /// Tokens.
        window: u32,
    },
    /// The tokens of the same chunk of `chunk` tokens.
    ChunkedLocal {
        /// Tokens.
        chunk: u32,
    },
    /// A state: Mamba, gated delta net, short convolution.
    Mamba {
        /// If the kernels can export a state from inside a prefill: the tokens that the exported position
        /// is a multiple of, counted from the start of the step.
        checkpoint_alignment: Option<u32>,
    },
}

/// Layers that share one block table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// What they attend to.
    pub kind: GroupKind,
    /// Tokens per block.
    pub block_size: u32,
    /// Whether the layers of a draft model are among them.
    pub eagle: bool,
}

/// What a drafter does to the cache: EAGLE-type ones read the KV of the next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EagleHits {
    /// There is none, or hits are used as they are.
    #[default]
    Keep,
    /// Hashes cover the next token.
    Lookahead,
    /// The last block of a hit is dropped.
    Drop,
}

/// How a [`GroupedCache`](super::GroupedCache) behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupsConfig {
    /// The groups, in the order of their numbers.
    pub groups: Vec<Group>,
    /// Tokens between two hashes; every block size is a multiple of it.
    pub hash_unit: u32,
    /// `false`: nothing is ever cached.
    pub enable_caching: bool,
    /// Tokens beyond which no slot is allocated.
    pub max_model_len: u32,
    /// Slots to keep free when a request is admitted beside others.
    pub watermark_slots: u32,
    /// Which blocks of sliding-window and Mamba groups are cached.
    pub retention: Retention,
    /// Where released slots without a cached block enter the free queue.
    pub uncached_first: UncachedFirst,
    /// Tokens of one step, twice that if two are in flight, by which the admission check bounds what a
    /// request holds at once in a window. `None`: no such bound.
    pub batch_tokens: Option<u32>,
    /// Tokens of one request in one step at most, by which prefills of models with states are cut.
    pub chunk_tokens: u32,
    /// Guessed tokens per step.
    pub draft_tokens: u32,
    /// Tokens behind those of a step for which slots are taken too, as EAGLE-type drafters want it.
    pub lookahead_slots: u32,
    /// What the drafter does to hits.
    pub eagle_hits: EagleHits,
    /// Whether states are kept where siblings are known to part.
    pub junction_checkpoints: bool,
}

impl GroupsConfig {
    /// These groups, hashed every `hash_unit` tokens, with vLLM's defaults: only what requests with the
    /// same prompt need is cached of windows and states, no drafts, no limits.
    #[must_use]
    pub fn new(groups: Vec<Group>, hash_unit: u32) -> Self {
        Self {
            groups,
            hash_unit,
            enable_caching: true,
            max_model_len: u32::MAX,
            watermark_slots: 0,
            retention: Retention::PromptEnd,
            uncached_first: UncachedFirst::Always,
            batch_tokens: None,
            chunk_tokens: u32::MAX,
            draft_tokens: 0,
            lookahead_slots: 0,
            eagle_hits: EagleHits::Keep,
            junction_checkpoints: false,
        }
    }

    /// # Errors
    /// [`Error::Range`] if there is no group, a size is zero, or sizes do not divide each other as they
    /// have to.
    pub fn validate(&self) -> Result<()> {
        if self.groups.is_empty() {
            return Err(Error::range("there are no groups: give at least one"));
        }
        if self.hash_unit == 0 {
            return Err(Error::range("the unit of hashes is 0 tokens"));
        }
        for (number, group) in self.groups.iter().enumerate() {
            self.validate_group(number, group)?;
        }
        Ok(())
    }

    fn validate_group(&self, number: usize, group: &Group) -> Result<()> {
        let refuse = |what: String| Err(Error::range(format!("group {number}: {what}")));
        let size = group.block_size;
        let sizes = match group.kind {
            GroupKind::SlidingWindow { window } => [("window", window), ("block_size", size)],
            GroupKind::ChunkedLocal { chunk } => [("chunk", chunk), ("block_size", size)],
            GroupKind::Full | GroupKind::Mamba { .. } => [("block_size", size); 2],
        };
        for (name, tokens) in sizes {
            if tokens == 0 || tokens > LONGEST {
                return refuse(format!("{name} is {tokens}, it must be 1 to {LONGEST}"));
            }
        }
        if self.enable_caching && !size.is_multiple_of(self.hash_unit) {
            return refuse(format!(
                "block_size {size} is no multiple of the {} tokens between hashes",
                self.hash_unit
            ));
        }
        match group.kind {
            GroupKind::SlidingWindow { window } if window < 2 => {
                refuse(format!("window is {window}, it must be at least 2"))
            }
            GroupKind::Mamba {
                checkpoint_alignment: Some(0),
            } => refuse("checkpoint_alignment is 0, leave it out or give a positive one".into()),
            _ => Ok(()),
        }
    }
}
