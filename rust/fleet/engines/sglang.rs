//! SGLang servers as replicas, whose trees are looked into.

use super::Replica;
use crate::engine::sglang::{RadixCache, Server, SimulationConfig, Workload};
use crate::error::{Error, Result};

/// An SGLang server. It is known as it is: late events of it are not modelled.
#[derive(Debug)]
pub struct SglangReplica<'w> {
    workload: &'w Workload,
    server: Server<'w>,
}

impl<'w> SglangReplica<'w> {
    /// An idle server.
    ///
    /// # Errors
    /// [`Error::Range`] if the configuration is not usable, or `delay` (nanoseconds) is not 0.
    pub fn new(workload: &'w Workload, config: &SimulationConfig, delay: u64) -> Result<Self> {
        if delay > 0 {
            return Err(Error::range(
                "the sglang engine tells of its cache at once: leave the event delay out, or use vllm",
            ));
        }
        let cache = RadixCache::new(&config.cache, workload)?;
        let scheduler = config.scheduler.clone();
        let (latency, recording) = (config.latency, config.recording);
        Ok(Self {
            workload,
            server: Server::new(workload, scheduler, cache, latency, recording)?,
        })
    }

    /// Ends the server; returns the tokens it evicted.
    #[must_use]
    pub fn finish(self) -> u64 {
        self.server.finish().1.evicted().tokens
    }
}

impl<'w> Replica for SglangReplica<'w> {
    type Server = Server<'w>;

    fn server(&self) -> &Self::Server {
        &self.server
    }

    fn server_mut(&mut self) -> &mut Self::Server {
        &mut self.server
    }

    fn cached(&self, request: u32) -> u32 {
        self.server.peek(request, self.workload.prompt_len(request))
    }

    fn told(&mut self, request: u32, _: u64) -> u32 {
        self.cached(request)
    }
}
