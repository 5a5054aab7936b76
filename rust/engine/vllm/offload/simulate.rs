//! A workload served to its end by a server that offloads.

use super::connector::OffloadConfig;
use super::log::OffloadLog;
use super::server::OffloadServer;
use crate::engine::vllm::{
    CacheConfig, DenseIndex, Manager, Simulation, SimulationConfig, Workload,
};
use crate::error::{Error, Result};
use crate::serving::{Arrivals, RequestLog, serve};
use crate::stop::Stop;

/// Runs the workload to its end with a connector to host memory.
///
/// # Errors
/// As [`simulate`](crate::engine::vllm::simulate()); [`Error::Range`] also if the server has options
/// that do not go with offloading.
pub fn simulate_offload(
    workload: &Workload,
    config: &SimulationConfig,
    offload: &OffloadConfig,
    stop: &Stop,
) -> Result<(Simulation, OffloadLog)> {
    config.check(workload)?;
    if config.arrivals == Arrivals::Sequential {
        return Err(Error::range(
            "offloading needs steps and time: sequential arrivals have none",
        ));
    }
    let CacheConfig::One(manager) = &config.cache else {
        return Err(Error::range(
            "offloading is simulated with one group of layers, not with several",
        ));
    };
    let index = DenseIndex::new(workload.num_keys() as usize);
    let mut manager = Manager::new(config.num_blocks, manager.clone(), index)?;
    if config.recording.events {
        manager.record_events();
    }
    let mut server = OffloadServer::new(
        workload,
        config.scheduler.clone(),
        manager,
        offload.clone(),
        config.latency,
        config.recording,
    )?;
    let mut log = RequestLog::new(workload.requests().len());
    serve(
        &mut server,
        workload.requests(),
        &config.arrivals,
        &mut log,
        stop,
    )?;
    let (instance, offloaded) = server.finish();
    let simulation = Simulation {
        requests: log,
        server: instance,
    };
    Ok((simulation, offloaded))
}
