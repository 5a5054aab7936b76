//! A workload served to its end.

use super::{
    DenseIndex, Manager, ManagerConfig, Recording, Room, SchedulerConfig, Server, Workload,
};
use crate::error::{Error, Result};
use crate::serving::{Arrivals, InstanceLog, Latency, RequestLog, serve};
use crate::stop::Stop;

/// Everything that decides a simulation, besides the workload.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulationConfig {
    /// Slots, the null block included.
    pub num_blocks: u32,
    /// The KV-cache manager.
    pub manager: ManagerConfig,
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
/// if a request can never be served; [`Error::Interrupted`].
pub fn simulate(workload: &Workload, config: &SimulationConfig, stop: &Stop) -> Result<Simulation> {
    check(workload, config)?;
    let index = DenseIndex::new(workload.num_keys() as usize);
    let mut manager = Manager::new(config.num_blocks, config.manager.clone(), index)?;
    if config.recording.events {
        manager.record_events();
    }
    let scheduler = config.scheduler.clone();
    let mut server = Server::new(
        workload,
        scheduler,
        manager,
        config.latency,
        config.recording,
    )?;
    let mut log = RequestLog::new(workload.requests().len());
    serve(
        &mut server,
        workload.requests(),
        config.arrivals,
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

fn check(workload: &Workload, config: &SimulationConfig) -> Result<()> {
    config.latency.validate()?;
    let manager = &config.manager;
    manager.validate()?;
    if manager.block_size != workload.block_size() {
        return Err(Error::range(format!(
            "the workload was compiled for blocks of {} tokens, not {}",
            workload.block_size(),
            manager.block_size
        )));
    }
    config.arrivals.validate()?;
    if workload.max_model_len() < manager.max_model_len {
        return Err(Error::range(format!(
            "the workload was compiled for max_model_len {}, not {}",
            workload.max_model_len(),
            manager.max_model_len
        )));
    }
    let room = Room {
        // A window gives blocks back as it moves on.
        num_blocks: manager
            .sliding_window
            .is_none()
            .then_some(config.num_blocks),
        max_model_len: manager.max_model_len,
    };
    room.check(workload.requests(), manager.block_size)
}
