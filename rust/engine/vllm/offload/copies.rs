//! Copies between the device and the host, in time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::engine::vllm::Slot;
use crate::error::{Error, Result};

/// Copies that wait for their channel, or are under way. Each channel does one copy after the other.
#[derive(Debug, Clone)]
pub(super) struct Copies {
    /// Nanoseconds for a chunk, by kind.
    chunk_ns: [u64; 3],
    start_after_step: bool,
    channels: [Channel; 3],
    unfinished: BTreeMap<u64, Copy>,
    /// Started in this step, in order.
    new: Vec<u64>,
    /// Stores of the last step, which enter their channel in this one.
    deferred: Vec<u64>,
    last: u64,
}

/// Which way, and who waits for it. The order is that in which the channels report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Device to host.
    Store,
    /// Host to device, while others run.
    Load,
    /// Host to device, inside a step.
    SyncLoad,
}

/// A copy job.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub number: u64,
    pub kind: Kind,
    /// Place of the request it is for.
    pub place: u32,
    pub keys: Vec<u32>,
    /// Slots that a store reads.
    pub slots: Vec<Slot>,
    /// Whether the request has finished, so that its slots may be given to others.
    pub watched: bool,
}

/// Copies that entered, each with its end.
#[derive(Debug, Clone, Default)]
struct Channel {
    queue: VecDeque<(u64, u64)>,
    /// When it is free, if nothing ends early.
    free: u64,
}

impl Channel {
    fn enter(&mut self, number: u64, earliest: u64, duration: u64) {
        self.free = self.free.max(earliest).saturating_add(duration);
        self.queue.push_back((number, self.free));
    }

    /// Waits for a copy at `now`: it and all before it end.
    fn wait_for(&mut self, number: u64, now: u64) {
        for (other, end) in &mut self.queue {
            *end = now.min(*end);
            if *other == number {
                return;
            }
        }
    }

    fn finished(&mut self, now: u64, found: &mut Vec<u64>) {
        while let Some(&(number, end)) = self.queue.front()
            && end <= now
        {
            self.queue.pop_front();
            found.push(number);
        }
    }
}

impl Copies {
    pub fn new(store_ns: u64, load_ns: u64, start_after_step: bool) -> Self {
        Self {
            chunk_ns: [store_ns, load_ns, load_ns],
            start_after_step,
            channels: Default::default(),
            unfinished: BTreeMap::new(),
            new: Vec::new(),
            deferred: Vec::new(),
            last: 0,
        }
    }

    /// Starts a copy; returns its number.
    pub fn start(&mut self, kind: Kind, place: u32, keys: Vec<u32>, slots: Vec<Slot>) -> u64 {
        self.last += 1;
        let copy = Copy {
            number: self.last,
            kind,
            place,
            keys,
            slots,
            watched: false,
        };
        self.unfinished.insert(self.last, copy);
        self.new.push(self.last);
        self.last
    }

    pub fn is_empty(&self) -> bool {
        self.unfinished.is_empty()
    }

    pub fn get(&self, number: u64) -> Option<&Copy> {
        self.unfinished.get(&number)
    }

    /// Whether a copy is a load of this step.
    pub fn is_new_load(&self, number: u64) -> bool {
        let is_load = |copy: &Copy| copy.kind != Kind::Store;
        self.new.contains(&number) && self.get(number).is_some_and(is_load)
    }

    /// The request of a store has finished.
    pub fn watch(&mut self, number: u64) {
        if let Some(copy) = self.unfinished.get_mut(&number) {
            copy.watched = true;
        }
    }

    /// Stores of finished requests that read a slot for which `taken` is true.
    pub fn threatened(&self, taken: impl Fn(Slot) -> bool) -> impl Iterator<Item = u64> {
        let watched = self.unfinished.values().filter(|copy| copy.watched);
        let hit = watched.filter(move |copy| copy.slots.iter().any(|&slot| taken(slot)));
        hit.map(|copy| copy.number)
    }

    /// Chunks of the copies that this step started: loads and stores.
    pub fn started(&self) -> (u32, u32) {
        let (mut loads, mut stores) = (0, 0);
        for copy in self.new.iter().filter_map(|&number| self.get(number)) {
            let chunks = crate::index::to_u32(copy.keys.len());
            match copy.kind {
                Kind::Store => stores += chunks,
                Kind::Load | Kind::SyncLoad => loads += chunks,
            }
        }
        (loads, stores)
    }

    fn enter(&mut self, number: u64, earliest: u64) {
        let Some(copy) = self.unfinished.get(&number) else {
            return;
        };
        let kind = copy.kind as usize;
        let duration = self.chunk_ns[kind].saturating_mul(copy.keys.len() as u64);
        self.channels[kind].enter(number, earliest, duration);
    }

    fn wait_for(&mut self, number: u64, now: u64) {
        if let Some(copy) = self.unfinished.get(&number) {
            self.channels[copy.kind as usize].wait_for(number, now);
        }
    }

    /// What the copy engine does in a step from `now` to `end`; `flush` has to be done before the step
    /// computes. Returns the copies that are reported, and for how many the step waited.
    pub fn work(&mut self, flush: &BTreeSet<u64>, now: u64, end: u64) -> (Vec<Copy>, u64) {
        let earliest = if self.start_after_step { end } else { now };
        let mut waits = 0;
        let new = std::mem::take(&mut self.new);
        if !flush.is_empty() {
            for number in std::mem::take(&mut self.deferred) {
                self.enter(number, earliest);
            }
            for &number in &new {
                let is_store = self.get(number).is_some_and(|c| c.kind == Kind::Store);
                if is_store && flush.contains(&number) {
                    self.enter(number, earliest);
                }
            }
            for &number in flush {
                self.wait_for(number, now);
                waits += 1;
            }
        }
        for number in std::mem::take(&mut self.deferred) {
            self.enter(number, earliest);
        }
        for number in new {
            match self.unfinished[&number].kind {
                Kind::Store if flush.contains(&number) => {}
                Kind::Store => self.deferred.push(number),
                Kind::Load => self.enter(number, earliest),
                Kind::SyncLoad => {
                    self.enter(number, now);
                    self.wait_for(number, now);
                    waits += 1;
                }
            }
        }
        let mut finished = Vec::new();
        for channel in &mut self.channels {
            channel.finished(now, &mut finished);
        }
        let reports = finished.iter().filter_map(|n| self.unfinished.remove(n));
        (reports.collect(), waits)
    }

    /// When the next copy under way ends.
    pub fn next_end(&self) -> Option<u64> {
        let fronts = self.channels.iter().filter_map(|c| c.queue.front());
        fronts.map(|&(_, end)| end).min()
    }

    /// Checks every invariant, between two steps.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        let queued = self.channels.iter().map(|c| c.queue.len()).sum::<usize>();
        if queued + self.deferred.len() != self.unfinished.len() || !self.new.is_empty() {
            return Err(Error::bug("copies: one is lost"));
        }
        let ends = |channel: &Channel| channel.queue.iter().is_sorted_by_key(|&(_, end)| end);
        if !self.channels.iter().all(ends) {
            return Err(Error::bug("copies: one overtakes another in its channel"));
        }
        Ok(())
    }
}
