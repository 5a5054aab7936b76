//! What decides a routing besides requests and router.

use super::replicas::{MOST_REPLICAS, Replicas};
use super::router::Setting;
use super::traffic::Traffic;
use crate::error::{Error, Result};

/// Which of several replicas that a rule takes with equal right is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ties {
    /// The one with the lowest number.
    Lowest,
    /// One drawn from the seed.
    Random,
    /// What was recorded, one per request.
    Recorded(Vec<u8>),
}

/// A change of the number of replicas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Seconds of the trace.
    pub time: f64,
    /// Replicas that are added, or taken away if negative: the last ones first.
    pub replicas: i32,
}

/// What to keep for those who check a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// Keep [`Seen`](super::Seen).
    pub seen: bool,
    /// Numbers of requests after which the router's index is kept.
    pub index_after: Vec<u32>,
    /// Check every invariant after every request (slow).
    pub validate: bool,
}

/// Everything that decides a routing, besides the traffic and the router.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// Replicas at the start.
    pub replicas: usize,
    /// Blocks of each replica's cache; [`None`]: no limit.
    pub capacity: Option<u64>,
    /// Tokens of a block.
    pub block_size: u32,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// What decides between equals.
    pub ties: Ties,
    /// Requests by which events of the caches reach the router late.
    pub event_delay: u32,
    /// Changes of the number of replicas, in order of time.
    pub scaling: Vec<Scaling>,
    /// What to keep.
    pub recording: Recording,
}

impl Fleet {
    /// Replicas of `capacity` blocks, with ties drawn from seed 0.
    #[must_use]
    pub const fn new(replicas: usize, capacity: Option<u64>, block_size: u32) -> Self {
        Self {
            replicas,
            capacity,
            block_size,
            seed: 0,
            ties: Ties::Random,
            event_delay: 0,
            scaling: Vec::new(),
            recording: Recording {
                seen: false,
                index_after: Vec::new(),
                validate: false,
            },
        }
    }

    /// Replicas that there are at some time: those at the start, and each one that is added has a number
    /// of its own.
    ///
    /// # Errors
    /// [`Error::Range`] if there is a moment without replicas, or more than [`MOST_REPLICAS`] have a
    /// number; if changes are not in order of time.
    pub fn all_replicas(&self) -> Result<usize> {
        let mut count = i64::try_from(self.replicas).unwrap_or(i64::MAX);
        let mut all = count;
        let mut last = f64::NEG_INFINITY;
        for change in &self.scaling {
            count = count.saturating_add(i64::from(change.replicas));
            all = all.saturating_add(i64::from(change.replicas.max(0)));
            if count < 1 {
                return Err(Error::range(format!(
                    "no replica is left at {} s, keep at least 1",
                    change.time
                )));
            }
            if change.time < last {
                return Err(Error::range(
                    "changes of the replicas are not in order of time",
                ));
            }
            last = change.time;
        }
        match usize::try_from(all) {
            Ok(all) if (1..=MOST_REPLICAS).contains(&all) => Ok(all),
            _ => Err(Error::range(format!(
                "{all} replicas, give 1 to {MOST_REPLICAS}"
            ))),
        }
    }

    /// What a router of this fleet is made from.
    ///
    /// # Errors
    /// As [`Fleet::all_replicas`].
    pub fn setting<'t>(&self, traffic: &'t Traffic) -> Result<Setting<'t>> {
        Ok(Setting {
            traffic,
            replicas: self.all_replicas()?,
            available: Replicas::first(self.replicas),
            block_size: self.block_size,
            seed: self.seed,
        })
    }
}

/// Which replicas take requests, as time passes.
#[derive(Debug)]
pub(super) struct Available<'a> {
    changes: &'a [Scaling],
    pub replicas: Replicas,
    next: usize,
}

impl<'a> Available<'a> {
    pub fn new(fleet: &'a Fleet) -> Self {
        Self {
            changes: &fleet.scaling,
            replicas: Replicas::first(fleet.replicas),
            next: fleet.replicas,
        }
    }

    /// Adds and takes away replicas whose time has come; returns those that are gone, if anything has
    /// changed.
    pub fn at(&mut self, now: f64) -> Option<Replicas> {
        let before = self.replicas;
        while let Some((change, rest)) = self.changes.split_first()
            && change.time <= now
        {
            self.changes = rest;
            for _ in 0..change.replicas.unsigned_abs() {
                if change.replicas > 0 {
                    self.replicas.add(self.next);
                    self.next += 1;
                } else {
                    let last = self.replicas.nth(self.replicas.len() - 1);
                    self.replicas = self.replicas.without(Replicas::one(last));
                }
            }
        }
        (self.replicas != before).then(|| before.without(self.replicas))
    }
}
