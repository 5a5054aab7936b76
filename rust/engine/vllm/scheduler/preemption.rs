//! Who gives way if slots run out, and whether that leads anywhere.

use super::{Scheduler, Waiting};
use crate::error::{Error, Result};
use crate::serving::{KvCache, RequestLog};

/// Fruitless attempts after which a scheduler counts as stuck.
const STUCK: u32 = 3;

/// What happened over and over without getting anywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stuck {
    /// A request that was preempted while nothing else ran.
    request: u32,
    /// Its tokens then.
    num_tokens: u32,
    /// How often that happened to it, one after the other.
    preemptions: u32,
    /// Steps in a row that scheduled nothing while none was in flight.
    empty_steps: u32,
}

impl Stuck {
    /// A request arrived.
    pub fn forget(&mut self) {
        self.empty_steps = 0;
    }
}

impl<C: KvCache<Key = u32>> Scheduler<'_, C> {
    /// Which running request is preempted if slots run out: the one admitted last, or the least urgent.
    pub(super) fn victim(&self) -> usize {
        let places = self.calendar.places();
        let urgency = |&i: &usize| self.urgency(self.active[places[i] as usize].request);
        let last = places.len() - 1;
        match self.config.priorities {
            None => last,
            Some(_) => (0..=last).max_by_key(urgency).unwrap_or(last),
        }
    }

    /// Takes the blocks of the `i`-th running request, because `wanting` needs some, and lets it wait.
    /// Returns its place.
    pub(super) fn preempt(
        &mut self,
        i: usize,
        step: u64,
        wanting: u32,
        log: &mut RequestLog,
    ) -> Result<u32> {
        let alone = self.calendar.len() == 1;
        let place = self.calendar.remove(i);
        self.sync(place, step, log);
        let active = &mut self.active[place as usize];
        let request = active.request;
        let num_tokens = active.progress.num_tokens;
        self.cache.release(&mut active.lease);
        active.end = 0;
        self.context -= u64::from(active.progress.computed);
        log.preemptions[request as usize] += 1;
        self.log.totals.preemptions += 1;
        self.spare.push(place);
        self.refusal.forget();
        self.wait(Waiting {
            request,
            known: num_tokens,
        });
        if alone && place == wanting {
            let again = self.stuck.request == request && self.stuck.num_tokens == num_tokens;
            self.stuck.request = request;
            self.stuck.num_tokens = num_tokens;
            self.stuck.preemptions = if again { self.stuck.preemptions + 1 } else { 1 };
            if self.stuck.preemptions == STUCK {
                let why = "it preempts itself over and over, with nothing else running";
                return Err(self.never_fits(request, why));
            }
        }
        Ok(place)
    }

    /// Called after a step that scheduled nothing, and preempted nobody.
    ///
    /// # Errors
    /// [`Error::Range`] if no later step will do more.
    pub(super) fn check_stuck(&mut self) -> Result<()> {
        let waiting = self.waiting.front().map(|waiting| waiting.request);
        let running = self.calendar.places().first();
        let running = running.map(|&place| self.active[place as usize].request);
        // Two batches of nothing at all can follow each other for ever.
        let in_flight = self.flights.iter().any(|batch| !batch.parts.is_empty());
        if in_flight || (running.is_some() && !self.flights.is_empty()) {
            return Ok(());
        }
        if let Some(request) = waiting
            && running.is_none()
        {
            let why = "it cannot be admitted even when nothing else runs";
            return Err(self.never_fits(request, why));
        }
        self.stuck.empty_steps += 1;
        match waiting.or(running) {
            Some(request) if self.stuck.empty_steps > STUCK => {
                Err(self.never_fits(request, "no request gets any further"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn never_fits(&self, request: u32, why: &str) -> Error {
        Error::range(format!(
            "request {request}: a prompt of {} tokens does not fit {} blocks of {} tokens and {} \
             tokens per step: {why}; give more",
            self.workload.requests().prompt_len(request),
            self.cache.usage().usable,
            self.cache.block_size(),
            self.config.max_num_batched_tokens,
        ))
    }
}
