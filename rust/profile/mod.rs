//! A profile: one forest seen through one block size, and who used which blocks last.
//!
//! Requests run one after the other, and each touches all the blocks of its path. Its path therefore
//! falls into *pieces*: maximal stretches of blocks that the same earlier request was the last to
//! touch. From the root downwards the last use only gets older, and behind the last piece come the
//! blocks that no one touched before. Everything there is to know of a trace for an LRU cache, its
//! curve or the clairvoyant reference is in the pieces; the tree is not looked at again.

mod counts;
mod next_uses;
mod pieces;

use std::sync::{Arc, OnceLock};

pub use counts::Gaps;
pub(crate) use next_uses::NextUses;
use pieces::Pieces;

use crate::error::{Error, Result};
use crate::forest::Forest;
use crate::stop::Stop;

/// Requests between two looks at the stop flag.
pub(crate) const BATCH: usize = 4096;

/// Blocks up to depth `end`, from the end of the piece before, last touched by request `last_use`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Depth at which the piece ends, in blocks.
    pub end: u32,
    /// The latest earlier request that touched these blocks.
    pub last_use: u32,
}

/// A forest at one block size.
///
/// ```
/// use std::sync::Arc;
/// use prefixsim::{Forest, Profile, Stop, trace::{Csr, Trace}};
///
/// let prompts = Csr::new(&[0, 3, 7], &[1u32, 2, 3, 1, 2, 3, 4])?;
/// let forest = Arc::new(Forest::compile(&Trace::new(prompts), &Stop::default())?);
/// let profile = Profile::new(forest, 2, &[3, 4], &Stop::default())?;
/// assert_eq!(profile.full_blocks(), [1, 2]);
/// assert_eq!(profile.pieces(1)[0].last_use, 0);
/// # Ok::<(), prefixsim::Error>(())
/// ```
#[derive(Debug)]
pub struct Profile {
    forest: Arc<Forest>,
    block_size: u32,
    units: u32,
    full_blocks: Vec<u32>,
    limit: Vec<u32>,
    touched: Option<Vec<u32>>,
    pieces: Pieces,
    unique_blocks: u64,
    next_uses: OnceLock<NextUses>,
}

impl Profile {
    /// Looks at a forest through blocks of `block_size` tokens.
    ///
    /// `prompt_len` is the length of each prompt in tokens.
    ///
    /// # Errors
    /// [`Error::Range`] if the forest has no such blocks; [`Error::Shape`] if `prompt_len` is not
    /// one row per request;
    /// [`Error::Interrupted`] if asked to stop.
    pub fn new(
        forest: Arc<Forest>,
        block_size: u32,
        prompt_len: &[u32],
        stop: &Stop,
    ) -> Result<Self> {
        let units = forest.units_per_block(block_size)?;
        if prompt_len.len() != forest.requests() {
            return Err(Error::shape(format!(
                "prompt_len: {} rows, but {} requests",
                prompt_len.len(),
                forest.requests()
            )));
        }
        let depth = |nodes: &[u32]| -> Vec<u32> {
            let end = forest.end();
            nodes.iter().map(|&n| end[n as usize] / units).collect()
        };
        let full_blocks = depth(forest.prompt_node());
        let limit = full_blocks
            .iter()
            .zip(prompt_len)
            .map(|(&full, &tokens)| full.min(tokens.saturating_sub(1) / block_size))
            .collect();
        let touched = forest.output_node().map(depth);
        let blocks = touched.as_deref().unwrap_or(&full_blocks);
        let pieces = Pieces::of(&forest, units, blocks, stop)?;
        let unique_blocks = forest.unique_blocks(block_size)?;
        Ok(Self {
            block_size,
            units,
            full_blocks,
            limit,
            touched,
            pieces,
            unique_blocks,
            next_uses: OnceLock::new(),
            forest,
        })
    }

    /// The forest.
    #[must_use]
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Tokens of a block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Number of requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.full_blocks.len()
    }

    /// Full blocks of each prompt.
    #[must_use]
    pub fn full_blocks(&self) -> &[u32] {
        &self.full_blocks
    }

    /// Most blocks of each prompt that can hit when the last token is always computed.
    #[must_use]
    pub fn limit(&self) -> &[u32] {
        &self.limit
    }

    /// Full blocks that each request touches: its prompt's, and with outputs those as well.
    #[must_use]
    pub fn touched(&self) -> &[u32] {
        self.touched.as_deref().unwrap_or(&self.full_blocks)
    }

    /// Distinct full blocks of the trace; with outputs, theirs as well.
    #[must_use]
    pub fn unique_blocks(&self) -> u64 {
        self.unique_blocks
    }

    /// The pieces of a request, from the root downwards.
    #[must_use]
    pub fn pieces(&self, request: usize) -> &[Piece] {
        self.pieces.of_request(request)
    }

    /// Number of pieces of all requests.
    #[must_use]
    pub fn piece_count(&self) -> usize {
        self.pieces.len()
    }

    /// Leading blocks of each prompt that an earlier request touched: the hits of an infinite cache,
    /// but for the last-token rule.
    #[must_use]
    pub fn reusable_blocks(&self) -> Vec<u32> {
        (0..self.requests())
            .map(|t| {
                let end = self.pieces(t).last().map_or(0, |piece| piece.end);
                end.min(self.full_blocks[t])
            })
            .collect()
    }

    /// Most blocks that can hit per request, with or without the last-token rule.
    pub(crate) fn most_hits(&self, last_token_rule: bool) -> &[u32] {
        if last_token_rule {
            &self.limit
        } else {
            &self.full_blocks
        }
    }

    /// The pieces by who touched them last, made on first use.
    pub(crate) fn next_uses(&self) -> &NextUses {
        self.next_uses.get_or_init(|| NextUses::of(self))
    }

    /// The heavy path on which the path of `request` ends.
    pub(crate) fn path_of(&self, request: usize) -> u32 {
        self.forest.path_of()[self.forest.last_node()[request] as usize]
    }

    /// Where a heavy path hangs: the path above it, and the depth in blocks.
    pub(crate) fn above(&self, path: u32) -> (u32, u32) {
        let path = self.forest.paths()[path as usize];
        (path.up, path.top / self.units)
    }

    /// Checks every invariant of the pieces.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        let mut new = 0;
        for (t, &touched) in self.touched().iter().enumerate() {
            let (mut start, mut last_use) = (0, t as u32);
            for piece in self.pieces(t) {
                if piece.end <= start || piece.last_use >= last_use {
                    return Err(Error::bug(format!(
                        "pieces of request {t} do not get deeper and older"
                    )));
                }
                (start, last_use) = (piece.end, piece.last_use);
            }
            if start > touched {
                return Err(Error::bug(format!(
                    "pieces of request {t} are deeper than it is"
                )));
            }
            new += u64::from(touched - start);
        }
        if new != self.unique_blocks {
            return Err(Error::bug(format!(
                "{new} blocks were new, but {} are distinct",
                self.unique_blocks
            )));
        }
        Ok(())
    }
}
