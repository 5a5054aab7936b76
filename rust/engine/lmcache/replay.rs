//! A whole trace through LMCache.

use super::{InProcess, InProcessConfig, Served, Server, ServerConfig, Tier};
use crate::engine::vllm::Workload;
use crate::error::Result;
use crate::stop::Stop;

/// Which LMCache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LmcacheConfig {
    /// Inside the process of an engine.
    InProcess(InProcessConfig),
    /// The first level of the server.
    Server(ServerConfig),
}

/// Why a chunk of a prompt was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Cause {
    /// It was never stored.
    #[default]
    NotStored = 0,
    /// There was no room for it.
    Refused = 1,
    /// It is there, behind one that is not.
    Stranded = 2,
    /// Host memory had it last.
    Cpu = 3,
    /// The disk had it last.
    Disk = 4,
}

/// Stretches of prompts behind what was found, in chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stretches {
    /// The request.
    pub request: Vec<u32>,
    /// Its first chunk in the prompt.
    pub first: Vec<u32>,
    /// One after the last.
    pub end: Vec<u32>,
    /// [`Cause`].
    pub cause: Vec<u8>,
}

impl Stretches {
    /// Appends the causes of a request's chunks from `first` on.
    fn push(&mut self, request: u32, first: u32, causes: &[Cause]) {
        for (chunk, &cause) in (first..).zip(causes) {
            let goes_on = chunk > first && self.cause.last() == Some(&(cause as u8));
            if goes_on && let Some(end) = self.end.last_mut() {
                *end = chunk + 1;
                continue;
            }
            self.request.push(request);
            self.first.push(chunk);
            self.end.push(chunk + 1);
            self.cause.push(cause as u8);
        }
    }
}

/// What a replay records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LmcacheLog {
    /// Leading chunks of each request found in host memory.
    pub cpu_hits: Vec<u32>,
    /// Chunks after these found on disk.
    pub disk_hits: Vec<u32>,
    /// Chunks for which room in host memory was made.
    pub stored: Vec<u32>,
    /// Whether the store was refused.
    pub refused: Vec<bool>,
    /// What was behind the hits.
    pub lost: Stretches,
    /// Chunks that left host memory, in order.
    pub cpu_evicted: Vec<u32>,
    /// The request that was served then, of each; evictions between two requests are those of the second.
    pub cpu_evicted_at: Vec<u32>,
    /// Chunks that left the disk.
    pub disk_evicted: Vec<u32>,
    /// The request of each.
    pub disk_evicted_at: Vec<u32>,
    /// Chunks at the end: of host memory and of the disk, or of the server's lists T1, T2, B1 and B2.
    pub end: Vec<Vec<u32>>,
    /// With LFU: how many chunks of host memory were used how often.
    pub frequencies: Vec<(u64, u64)>,
    /// With ARC: chunks that the first list should have.
    pub target: f64,
    /// With ARC: most chunks there ever were.
    pub most_chunks: u64,
}

impl LmcacheLog {
    fn served(&mut self, request: u32, served: Served, causes: &[Cause]) {
        let found = served.cpu_hits + served.disk_hits;
        self.lost.push(request, found, &causes[found as usize..]);
        self.cpu_hits.push(served.cpu_hits);
        self.disk_hits.push(served.disk_hits);
        self.stored.push(served.stored);
        self.refused.push(served.refused);
    }

    fn evicted(&mut self, tier: Tier, key: u32, request: u32) {
        let (keys, at) = match tier {
            Tier::Cpu => (&mut self.cpu_evicted, &mut self.cpu_evicted_at),
            Tier::Disk => (&mut self.disk_evicted, &mut self.disk_evicted_at),
        };
        keys.push(key);
        at.push(request);
    }
}

/// Requests between two looks at the stop flag.
const STOP_INTERVAL: u32 = 1024;

/// Serves the prompts of a workload one after the other; its blocks are the chunks. With `validate`
/// every invariant is checked after every request.
///
/// # Errors
/// [`Error::Range`](crate::Error::Range) if the configuration is not usable;
/// [`Error::Interrupted`](crate::Error::Interrupted).
pub fn replay(
    workload: &Workload,
    config: LmcacheConfig,
    validate: bool,
    stop: &Stop,
) -> Result<LmcacheLog> {
    let mut log = LmcacheLog::default();
    let mut last = vec![Cause::NotStored; workload.num_keys() as usize];
    let mut causes = Vec::new();
    match config {
        LmcacheConfig::InProcess(config) => {
            let mut cache = InProcess::new(config);
            for request in workload.requests().indices() {
                if request.is_multiple_of(STOP_INTERVAL) {
                    stop.check()?;
                }
                let keys = chunks(workload, request);
                look(keys, &last, |key| cache.contains(key), &mut causes);
                let mut evicted = |tier, key: u32| {
                    last[key as usize] = match tier {
                        Tier::Cpu => Cause::Cpu,
                        Tier::Disk => Cause::Disk,
                    };
                    log.evicted(tier, key, request);
                };
                let served = cache.serve(keys, &mut evicted);
                let end = (served.cpu_hits + served.disk_hits + served.stored) as usize;
                for &key in &keys[end..] {
                    last[key as usize] = Cause::Refused;
                }
                log.served(request, served, &causes);
                if validate {
                    cache.validate()?;
                }
            }
            log.end = vec![
                cache.cpu().keys(),
                cache
                    .disk()
                    .map(super::ChunkStore::keys)
                    .unwrap_or_default(),
            ];
            log.frequencies = cache.cpu().frequencies();
        }
        LmcacheConfig::Server(config) => {
            let mut server = Server::new(config)?;
            for request in workload.requests().indices() {
                if request.is_multiple_of(STOP_INTERVAL) {
                    stop.check()?;
                }
                let keys = chunks(workload, request);
                let mut evicted = |key: u32| {
                    last[key as usize] = Cause::Cpu;
                    log.evicted(Tier::Cpu, key, request);
                };
                server.wait(workload.requests().arrival_ns(request), &mut evicted);
                look(keys, &last, |key| server.contains(key), &mut causes);
                let done = server.serve(keys);
                if done.refused {
                    for &key in &keys[done.cpu_hits as usize..] {
                        last[key as usize] = Cause::Refused;
                    }
                }
                log.served(request, done, &causes);
                if validate {
                    server.validate()?;
                }
            }
            log.end = server.lists().into();
            log.target = server.target();
            log.most_chunks = server.most_chunks() as u64;
        }
    }
    Ok(log)
}

/// Sets `causes` to why each chunk is not there, were it not found.
fn look(keys: &[u32], last: &[Cause], there: impl Fn(&u32) -> bool, causes: &mut Vec<Cause>) {
    causes.clear();
    causes.extend(keys.iter().map(|key| {
        if there(key) {
            Cause::Stranded
        } else {
            last[*key as usize]
        }
    }));
}

/// The full chunks of a prompt.
fn chunks(workload: &Workload, request: u32) -> &[u32] {
    let full = workload.requests().prompt_len(request) / workload.block_size();
    &workload.keys(request)[..full as usize]
}
