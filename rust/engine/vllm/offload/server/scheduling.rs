//! Who runs in a step: running requests, preemptions, admissions.

use super::super::connector::Match;
use super::{OffloadServer, STUCK};
use crate::engine::vllm::manager::load::Loaded;
use crate::error::Result;
use crate::index::to_u32;
use crate::serving::{Demand, Hit, KvCache, Readmission, RequestLog};

/// What comes of asking for an admission.
enum Answer {
    Runs,
    Skipped,
    Stop,
}

impl OffloadServer<'_> {
    /// Schedules running requests, and preempts the last ones where slots run out.
    pub(super) fn schedule_running(&mut self, log: &mut RequestLog) -> Result<()> {
        let mut i = 0;
        while i < self.running.len() && self.budget > 0 {
            let place = self.running[i];
            let member = &mut self.members[place as usize];
            let progress = member.progress;
            let limit = self
                .manager
                .max_model_len()
                .saturating_sub(progress.computed + 1);
            let tokens = u64::from(progress.num_tokens - progress.computed).min(self.budget);
            let tokens = to_u32(tokens.min(u64::from(limit)));
            if tokens == 0 {
                i += 1;
                continue;
            }
            let held = member.lease.table.len();
            loop {
                let member = &mut self.members[place as usize];
                let keys = self.workload.keys(member.offloaded.request);
                let taken = self
                    .manager
                    .extend(&mut member.lease, keys, &progress, tokens);
                if taken.is_ok() || self.preempt_last(place, log)? == place {
                    break;
                }
            }
            if self.running.get(i) != Some(&place) {
                break;
            }
            let table = &self.members[place as usize].lease.table;
            self.allocated.extend(&table[held..]);
            self.scheduled.push((place, tokens));
            self.budget -= u64::from(tokens);
            i += 1;
        }
        Ok(())
    }

    /// Takes the blocks of the request admitted last, because `wanting` needs some, and puts it at the
    /// head of the queue. Returns its place.
    fn preempt_last(&mut self, wanting: u32, log: &mut RequestLog) -> Result<u32> {
        let alone = self.running.len() == 1;
        let Some(place) = self.running.pop() else {
            unreachable!("the request that needs slots is running");
        };
        let member = &mut self.members[place as usize];
        let (request, num_tokens) = (member.offloaded.request, member.progress.num_tokens);
        self.manager.release(&mut member.lease);
        member.progress.computed = 0;
        self.in_flight.remove(&place);
        log.preemptions[request as usize] += 1;
        self.log.totals.preemptions += 1;
        self.waiting.push_front(place);
        self.preempted.push(place);
        if alone && place == wanting {
            let (last, tokens, times) = self.lone_preemption;
            let again = last == request && tokens == num_tokens;
            let times = if again { times + 1 } else { 1 };
            self.lone_preemption = (request, num_tokens, times);
            if times == STUCK {
                let why = "it preempts itself over and over, with nothing else running";
                return Err(self.never_fits(request, why));
            }
        }
        Ok(place)
    }

    /// Admits waiting requests while there is room; those that have to wait for a copy are skipped.
    pub(super) fn schedule_waiting(&mut self, log: &mut RequestLog) -> Result<()> {
        let mut skipped = Vec::new();
        while self.budget > 0 && self.running.len() < self.config.max_num_seqs as usize {
            let held = !self.holding.is_empty();
            let queue = if held { &self.holding } else { &self.waiting };
            let Some(&place) = queue.front() else {
                break;
            };
            let answer = self.admit(place, log)?;
            if matches!(answer, Answer::Stop) {
                break;
            }
            if held {
                self.holding.pop_front();
            } else {
                self.waiting.pop_front();
            }
            if matches!(answer, Answer::Skipped) {
                skipped.push(place);
            }
        }
        for place in skipped.into_iter().rev() {
            let member = self.member(place);
            if member.progress.computed > 0 || member.loading {
                self.holding.push_front(place);
            } else {
                self.waiting.push_front(place);
            }
        }
        Ok(())
    }

    /// Tries to admit a request, or to have its blocks loaded.
    fn admit(&mut self, place: u32, log: &mut RequestLog) -> Result<Answer> {
        let member = &mut self.members[place as usize];
        let request = member.offloaded.request;
        let keys = self.workload.keys(request);
        if member.loading {
            if !member.ready {
                return Ok(Answer::Skipped);
            }
            self.manager
                .cache_computed(&mut member.lease, keys, &member.progress);
            let last = member.progress.num_tokens - 1;
            member.progress.computed = member.progress.computed.min(last);
            (member.loading, member.ready) = (false, false);
        }
        let progress = member.progress;
        let is_new = progress.computed == 0;
        let (mut local, mut tokens, mut sync) = (0, 0, true);
        if is_new {
            local = self.manager.lookup(keys, progress.num_tokens).tokens();
            match self
                .connector
                .matched(&mut member.offloaded, progress.num_tokens, local)
            {
                Match::Later => return Ok(Answer::Skipped),
                Match::Tokens { tokens: t, sync: s } => (tokens, sync) = (t, s),
            }
        }
        let total = progress.computed + local + tokens;
        let mut chunk = 0;
        if sync {
            let left = u64::from(progress.num_tokens - total);
            if !self.config.enable_chunked_prefill && left > self.budget {
                return Ok(Answer::Stop);
            }
            chunk = to_u32(left.min(self.budget));
        }
        let demand = Demand {
            name: u64::from(request),
            new_tokens: chunk,
            must_fit: self.config.reserve_full_isl,
            beside_others: !self.running.is_empty(),
        };
        let loaded = Loaded {
            tokens,
            later: !sync,
            reserved: if sync { 0 } else { self.reserved() },
        };
        let member = &mut self.members[place as usize];
        if !self
            .manager
            .admit_loaded(&mut member.lease, keys, &progress, demand, loaded)
        {
            return Ok(Answer::Stop);
        }
        self.allocated.extend(&member.lease.table);
        member.progress.computed = total;
        if is_new {
            let first = self.note_lookup(place, local, tokens, log);
            let of = &mut self.members[place as usize].offloaded;
            self.connector
                .admitted(of, place, local, (tokens, sync), first)?;
        }
        let member = &mut self.members[place as usize];
        if !sync {
            member.loading = true;
            self.in_flight.insert(place);
            return Ok(Answer::Skipped);
        }
        if total + chunk < progress.num_tokens {
            self.in_flight.insert(place);
        }
        self.running.push(place);
        self.scheduled.push((place, chunk));
        self.budget -= u64::from(chunk);
        let row = request as usize;
        if log.admit_step[row] == 0 {
            log.admit_step[row] = self.step;
            log.admit_ns[row] = self.clock.now();
        }
        Ok(Answer::Runs)
    }

    /// Slots that requests whose prompt is not complete still need.
    fn reserved(&self) -> u32 {
        let size = self.manager.block_size();
        let needed = self.in_flight.iter().map(|&place| {
            let member = &self.members[place as usize];
            let blocks = member.progress.num_tokens.div_ceil(size);
            blocks.saturating_sub(to_u32(member.lease.table.len()))
        });
        needed.sum()
    }

    /// Records what an admission found; returns whether it is the first one of the request.
    fn note_lookup(&mut self, place: u32, local: u32, tokens: u32, log: &mut RequestLog) -> bool {
        let member = &self.members[place as usize];
        let request = member.offloaded.request;
        let preempted = log.preemptions[request as usize] > 0;
        if self.manager.enable_caching() {
            let totals = &mut self.log.totals;
            let stats = if preempted {
                &mut totals.stats_preempted
            } else {
                &mut totals.stats
            };
            stats.count(u64::from(member.progress.num_tokens), u64::from(local), 1);
        }
        // The last token of a prompt is computed, wherever the others are.
        let last = member.progress.num_tokens - 1;
        let tokens = tokens.min(last - local);
        if preempted {
            self.log.readmissions.push(Readmission {
                request,
                step: self.step,
                hit_tokens: local + tokens,
            });
        } else {
            log.hit(
                request,
                Hit {
                    tiers: [local, tokens, 0],
                },
            );
        }
        !preempted
    }
}
