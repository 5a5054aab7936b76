//! Rules that know neither prompts nor caches.

use crate::fleet::replicas::{Draw, Replicas};
use crate::fleet::router::{Arrival, Decision, Router, Setting, View};

/// One after the other: a counter modulo the replicas.
#[derive(Debug)]
pub struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// Begins with the first replica.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: 0 }
    }
}

impl Default for RoundRobin {
    fn default() -> Self {
        Self::new()
    }
}

impl Router for RoundRobin {
    fn route(&mut self, _: &Arrival, view: &View<'_>) -> Decision {
        let replica = view.available.nth(self.next % view.available.len());
        Decision::one(replica)
    }

    fn booked(&mut self, _: &Arrival, _: &View<'_>, _: usize) {
        self.next += 1;
    }
}

/// Any replica, each as likely as the others.
#[derive(Debug, Default)]
pub struct Random;

impl Router for Random {
    fn route(&mut self, _: &Arrival, view: &View<'_>) -> Decision {
        Decision::among(view.available)
    }
}

/// The first replica with the fewest requests in flight.
#[derive(Debug, Default)]
pub struct LeastLoaded;

/// The replicas with the fewest requests in flight.
pub(super) fn least_loaded(of: Replicas, view: &View<'_>) -> Replicas {
    of.least_by(|replica| view.loads[replica])
}

impl Router for LeastLoaded {
    fn route(&mut self, _: &Arrival, view: &View<'_>) -> Decision {
        Decision::one(least_loaded(view.available, view).lowest())
    }
}

/// Of two different replicas drawn at random the one with fewer requests in flight; the first drawn
/// if they have equally many. As in sglang-router 0.3.2 (`power_of_two`).
#[derive(Debug)]
pub struct PowerOfTwo {
    draw: Draw,
}

impl PowerOfTwo {
    /// Draws from the seed.
    #[must_use]
    pub fn new(setting: &Setting<'_>) -> Self {
        Self {
            draw: Draw::new(setting.seed),
        }
    }
}

impl Router for PowerOfTwo {
    fn route(&mut self, _: &Arrival, view: &View<'_>) -> Decision {
        let first = self.draw.one_of(view.available);
        let others = view.available.without(Replicas::one(first));
        if others.is_empty() {
            return Decision::one(first);
        }
        let second = self.draw.one_of(others);
        Decision::one(if view.loads[second] < view.loads[first] {
            second
        } else {
            first
        })
    }
}
