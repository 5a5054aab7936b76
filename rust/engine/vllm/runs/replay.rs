//! A whole trace through a [`RunPool`], as [`run`](crate::engine::vllm::replay) does it with slots.

use std::collections::VecDeque;

use super::pool::RunPool;
use super::run::{Found, Held};
use crate::engine::vllm::replay::{Clock, Lengths, ReplayOutcome, STOP_INTERVAL, never_fits};
use crate::error::Result;
use crate::forest::Forest;
use crate::index::to_u32;
use crate::stop::Stop;

/// What a request holds.
#[derive(Debug, Default)]
struct Lease {
    held: Vec<Held>,
    /// Slots that hold no cached block.
    blank: u32,
}

/// Blocks of a node of the forest that a request traverses.
#[derive(Debug, Clone, Copy)]
struct Part {
    node: u32,
    start: u32,
    end: u32,
}

struct Replay<'a> {
    forest: &'a Forest,
    ids_per_block: u32,
    block_size: u32,
    caching: bool,
    lengths: Lengths<'a>,
    pool: RunPool,
    held: VecDeque<Lease>,
    spare: Vec<Lease>,
    path: Vec<Part>,
    found: Vec<Found>,
    outcome: ReplayOutcome,
}

/// Replays the requests of a forest with full attention; `usable` slots without the null block. The
/// caller has checked all columns.
#[allow(clippy::too_many_arguments)] // One call.
pub(in crate::engine::vllm) fn replay(
    forest: &Forest,
    (ids_per_block, block_size): (u32, u32),
    caching: bool,
    lengths: Lengths<'_>,
    usable: u32,
    concurrency: usize,
    clock: Option<Clock<'_>>,
    stop: &Stop,
) -> Result<ReplayOutcome> {
    let mut replay = Replay {
        forest,
        ids_per_block,
        block_size,
        caching,
        lengths,
        pool: RunPool::new(forest.nodes(), usable),
        held: VecDeque::new(),
        spare: Vec::new(),
        path: Vec::new(),
        found: Vec::new(),
        outcome: ReplayOutcome::default(),
    };
    for request in 0..forest.requests() {
        if request % STOP_INTERVAL == 0 {
            stop.check()?;
        }
        if let Some(clock) = clock {
            replay.pool.set_time(clock.timestamp[request]);
            if request == clock.measured_from {
                replay.pool.take_residency();
            }
        }
        replay.request(request, concurrency)?;
        if cfg!(debug_assertions) && forest.requests() < 1000 {
            replay.pool.validate()?;
        }
    }
    replay.outcome.residency = clock.map(|_| replay.pool.take_residency());
    replay.outcome.cached_end = replay.pool.distinct();
    Ok(replay.outcome)
}

impl Replay<'_> {
    fn request(&mut self, request: usize, concurrency: usize) -> Result<()> {
        while self.held.len() >= concurrency {
            self.release_oldest();
        }
        let prompt_len = self.lengths.prompt[request];
        let full = prompt_len / self.block_size;
        let before = self.pool.evictions();
        let mut lease = self.spare.pop().unwrap_or_default();
        if self.caching {
            self.find_path(self.forest.prompt_node()[request], full);
        }
        let (hits, missing) = self.admit(request, prompt_len, &mut lease)?;
        self.outcome.allocated += u64::from(missing);
        let mut blocks = hits + missing;
        if self.caching {
            self.cache(hits, &mut lease);
        }
        let mut cached = if self.caching { full } else { 0 };
        if let Some(appended) = self.lengths.output(request).checked_sub(1)
            && appended > 0
        {
            let tokens = u64::from(prompt_len) + u64::from(appended);
            blocks = self.decode(request, blocks, tokens)?;
            if self.caching {
                cached = to_u32(tokens / u64::from(self.block_size));
                self.find_path(self.forest.last_node()[request], cached);
                self.cache(full, &mut lease);
            }
        }
        lease.blank = blocks - cached;
        let used = self.pool.usable() - self.pool.free();
        self.outcome.peak_used = self.outcome.peak_used.max(used);
        let evictions = to_u32(self.pool.evictions() - before);
        self.outcome.evictions.push(evictions);
        self.outcome.hit_tokens.push(hits * self.block_size);
        self.held.push_back(lease);
        Ok(())
    }

    /// Finds the blocks of a prompt and takes what is missing; returns how many are of each.
    fn admit(&mut self, request: usize, prompt_len: u32, lease: &mut Lease) -> Result<(u32, u32)> {
        let limit = prompt_len.saturating_sub(1) / self.block_size;
        loop {
            self.found.clear();
            let mut hits = 0;
            if self.caching {
                for part in &self.path {
                    let end = part.end.min(limit);
                    if part.start >= end {
                        break;
                    }
                    hits = self.pool.find(part.node, part.start, end, &mut self.found);
                    if hits < end {
                        break;
                    }
                }
            }
            let missing = prompt_len.div_ceil(self.block_size) - hits;
            let needed = u64::from(missing) + u64::from(self.pool.idle(&self.found));
            if needed > u64::from(self.pool.free()) {
                self.make_room(request, u64::from(prompt_len))?;
                continue;
            }
            for &found in &self.found {
                lease.held.push(self.pool.adopt(found));
            }
            self.pool.take(missing);
            return Ok((hits, missing));
        }
    }

    /// Takes slots until there are enough for `tokens`; returns how many those are.
    fn decode(&mut self, request: usize, mut blocks: u32, tokens: u64) -> Result<u32> {
        let end = to_u32(tokens.div_ceil(u64::from(self.block_size)));
        while blocks < end {
            let free = self.pool.free();
            if free == 0 {
                let next = u64::from(blocks) * u64::from(self.block_size) + 1;
                self.make_room(request, next)?;
                continue;
            }
            let taken = free.min(end - blocks);
            self.pool.take(taken);
            self.outcome.allocated += u64::from(taken);
            blocks += taken;
        }
        Ok(blocks)
    }

    /// Caches the blocks of the path from block `first` on.
    fn cache(&mut self, first: u32, lease: &mut Lease) {
        for part in &self.path {
            let start = part.start.max(first);
            if start < part.end {
                lease.held.push(self.pool.cache(part.node, start, part.end));
            }
        }
    }

    /// Finds the nodes that have the first `count` blocks on the path to a node.
    fn find_path(&mut self, mut node: u32, count: u32) {
        self.path.clear();
        let (ends, parents) = (self.forest.end(), self.forest.parent());
        let mut end = (ends[node as usize] / self.ids_per_block).min(count);
        loop {
            let above = parents[node as usize];
            if above == node {
                break;
            }
            let start = ends[above as usize] / self.ids_per_block;
            if start < end {
                self.path.push(Part { node, start, end });
                end = start;
            }
            node = above;
        }
        self.path.reverse();
    }

    fn make_room(&mut self, request: usize, tokens: u64) -> Result<()> {
        if self.held.is_empty() {
            let usable = self.pool.usable();
            return Err(never_fits(request, tokens, usable, self.block_size));
        }
        self.release_oldest();
        Ok(())
    }

    fn release_oldest(&mut self) {
        if let Some(mut lease) = self.held.pop_front() {
            for held in lease.held.drain(..).rev() {
                self.pool.release(held);
            }
            self.pool.release_blank(lease.blank);
            self.spare.push(lease);
        }
    }
}
