//! A policy that others decide block by block.

use super::{Dropped, PrefixPolicy, Room, Setting};
use crate::error::{Error, Result};
use crate::forest::BlockNumbers;
use crate::index::{Ix, RequestIx, to_u32};

/// Hears of every block, and names the one to drop.
///
/// Blocks are numbers from 0: two have one number exactly if they and all before them are the same.
///
/// # What the caller guarantees
///
/// * Requests come in the order of the trace. For each, [`hit`](Self::hit) is called if it hits,
///   then [`victim`](Self::victim) and [`dropped`](Self::dropped) for each block that must go, then
///   [`inserted`](Self::inserted) if blocks come in. Lists of blocks are in the order of the path.
/// * [`leaf`](Self::leaf) is called whenever a block becomes or ceases to be one that may go: cached,
///   nothing cached below it, not on the path of the running request. There is one whenever a victim
///   is asked for.
///
/// # What an implementor must do
///
/// * Name a victim that may go.
/// * Be deterministic.
pub trait Hooks {
    /// `request` found `blocks` in the cache.
    ///
    /// # Errors
    /// What ends the replay; of all methods.
    fn hit(&mut self, request: RequestIx, blocks: &[u32]) -> Result<()>;

    /// `blocks` came in with `request`.
    ///
    /// # Errors
    /// As [`hit`](Self::hit).
    fn inserted(&mut self, request: RequestIx, blocks: &[u32]) -> Result<()>;

    /// `block` may go from now on, or no longer.
    ///
    /// # Errors
    /// As [`hit`](Self::hit).
    fn leaf(&mut self, block: u32, may_go: bool) -> Result<()>;

    /// The block to drop while `request` runs.
    ///
    /// # Errors
    /// As [`hit`](Self::hit).
    fn victim(&mut self, request: RequestIx) -> Result<u32>;

    /// `block` was dropped while `request` ran.
    ///
    /// # Errors
    /// As [`hit`](Self::hit).
    fn dropped(&mut self, request: RequestIx, block: u32) -> Result<()>;
}

/// What is known of a block.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// The block before it.
    above: Option<u32>,
    /// Where it ends on its path, in blocks.
    end: u32,
    /// The request it came in with.
    owner: RequestIx,
    /// Cached blocks that follow it.
    below: u32,
    cached: bool,
}

/// [`Hooks`] as a policy: time and memory grow with the number of blocks, not of segments. The owner
/// of dropped blocks is the request they came in with.
#[derive(Debug)]
pub struct BlockWise<'p, H> {
    hooks: H,
    setting: Setting<'p>,
    numbers: BlockNumbers<'p>,
    blocks: Vec<Block>,
    /// The running request's path, and how much of it is cached.
    path: Vec<u32>,
    found: usize,
    running: RequestIx,
    outcome: Result<()>,
}

impl<'p, H: Hooks> BlockWise<'p, H> {
    /// An empty cache.
    ///
    /// # Errors
    /// [`Error::Range`] if there are too many distinct blocks for 32 bits.
    pub fn new(setting: &Setting<'p>, hooks: H) -> Result<Self> {
        let profile = setting.profile;
        let ids_per_block = profile.forest().ids_per_block(profile.block_size())?;
        let numbers = BlockNumbers::new(profile.forest(), ids_per_block)?;
        let block = Block {
            above: None,
            end: 0,
            owner: RequestIx::new(0),
            below: 0,
            cached: false,
        };
        let count = usize::try_from(numbers.blocks()).unwrap_or(usize::MAX);
        Ok(Self {
            hooks,
            setting: *setting,
            blocks: vec![block; count],
            numbers,
            path: Vec::new(),
            found: 0,
            running: RequestIx::new(0),
            outcome: Ok(()),
        })
    }

    /// Calls a hook, unless one has failed before.
    fn call<T>(&mut self, hook: impl FnOnce(&mut H) -> Result<T>) -> Option<T> {
        if self.outcome.is_err() {
            return None;
        }
        match hook(&mut self.hooks) {
            Ok(value) => Some(value),
            Err(error) => {
                self.outcome = Err(error);
                None
            }
        }
    }

    /// Whether a block may go: the deepest one that the running request found has one more below.
    fn may_go(&self, block: u32) -> bool {
        let known = self.blocks.get(block as usize);
        known.is_some_and(|known| known.cached && known.below == 0)
    }

    /// One block less hangs on `block`.
    fn release(&mut self, block: u32) {
        self.blocks[block as usize].below -= 1;
        if self.may_go(block) {
            self.call(|hooks| hooks.leaf(block, true));
        }
    }

    /// The block to drop; after a failure any that may go.
    fn next_victim(&mut self, request: RequestIx) -> Option<u32> {
        if let Some(block) = self.call(|hooks| hooks.victim(request)) {
            if self.may_go(block) {
                return Some(block);
            }
            self.outcome = Err(Error::range(format!(
                "request {request}: block {block} is none that may go"
            )));
        }
        (0..to_u32(self.blocks.len())).find(|&block| self.may_go(block))
    }
}

impl<H: Hooks> PrefixPolicy for BlockWise<'_, H> {
    fn take(&mut self, request: RequestIx) -> u32 {
        let forest = self.numbers.forest();
        let nodes = forest.output_node().unwrap_or(forest.prompt_node());
        let count = self.setting.profile.touched()[request.usize()];
        let mut path = std::mem::take(&mut self.path);
        self.numbers.path(nodes[request.usize()], count, &mut path);
        let is_cached = |block: &&u32| self.blocks[**block as usize].cached;
        self.found = path.iter().take_while(is_cached).count();
        let found = &path[..self.found];
        if let Some(&last) = found.last() {
            if self.may_go(last) {
                self.call(|hooks| hooks.leaf(last, false));
            }
            self.blocks[last as usize].below += 1;
            self.call(|hooks| hooks.hit(request, found));
        }
        self.path = path;
        self.running = request;
        to_u32(self.found)
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let request = self.running;
        for _ in 0..blocks {
            let block = self
                .next_victim(request)
                .expect("as many blocks as are dropped");
            let Block {
                above, end, owner, ..
            } = self.blocks[block as usize];
            self.blocks[block as usize].cached = false;
            dropped(Dropped {
                owner,
                blocks: end - 1..end,
            });
            self.call(|hooks| hooks.leaf(block, false));
            self.call(|hooks| hooks.dropped(request, block));
            if let Some(above) = above {
                self.release(above);
            }
        }
        Room::dropped(blocks)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let path = std::mem::take(&mut self.path);
        let new = &path[self.found..keep as usize];
        let found = path[..self.found].last().copied();
        let mut above = found;
        for (&block, end) in new.iter().zip(to_u32(self.found) + 1..) {
            self.blocks[block as usize] = Block {
                above,
                end,
                owner: request,
                below: 0,
                cached: true,
            };
            if let Some(above) = above {
                self.blocks[above as usize].below += 1;
            }
            above = Some(block);
        }
        if let Some(&last) = new.last() {
            self.call(|hooks| hooks.inserted(request, new));
            self.call(|hooks| hooks.leaf(last, true));
        }
        if let Some(found) = found {
            self.release(found);
        }
        self.path = path;
    }

    fn check(&self) -> Result<()> {
        self.outcome.clone()
    }

    fn validate(&self, cached: u64) -> Result<()> {
        let mut below = vec![0_u32; self.blocks.len()];
        let mut held = 0;
        for block in self.blocks.iter().filter(|block| block.cached) {
            held += 1;
            if let Some(above) = block.above {
                below[above as usize] += 1;
                if !self.blocks[above as usize].cached {
                    return Err(Error::bug("a block whose ancestor is not cached"));
                }
            }
        }
        let miscounts = |(block, &below): (&Block, &u32)| block.cached && block.below != below;
        if held != cached || self.blocks.iter().zip(&below).any(miscounts) {
            return Err(Error::bug(format!("{held} blocks held, not {cached}")));
        }
        Ok(())
    }
}
