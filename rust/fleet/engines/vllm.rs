//! vLLM servers as replicas, known by their KV events.

use std::collections::VecDeque;

use super::Replica;
use crate::engine::vllm::{CacheConfig, DenseIndex, Manager, Server, SimulationConfig, Workload};
use crate::error::{Error, Result};
use crate::serving::{CacheEvent, Instance};

/// A block that a cache has from now on, or one copy of which it has no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockChange {
    /// The block's number in the workload.
    pub key: u32,
    /// Whether it was stored.
    pub stored: bool,
}

/// The blocks that a cache holds, as its events tell: now, and as far as they have arrived.
#[derive(Debug)]
pub struct BlockEvents {
    /// Copies of each block.
    copies: Vec<u16>,
    /// The same as far as events have arrived; empty if they arrive at once.
    told: Vec<u16>,
    /// Events on their way, and when they arrive.
    pending: VecDeque<(u64, BlockChange)>,
    delay: u64,
}

impl BlockEvents {
    /// None of `blocks` blocks is cached. Events arrive `delay` nanoseconds late.
    #[must_use]
    pub fn new(blocks: usize, delay: u64) -> Self {
        Self {
            copies: vec![0; blocks],
            told: vec![0; if delay > 0 { blocks } else { 0 }],
            pending: VecDeque::new(),
            delay,
        }
    }

    /// Takes note of a change at a time.
    pub fn push(&mut self, now: u64, change: BlockChange) {
        apply(&mut self.copies, change);
        if self.delay > 0 {
            let arrival = now.saturating_add(self.delay);
            self.pending.push_back((arrival, change));
        }
    }

    /// Lets events arrive that do so by `now`.
    pub fn arrive(&mut self, now: u64) {
        while let Some(&(arrival, change)) = self.pending.front()
            && arrival <= now
        {
            self.pending.pop_front();
            apply(&mut self.told, change);
        }
    }

    /// Leading blocks of `keys` that are cached.
    #[must_use]
    pub fn cached(&self, keys: &[u32]) -> usize {
        run(&self.copies, keys)
    }

    /// The same, as far as events have arrived.
    #[must_use]
    pub fn told(&self, keys: &[u32]) -> usize {
        if self.delay == 0 {
            return self.cached(keys);
        }
        run(&self.told, keys)
    }
}

fn run(copies: &[u16], keys: &[u32]) -> usize {
    let held = |&&key: &&u32| copies[key as usize] > 0;
    keys.iter().take_while(held).count()
}

fn apply(copies: &mut [u16], change: BlockChange) {
    let copies = &mut copies[change.key as usize];
    *copies = if change.stored {
        copies.saturating_add(1)
    } else {
        copies.saturating_sub(1)
    };
}

/// A vLLM server.
#[derive(Debug)]
pub struct VllmReplica<'w> {
    workload: &'w Workload,
    server: Server<'w, Manager<DenseIndex>>,
    events: BlockEvents,
}

impl<'w> VllmReplica<'w> {
    /// An idle server whose events arrive `delay` nanoseconds after the end of the step that made them.
    ///
    /// # Errors
    /// [`Error::Range`] if the configuration is not usable, or keeps several groups of layers;
    /// [`Error::NeverFits`] if a request can never be served.
    pub fn new(workload: &'w Workload, config: &SimulationConfig, delay: u64) -> Result<Self> {
        config.check(workload)?;
        let CacheConfig::One(manager) = &config.cache else {
            return Err(Error::range(
                "a replica of a fleet keeps one group of layers: leave out what makes several",
            ));
        };
        let blocks = workload.num_keys() as usize;
        let index = DenseIndex::new(blocks);
        let mut manager = Manager::new(config.num_blocks, manager.clone(), index)?;
        manager.record_events();
        let scheduler = config.scheduler.clone();
        let (latency, recording) = (config.latency, config.recording);
        Ok(Self {
            workload,
            server: Server::new(workload, scheduler, manager, latency, recording)?,
            events: BlockEvents::new(blocks, delay),
        })
    }

    /// Ends the server: what it did.
    #[must_use]
    pub fn finish(self) -> crate::serving::InstanceLog {
        self.server.finish().0
    }

    fn keys(&self, request: u32) -> &'w [u32] {
        let keys = self.workload.keys(request);
        let prompt = self.workload.requests().prompt_len(request) / self.workload.block_size();
        &keys[..keys.len().min(prompt as usize)]
    }

    fn tokens(&self, blocks: usize) -> u32 {
        u32::try_from(blocks).map_or(u32::MAX, |n| n.saturating_mul(self.workload.block_size()))
    }
}

impl<'w> Replica for VllmReplica<'w> {
    type Server = Server<'w, Manager<DenseIndex>>;

    fn server(&self) -> &Self::Server {
        &self.server
    }

    fn server_mut(&mut self) -> &mut Self::Server {
        &mut self.server
    }

    fn observe(&mut self) {
        let now = self.server.now();
        for event in self.server.take_cache_events() {
            match event {
                CacheEvent::Stored { keys, .. } => {
                    for key in keys {
                        self.events.push(now, BlockChange { key, stored: true });
                    }
                }
                CacheEvent::Removed { key, .. } => {
                    self.events.push(now, BlockChange { key, stored: false });
                }
                CacheEvent::Cleared => {}
            }
        }
    }

    fn cached(&self, request: u32) -> u32 {
        self.tokens(self.events.cached(self.keys(request)))
    }

    fn told(&mut self, request: u32, now: u64) -> u32 {
        self.events.arrive(now);
        self.tokens(self.events.told(self.keys(request)))
    }
}
