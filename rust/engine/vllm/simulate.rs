//! A workload served to its end.

use super::groups::{EagleHits, GroupedCache, GroupsConfig, Layout};
use super::{
    DenseIndex, Manager, ManagerConfig, Recording, Room, SchedulerConfig, Server, Workload,
};
use crate::error::{Error, Result};
use crate::serving::{Arrivals, InstanceLog, KvCache, Latency, RequestLog, serve};
use crate::stop::Stop;

/// The KV cache of a simulated server.
#[derive(Debug, Clone, PartialEq)]
pub enum CacheConfig {
    /// One group of layers.
    One(ManagerConfig),
    /// Several groups, or one with a drafter that changes what is found.
    Groups(GroupsConfig),
}

impl CacheConfig {
    /// Tokens between two keys of the workload.
    fn key_tokens(&self) -> Result<u32> {
        Ok(match self {
            Self::One(manager) => manager.block_size,
            Self::Groups(groups) => Layout::new(groups)?.hash_unit,
        })
    }

    fn max_model_len(&self) -> u32 {
        match self {
            Self::One(manager) => manager.max_model_len,
            Self::Groups(groups) => groups.max_model_len,
        }
    }

    /// Whether slots hold every block of a request as long as it runs.
    fn keeps_all(&self) -> bool {
        match self {
            Self::One(manager) => manager.sliding_window.is_none(),
            Self::Groups(_) => false,
        }
    }
}

/// Everything that decides a simulation, besides the workload.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulationConfig {
    /// Slots, the null block included.
    pub num_blocks: u32,
    /// The KV cache.
    pub cache: CacheConfig,
    /// The scheduler.
    pub scheduler: SchedulerConfig,
    /// Arrivals.
    pub arrivals: Arrivals,
    /// What steps cost.
    pub latency: Latency,
    /// What to keep.
    pub recording: Recording,
}

/// What a simulation gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Simulation {
    /// One row per request.
    pub requests: RequestLog,
    /// What the server did.
    pub server: InstanceLog,
}

/// Runs the workload to its end.
///
/// # Errors
/// [`Error::Range`] if the configuration is not usable, or the clock overflows; [`Error::NeverFits`]
/// if a request can never be served; [`Error::Memory`]; [`Error::Interrupted`].
pub fn simulate(workload: &Workload, config: &SimulationConfig, stop: &Stop) -> Result<Simulation> {
    config.check(workload)?;
    let slots = config.num_blocks;
    match &config.cache {
        CacheConfig::One(manager) => {
            let index = DenseIndex::new(workload.num_keys() as usize);
            let mut manager = Manager::new(slots, manager.clone(), index)?;
            if config.recording.events {
                manager.record_events();
            }
            run(workload, config, manager, stop)
        }
        CacheConfig::Groups(groups) => {
            let mut cache = GroupedCache::new(slots, groups.clone(), workload.num_keys())?;
            if config.recording.events {
                cache.record_events();
            }
            run(workload, config, cache, stop)
        }
    }
}

fn run<C: KvCache<Key = u32>>(
    workload: &Workload,
    config: &SimulationConfig,
    cache: C,
    stop: &Stop,
) -> Result<Simulation> {
    let scheduler = config.scheduler.clone();
    let mut server = Server::new(workload, scheduler, cache, config.latency, config.recording)?;
    let mut log = RequestLog::new(workload.requests().len());
    serve(
        &mut server,
        workload.requests(),
        &config.arrivals,
        &mut log,
        stop,
    )?;
    let (mut instance, _) = server.finish();
    if config.arrivals == Arrivals::Sequential {
        instance.totals.steps = 0;
    }
    Ok(Simulation {
        requests: log,
        server: instance,
    })
}

impl SimulationConfig {
    /// Checks that a workload was compiled for it, and that every request can be served.
    ///
    /// # Errors
    /// [`Error::Range`] if the configuration is not usable or not the workload's;
    /// [`Error::NeverFits`] if a request can never be served.
    pub fn check(&self, workload: &Workload) -> Result<()> {
        self.latency.validate()?;
        if let CacheConfig::One(manager) = &self.cache {
            manager.validate()?;
        }
        let key_tokens = self.cache.key_tokens()?;
        if key_tokens != workload.block_size() {
            return Err(Error::range(format!(
                "the workload was compiled for blocks of {} tokens, not {key_tokens}",
                workload.block_size(),
            )));
        }
        let lookahead = match &self.cache {
            CacheConfig::Groups(groups) => groups.eagle_hits == EagleHits::Lookahead,
            CacheConfig::One(_) => false,
        };
        if lookahead != workload.lookahead() {
            return Err(Error::range(
                "hashes that cover the next token need a workload that was compiled for them, and only they",
            ));
        }
        self.arrivals.validate()?;
        if self.arrivals == Arrivals::Sequential {
            let scheduler = &self.scheduler;
            let has_steps = scheduler.async_scheduling || scheduler.drafts.is_some();
            if has_steps || matches!(self.cache, CacheConfig::Groups(_)) {
                return Err(Error::range(
                    "sequential arrivals have no steps: leave out groups, drafts and asynchronous scheduling",
                ));
            }
        }
        let max_model_len = self.cache.max_model_len();
        if workload.max_model_len() < max_model_len {
            return Err(Error::range(format!(
                "the workload was compiled for max_model_len {}, not {max_model_len}",
                workload.max_model_len(),
            )));
        }
        let room = Room {
            // A window gives blocks back as it moves on.
            num_blocks: self.cache.keeps_all().then_some(self.num_blocks),
            max_model_len,
        };
        room.check(workload.requests(), key_tokens)
    }
}
