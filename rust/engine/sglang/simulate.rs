//! A whole trace through one server, or through its cache alone.

use super::cache::{CacheConfig, RadixCache};
use super::record::{Simulation, TreeRow};
use super::scheduler::SchedulerConfig;
use super::server::{Recording, Server};
use super::trie::NodeId;
use super::unscheduled::{self, Overlap};
use super::workload::Workload;
use crate::error::Result;
use crate::serving::{Arrivals, Latency, RequestLog, serve};
use crate::stop::Stop;

/// Who decides when requests run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drive {
    /// The scheduler, step by step.
    Scheduled(Arrivals),
    /// Nobody: requests go through the cache without steps or time.
    Unscheduled {
        /// How they overlap.
        overlap: Overlap,
        /// Whether outputs are computed and cached, too.
        with_output: bool,
    },
}

/// Everything that decides a simulation, besides the workload.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulationConfig {
    /// The cache.
    pub cache: CacheConfig,
    /// The scheduler.
    pub scheduler: SchedulerConfig,
    /// Who decides when requests run.
    pub drive: Drive,
    /// What steps cost.
    pub latency: Latency,
    /// What to keep.
    pub recording: Recording,
}

/// Runs the workload to its end.
///
/// # Errors
/// [`Error::Range`](crate::Error::Range) if the configuration is not usable,
/// [`Error::NeverFits`](crate::Error::NeverFits) if a request can never be served,
/// [`Error::Interrupted`](crate::Error::Interrupted).
pub fn simulate(workload: &Workload, config: &SimulationConfig, stop: &Stop) -> Result<Simulation> {
    let mut cache = RadixCache::new(&config.cache, workload)?;
    let mut log = RequestLog::new(workload.len());
    let recording = config.recording;
    let (mut simulation, mut cache) = match &config.drive {
        Drive::Unscheduled {
            overlap,
            with_output,
        } => {
            if recording.evictions {
                cache.record_evictions();
            }
            unscheduled::run(&mut cache, workload, *overlap, *with_output, &mut log, stop)?;
            (Simulation::default(), cache)
        }
        Drive::Scheduled(arrivals) => {
            let scheduler = config.scheduler.clone();
            let mut server = Server::new(workload, scheduler, cache, config.latency, recording)?;
            serve(&mut server, workload.requests(), arrivals, &mut log, stop)?;
            server.finish()
        }
    };
    simulation.requests = log;
    simulation.evictions = cache.take_log();
    simulation.totals.evicted = cache.evicted();
    simulation.totals.free_end = cache.free();
    simulation.totals.evictable_end = cache.tree().evictable();
    if recording.tree {
        simulation.tree = tree_rows(&cache);
    }
    Ok(simulation)
}

/// The nodes of the tree, parents before children.
fn tree_rows(cache: &RadixCache<&Workload>) -> Vec<TreeRow> {
    let mut nodes: Vec<_> = cache.tree().nodes().collect();
    nodes.sort_by_key(|(id, node)| (node.start, *id));
    let mut rows = vec![None; cache.tree().trie().numbers()];
    let mut tree = Vec::with_capacity(nodes.len());
    for (row, (id, node)) in (0..).zip(nodes) {
        rows[id.index()] = Some(row);
        let parent = if node.parent == NodeId::ROOT {
            None
        } else {
            rows[node.parent.index()]
        };
        tree.push((parent, node.len()));
    }
    tree
}
