//! Waiting requests: who is admitted, and when it is worth asking.

use super::{Active, Refusal, Scheduled, Scheduler};
use crate::error::{Error, Result};

impl Scheduler<'_> {
    pub(super) fn room_for_more(&self, budget: u64) -> bool {
        budget > 0 && self.running.len() < self.config.max_num_seqs as usize
    }

    /// Whether asking for the admission of the first waiting request could succeed.
    pub(super) fn may_admit(&self, budget: u64) -> bool {
        if self.waiting.is_empty() || !self.room_for_more(budget) {
            return false;
        }
        let Some(refusal) = self.refusal else {
            return true;
        };
        let same = if refusal.whatever_chunk {
            (refusal.running == 0) == self.running.is_empty()
        } else {
            refusal.budget == budget
                && refusal.running == self.running.len()
                && refusal.waiting == self.waiting.len()
        };
        !same || self.manager.pool().version() >= refusal.until
    }

    pub(super) fn schedule_waiting(
        &mut self,
        step: u64,
        clock_ns: u64,
        mut budget: u64,
        threshold: u64,
        done: &mut Scheduled,
    ) {
        if !self.may_admit(budget) && !self.waiting.is_empty() && self.room_for_more(budget) {
            if self.config.stats_at_lookup
                && let Some(refusal) = self.refusal
            {
                self.count(refusal.queries, refusal.hits, refusal.preempted, 1);
            }
            return;
        }
        while self.room_for_more(budget)
            && let Some(&request) = self.waiting.front()
        {
            let Some((place, hit_tokens, tokens)) = self.admit(request, budget, threshold) else {
                break;
            };
            self.waiting.pop_front();
            self.active[place as usize].synced = step;
            self.running.push(place);
            self.due.push(step);
            let row = request as usize;
            if self.requests.preemptions[row] > 0 {
                self.requests.resumes.push((request, step, hit_tokens));
            } else {
                self.requests.hit_tokens[row] = hit_tokens;
                self.requests.admit_step[row] = step;
                self.requests.admit_ns[row] = clock_ns;
            }
            self.add(place, tokens, true, done);
            budget -= u64::from(tokens);
        }
    }

    /// Tries to admit a request: its place, hit tokens, and tokens to compute.
    fn admit(&mut self, request: u32, budget: u64, threshold: u64) -> Option<(u32, u32, u32)> {
        let keys = self.workload.keys(request);
        let known = self.known[request as usize];
        let prompt = self.workload.prompt_len(request);
        let num_tokens = known.max(prompt);
        let hits = self.manager.lookup(keys, num_tokens);
        let (queries, preempted) = (u64::from(num_tokens), known > 0);
        if self.config.stats_at_lookup {
            self.count(queries, u64::from(hits), preempted, 1);
        }
        let mut refusal = Refusal {
            until: self.manager.pool().version() + 1,
            whatever_chunk: false,
            running: self.running.len(),
            waiting: self.waiting.len(),
            budget,
            queries,
            hits: u64::from(hits),
            preempted,
        };
        let mut tokens = u64::from(num_tokens - hits);
        if threshold > 0 && threshold < tokens {
            tokens = threshold;
        }
        if !self.config.enable_chunked_prefill && tokens > budget {
            self.refusal = Some(refusal);
            return None;
        }
        let tokens = tokens.min(budget) as u32;
        let place = self.spare.pop().unwrap_or_else(|| {
            self.active.push(Active::default());
            self.active.len() as u32 - 1
        });
        let active = &mut self.active[place as usize];
        active.request = request;
        active.end =
            (prompt + self.workload.output_len(request)).min(self.manager.config().max_model_len);
        active.sequence.restart(prompt, u64::from(request));
        active.sequence.num_tokens = num_tokens;
        let must_fit = self.config.reserve_full_isl;
        let beside = !self.running.is_empty();
        let admitted = self
            .manager
            .admit(&mut active.sequence, keys, tokens, must_fit, beside);
        if let Err(no_room) = admitted {
            self.spare.push(place);
            // The statistics want to know what each lookup finds, even if it is refused anyway.
            if !self.config.stats_at_lookup {
                refusal.until = no_room.until;
                refusal.whatever_chunk = no_room.whatever_chunk;
            }
            self.refusal = Some(refusal);
            return None;
        }
        self.refusal = None;
        if !self.config.stats_at_lookup {
            self.count(queries, u64::from(hits), preempted, 1);
        }
        Some((place, hits, tokens))
    }

    /// Adds to vLLM's prefix-cache statistics.
    pub(super) fn count(&mut self, queries: u64, hits: u64, preempted: bool, times: u64) {
        if !self.manager.config().enable_caching {
            return;
        }
        let totals = &mut self.totals;
        let stats = if preempted {
            &mut totals.stats_preempted
        } else {
            &mut totals.stats
        };
        stats[0] += times;
        stats[1] += times * queries;
        stats[2] += times * hits;
    }

    /// Serves one request with the cache manager alone: its whole prompt at once, then token by token.
    pub(in crate::engine::vllm) fn run_alone(&mut self, request: u32) -> Result<()> {
        let Some((place, hits, tokens)) = self.admit(request, u64::MAX, 0) else {
            return Err(self.never_fits(request, "it cannot be admitted though nothing else runs"));
        };
        self.requests.hit_tokens[request as usize] = hits;
        self.add(place, tokens, true, &mut Scheduled::default());
        self.scheduled.clear();
        let mut sampled = 0;
        self.active[place as usize].sequence.computed += tokens;
        while self.active[place as usize].sequence.num_tokens + 1 < self.active[place as usize].end
        {
            self.active[place as usize].sequence.num_tokens += 1;
            if !self.grow(place, 1) {
                return Err(self.never_fits(request, "its output does not fit"));
            }
            self.active[place as usize].sequence.computed += 1;
            sampled += 1;
        }
        self.requests.scheduled_tokens[request as usize] += sampled;
        self.totals.scheduled_tokens += u64::from(tokens) + sampled;
        self.totals.peak_used = self.totals.peak_used.max(self.used());
        self.finish(place);
        Ok(())
    }

    pub(super) fn never_fits(&self, request: u32, why: &str) -> Error {
        let pool = self.manager.pool();
        Error::never_fits(format!(
            "request {request}: a prompt of {} tokens does not fit {} blocks of {} tokens and {} \
             tokens per step: {why}; give more",
            self.workload.prompt_len(request),
            pool.num_slots() - 1,
            self.manager.config().block_size,
            self.config.max_num_batched_tokens,
        ))
    }
}
