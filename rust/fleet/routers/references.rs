//! Rules with perfect knowledge, to measure others against.

use crate::fleet::router::{Arrival, Decision, Router, Setting, View};
use crate::index::{Ix, RequestIx};

/// Always the replica with the largest hit; ties: fewer requests in flight, then the lower number.
///
/// No upper bound: where all prompts share a first block, one replica gets everything.
#[derive(Debug, Default)]
pub struct Greedy {
    hits: Vec<u32>,
}

impl Router for Greedy {
    fn route(&mut self, _: &Arrival, view: &View<'_>) -> Decision {
        self.hits.clear();
        self.hits.extend_from_slice(view.hits);
        let key = |replica: usize| (u32::MAX - view.hits[replica], view.loads[replica], replica);
        Decision::one(view.available.least_by(key).lowest())
    }

    fn believed(&self, replica: usize) -> Option<u32> {
        Some(self.hits[replica])
    }
}

/// The replica with the fewest uncached prompt tokens of requests in flight, this one's among them;
/// ties: the longer hit, fewer requests in flight, the lower number.
#[derive(Debug)]
pub struct WorkOracle {
    work: Vec<u64>,
    uncached: Vec<u32>,
    hits: Vec<u32>,
}

impl WorkOracle {
    /// Nothing is in flight.
    #[must_use]
    pub fn new(setting: &Setting<'_>) -> Self {
        Self {
            work: vec![0; setting.replicas],
            uncached: vec![0; setting.traffic.requests()],
            hits: Vec::new(),
        }
    }
}

impl Router for WorkOracle {
    fn route(&mut self, arrival: &Arrival, view: &View<'_>) -> Decision {
        self.hits.clear();
        self.hits.extend_from_slice(view.hits);
        let key = |replica: usize| {
            let hit = view.hits[replica];
            let work = self.work[replica] + u64::from(arrival.prompt_tokens - hit);
            (work, u32::MAX - hit, view.loads[replica], replica)
        };
        Decision::one(view.available.least_by(key).lowest())
    }

    fn believed(&self, replica: usize) -> Option<u32> {
        Some(self.hits[replica])
    }

    fn booked(&mut self, arrival: &Arrival, view: &View<'_>, replica: usize) {
        let uncached = arrival.prompt_tokens - view.hits[replica];
        self.uncached[arrival.request.usize()] = uncached;
        self.work[replica] += u64::from(uncached);
    }

    fn finished(&mut self, request: RequestIx, replica: usize) {
        self.work[replica] -= u64::from(self.uncached[request.usize()]);
    }
}
