//! vLLM servers with several groups of layers as replicas, whose caches are looked into.

use super::Replica;
use crate::engine::vllm::groups::GroupedCache;
use crate::engine::vllm::{CacheConfig, Server, SimulationConfig, Workload};
use crate::error::{Error, Result};

/// A vLLM server that keeps several groups of layers. It is known as it is: what its groups agree on is no
/// sum of events, so late events of it are not modelled.
#[derive(Debug)]
pub struct GroupedReplica<'w> {
    workload: &'w Workload,
    server: Server<'w, GroupedCache>,
}

impl<'w> GroupedReplica<'w> {
    /// An idle server.
    ///
    /// # Errors
    /// [`Error::Range`] if the configuration is not usable or keeps one group, or `delay` (nanoseconds) is
    /// not 0; [`Error::NeverFits`] if a request can never be served.
    pub fn new(workload: &'w Workload, config: &SimulationConfig, delay: u64) -> Result<Self> {
        if delay > 0 {
            return Err(Error::range(
                "a server with several groups of layers tells of its cache at once: leave the event delay out",
            ));
        }
        config.check(workload)?;
        let CacheConfig::Groups(groups) = &config.cache else {
            return Err(Error::range("one group of layers is no grouped cache"));
        };
        let cache = GroupedCache::new(config.num_blocks, groups.clone(), workload.num_keys())?;
        let scheduler = config.scheduler.clone();
        let (latency, recording) = (config.latency, config.recording);
        Ok(Self {
            workload,
            server: Server::new(workload, scheduler, cache, latency, recording)?,
        })
    }
}

impl<'w> Replica for GroupedReplica<'w> {
    type Server = Server<'w, GroupedCache>;

    fn server(&self) -> &Self::Server {
        &self.server
    }

    fn server_mut(&mut self) -> &mut Self::Server {
        &mut self.server
    }

    fn cached(&self, request: u32) -> u32 {
        let prompt = self.workload.requests().prompt_len(request);
        let keys = self.workload.keys(request);
        self.server.scheduler().cache().peek(keys, prompt)
    }

    fn told(&mut self, request: u32, _: u64) -> u32 {
        self.cached(request)
    }
}
