//! What a step did: its records, samples, and requests that end.

use std::collections::BTreeSet;

use super::{Member, OffloadServer};
use crate::index::to_u32;
use crate::serving::{KvCache, Progress, RequestLog, StepRow, StepWork};

impl OffloadServer<'_> {
    /// What comes after the scheduling of a step; returns the copies that have to be done before it
    /// computes.
    pub(super) fn end_schedule(&mut self) -> BTreeSet<u64> {
        let connector = &mut self.connector;
        let mut flush = BTreeSet::new();
        for &place in &self.preempted {
            flush.extend(connector.of_preempted(&self.members[place as usize].offloaded));
        }
        let allocated = &self.allocated;
        flush.extend(
            connector
                .copies
                .threatened(|slot| allocated.contains(&slot)),
        );
        for &(place, tokens) in &self.scheduled {
            let member = &mut self.members[place as usize];
            let known = member.progress.num_tokens;
            let after = member.progress.computed + tokens;
            let table = &member.lease.table;
            connector.offer(&mut member.offloaded, place, (after, known), table);
        }
        for &place in &self.finished {
            let member = &mut self.members[place as usize];
            let Progress {
                prompt_tokens,
                num_tokens,
                ..
            } = member.progress;
            let after = prompt_tokens.max(num_tokens - 1);
            let of = &mut member.offloaded;
            let offered = connector.offer(of, place, (after, num_tokens), &member.slots);
            if let Some(number) = offered {
                connector.copies.watch(number);
                let slots = connector.copies.get(number).map(|copy| &copy.slots);
                if slots.is_some_and(|slots| slots.iter().any(|slot| allocated.contains(slot))) {
                    flush.insert(number);
                }
            }
        }
        for &place in &self.finished {
            let member = &mut self.members[place as usize];
            connector.finish(&mut member.offloaded);
            member.announced = true;
        }
        connector.end_schedule(self.clock.now());
        for place in std::mem::take(&mut self.finished) {
            self.leave(place);
        }
        flush
    }

    /// Lets a request go that has finished, if that was announced and its copies are done.
    pub(super) fn leave(&mut self, place: u32) {
        let member = self.member(place);
        if member.announced && !member.offloaded.has_jobs() {
            *member = Member::default();
            self.spare.push(place);
        }
    }

    /// What the step computes.
    pub(super) fn count_work(&mut self, log: &mut RequestLog) -> StepWork {
        let mut work = StepWork::default();
        for &(place, tokens) in &self.scheduled {
            let member = &self.members[place as usize];
            let Progress {
                computed,
                prompt_tokens,
                ..
            } = member.progress;
            if computed >= prompt_tokens && tokens == 1 {
                work.add_decodes(1, u64::from(computed));
            } else {
                work.add_prefill(computed, tokens);
            }
            let row = member.offloaded.request as usize;
            let of_prompt = (computed + tokens).min(prompt_tokens) - computed.min(prompt_tokens);
            log.computed_tokens[row] += u64::from(of_prompt);
            log.scheduled_tokens[row] += u64::from(tokens);
            self.log.totals.scheduled_tokens += u64::from(tokens);
        }
        work
    }

    pub(super) fn record_step(&mut self, duration: u64, flush: &BTreeSet<u64>, chunks: (u32, u32)) {
        let usage = self.manager.usage();
        self.log.totals.use_slots(usage.used(), 1, duration);
        if self.recording.steps {
            self.log.steps.push(StepRow {
                clock_ns: self.clock.now(),
                requests: to_u32(self.scheduled.len()),
                tokens: self.scheduled.iter().map(|&(_, t)| u64::from(t)).sum(),
                running: to_u32(self.running.len()),
                waiting: to_u32(self.waiting.len()),
                free: usage.free,
            });
            let steps = &mut self.connector.log.steps;
            steps.holding.push(to_u32(self.holding.len()));
            steps.loaded.push(chunks.0);
            steps.stored.push(chunks.1);
            steps.flushed.push(to_u32(flush.len()));
        }
    }

    /// The sampling part of a step, which has ended.
    pub(super) fn sample(&mut self, log: &mut RequestLog) {
        let end_ns = self.clock.now();
        for i in 0..self.scheduled.len() {
            let (place, tokens) = self.scheduled[i];
            let member = &mut self.members[place as usize];
            member.progress.computed += tokens;
            if member.progress.computed < member.progress.num_tokens {
                continue;
            }
            self.in_flight.remove(&place);
            member.progress.num_tokens += 1;
            let row = member.offloaded.request as usize;
            if log.first_token_step[row] == 0 {
                log.first_token_step[row] = self.step;
                log.first_token_ns[row] = end_ns;
            }
            if member.progress.num_tokens >= member.end {
                log.finish_step[row] = self.step;
                log.finish_ns[row] = end_ns;
                log.num_blocks[row] = to_u32(member.lease.table.len());
                self.end_request(place);
            }
        }
        let members = &self.members;
        self.running
            .retain(|&place| !members[place as usize].finished);
    }

    fn end_request(&mut self, place: u32) {
        let member = &mut self.members[place as usize];
        member.finished = true;
        member.slots.clone_from(&member.lease.table);
        self.log.finish_order.push(member.offloaded.request);
        if self.recording.tables {
            self.log.tables.extend_from_slice(&member.slots);
        }
        self.connector.watch(&member.offloaded);
        self.manager.release(&mut member.lease);
        self.finished.push(place);
        self.num_finished += 1;
    }
}
