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
    fn served(&mut self, served: Served) {
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
    match config {
        LmcacheConfig::InProcess(config) => {
            let mut cache = InProcess::new(config);
            for request in workload.requests().indices() {
                if request.is_multiple_of(STOP_INTERVAL) {
                    stop.check()?;
                }
                let mut evicted = |tier, key| log.evicted(tier, key, request);
                let served = cache.serve(chunks(workload, request), &mut evicted);
                log.served(served);
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
                let mut evicted = |key| log.evicted(Tier::Cpu, key, request);
                server.wait(workload.requests().arrival_ns(request), &mut evicted);
                let served = server.serve(chunks(workload, request));
                log.served(served);
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

/// The full chunks of a prompt.
fn chunks(workload: &Workload, request: u32) -> &[u32] {
    let full = workload.requests().prompt_len(request) / workload.block_size();
    &workload.keys(request)[..full as usize]
}
