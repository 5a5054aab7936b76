//! A profile: one forest seen through one block size, and who used which blocks last.
//!
//! Requests run one after the other, and each touches all the blocks of its path. Its path therefore
//! falls into *reuse intervals*: maximal stretches of blocks that the same earlier request was the
//! last to touch. From the root downwards the last use only gets older, and behind the last interval
//! come the blocks that no one touched before. Everything there is to know of a trace for an LRU
//! cache, its curve or the clairvoyant reference is in them; the tree is not looked at again.

mod counts;
mod next_uses;
mod reuse;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

pub use counts::Gaps;
pub(crate) use next_uses::NextUses;
use reuse::ReuseIntervals;
pub(crate) use reuse::{Hang, Hangs, LastUses};

use crate::error::{Error, Result};
use crate::forest::Forest;
use crate::index::{Ix, PathIx, RequestIx};
use crate::stop::Stop;

/// Blocks up to depth `end`, from the end of the interval before, last used by request `last_use`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReuseInterval {
    /// Depth at which the interval ends, in blocks.
    pub end: u32,
    /// The latest earlier request that used these blocks.
    pub last_use: RequestIx,
}

/// A forest at one block size.
///
/// ```
/// use std::sync::Arc;
/// use prefixsim::{Forest, Profile, Stop, index::RequestIx, trace::{Csr, Trace}};
///
/// let prompts = Csr::new(&[0, 3, 7], &[1u32, 2, 3, 1, 2, 3, 4])?;
/// let forest = Arc::new(Forest::compile(&Trace::new(prompts), &Stop::default())?);
/// let profile = Profile::new(forest, 2, &[3, 4], &Stop::default())?;
/// assert_eq!(profile.full_blocks(), [1, 2]);
/// let [reuse] = profile.reuse(RequestIx::new(1)) else { panic!("one interval") };
/// assert_eq!((reuse.end, reuse.last_use), (1, RequestIx::new(0)));
/// # Ok::<(), prefixsim::Error>(())
/// ```
#[derive(Debug)]
pub struct Profile {
    forest: Arc<Forest>,
    block_size: u32,
    hangs: Hangs,
    full_blocks: Vec<u32>,
    limit: Vec<u32>,
    touched: Option<Vec<u32>>,
    reuse: ReuseIntervals,
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
        let ids_per_block = forest.ids_per_block(block_size)?;
        Error::check_rows("prompt_len", prompt_len.len(), forest.requests())?;
        let depth = |nodes: &[u32]| -> Vec<u32> {
            let end = forest.end();
            nodes
                .iter()
                .map(|&n| end[n as usize] / ids_per_block)
                .collect()
        };
        let full_blocks = depth(forest.prompt_node());
        let limit = full_blocks
            .iter()
            .zip(prompt_len)
            .map(|(&full, &tokens)| full.min(tokens.saturating_sub(1) / block_size))
            .collect();
        let touched = forest.output_node().map(depth);
        let blocks = touched.as_deref().unwrap_or(&full_blocks);
        let hangs = Hangs::new(&forest, ids_per_block);
        let reuse = ReuseIntervals::new(&forest, &hangs, blocks, stop)?;
        let unique_blocks = forest.unique_blocks(block_size)?;
        Ok(Self {
            block_size,
            hangs,
            full_blocks,
            limit,
            touched,
            reuse,
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

    /// The reuse intervals of a request, from the root downwards.
    #[inline]
    #[must_use]
    pub fn reuse(&self, request: RequestIx) -> &[ReuseInterval] {
        self.reuse.of(request)
    }

    /// Number of reuse intervals of all requests.
    #[must_use]
    pub fn reuse_intervals(&self) -> usize {
        self.reuse.len()
    }

    /// Leading blocks of each prompt that an earlier request touched: the hits of an infinite cache,
    /// but for the last-token rule.
    #[must_use]
    pub fn reusable_blocks(&self) -> Vec<u32> {
        (0..self.requests())
            .map(|t| {
                let reuse = self.reuse(RequestIx::from_usize(t));
                let end = reuse.last().map_or(0, |interval| interval.end);
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

    /// The reuse intervals turned around, made on first use.
    pub(crate) fn next_uses(&self) -> &NextUses {
        self.next_uses.get_or_init(|| NextUses::new(self))
    }

    /// The heavy path on which the path of `request` ends.
    pub(crate) fn path_of(&self, request: RequestIx) -> PathIx {
        self.forest.path_of_request(request)
    }

    /// Where a heavy path hangs.
    pub(crate) fn hang(&self, path: PathIx) -> Hang {
        self.hangs.of(path)
    }

    /// Where all heavy paths hang.
    pub(crate) fn hangs(&self) -> &Hangs {
        &self.hangs
    }

    /// Calls `visit` with the heavy paths that hold `blocks` of the path of a request, and with which
    /// of them each holds; the deepest first.
    pub(crate) fn on_paths(
        &self,
        request: RequestIx,
        blocks: Range<u32>,
        visit: impl FnMut(PathIx, Range<u32>),
    ) {
        self.hangs.crossed(self.path_of(request), blocks, visit);
    }

    /// Checks every invariant of the reuse intervals.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        let mut new = 0;
        for (t, &touched) in self.touched().iter().enumerate() {
            let request = RequestIx::from_usize(t);
            let (mut start, mut last_use) = (0, request);
            for interval in self.reuse(request) {
                if interval.end <= start || interval.last_use >= last_use {
                    return Err(Error::bug(format!(
                        "reuse intervals of request {t} do not get deeper and older"
                    )));
                }
                (start, last_use) = (interval.end, interval.last_use);
            }
            if start > touched {
                return Err(Error::bug(format!(
                    "reuse intervals of request {t} are deeper than it is"
                )));
            }
            new += u64::from(touched - start);
        }
        if let Some(next_uses) = self.next_uses.get() {
            next_uses.validate()?;
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
