//! Waiting requests, in the order in which they are admitted.

use std::collections::VecDeque;

use super::Scheduler;
use crate::serving::KvCache;

/// A request in the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub request: u32,
    /// Tokens it knew when it was preempted, 0 if it was not.
    pub known: u32,
}

/// Waiting requests, the next to be admitted first.
pub(super) type Queue = VecDeque<Waiting>;

impl<C: KvCache<Key = u32>> Scheduler<'_, C> {
    /// What a request is ordered by under the priority policy, the smallest first. Requests are numbered
    /// in the order of their arrival.
    pub(super) fn urgency(&self, request: u32) -> (u32, u32) {
        let priorities = self.config.priorities.as_ref();
        (priorities.map_or(0, |all| all[request as usize]), request)
    }

    /// Puts a request in its place in the queue: a new one behind those that wait, a preempted one at
    /// the head; under the priority policy either by its urgency.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        let at = if self.config.priorities.is_some() {
            let urgency = self.urgency(waiting.request);
            self.waiting
                .partition_point(|other| self.urgency(other.request) < urgency)
        } else if waiting.known > 0 {
            0
        } else {
            self.waiting.len()
        };
        if at == 0 {
            self.refusal.forget();
        }
        self.waiting.insert(at, waiting);
    }
}
