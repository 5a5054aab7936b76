//! Waiting requests: who is admitted, and when it is worth asking.

use super::{Active, Lookup, PartKind, Scheduled, Scheduler, Situation, Waiting};
use crate::error::Result;
use crate::index::to_u32;
use crate::serving::{Demand, Hit, HitLimits, KvCache, NoRoom, Progress, Readmission, RequestLog};

/// A request that was admitted.
struct Admission {
    place: u32,
    hit: Hit,
    /// Tokens to compute.
    tokens: u32,
    /// Those of them that are made up.
    drafts: u32,
    /// What limited the hit, if recorded.
    limits: Option<HitLimits>,
}

/// What comes of asking for an admission.
enum Answer {
    Admitted(Admission),
    /// No room, or not enough of the step's tokens: the request stays at the head of the queue.
    Refused,
    /// Not enough of the step's tokens: the next request has its turn.
    PassedOver,
}

impl<C: KvCache<Key = u32>> Scheduler<'_, C> {
    pub(super) fn room_for_more(&self, budget: u64) -> bool {
        budget > 0 && self.calendar.len() < self.config.max_num_seqs as usize
    }

    fn situation(&self, budget: u64) -> Situation {
        Situation {
            version: self.cache.version(),
            running: self.calendar.len(),
            waiting: self.waiting.len(),
            budget,
        }
    }

    /// Whether asking for the admission of the first waiting request could succeed.
    pub(super) fn may_admit(&self, budget: u64) -> bool {
        !self.waiting.is_empty()
            && self.room_for_more(budget)
            && !self.refusal.is_refused(self.situation(budget))
    }

    /// Admits waiting requests while there is room.
    pub(super) fn schedule_waiting(
        &mut self,
        step: u64,
        clock_ns: u64,
        threshold: u64,
        done: &mut Scheduled,
        log: &mut RequestLog,
    ) {
        let mut budget = self.config.max_num_batched_tokens - done.tokens;
        if !self.may_admit(budget) && !self.waiting.is_empty() && self.room_for_more(budget) {
            if self.config.stats_at_lookup
                && let Some(lookup) = self.refusal.lookup()
            {
                self.count(lookup, 1);
            }
            return;
        }
        while self.room_for_more(budget)
            && let Some(&head) = self.waiting.front()
        {
            let admission = match self.admit(head, budget, threshold) {
                Answer::Admitted(admission) => admission,
                Answer::Refused => break,
                Answer::PassedOver => {
                    self.waiting.pop_front();
                    self.passed_over.push(head);
                    continue;
                }
            };
            self.waiting.pop_front();
            self.note_admission(head.request, &admission, step, clock_ns, log);
            let Admission {
                place,
                tokens,
                drafts,
                ..
            } = admission;
            self.active[place as usize].synced = step;
            self.calendar.push(place, step);
            self.add(place, tokens, PartKind::Admitted);
            if let Some(part) = self.scheduled.last_mut()
                && drafts > 0
            {
                (part.drafts, part.padded) = (drafts, true);
            }
            done.tokens += u64::from(tokens);
            budget -= u64::from(tokens);
        }
        self.return_passed_over();
    }

    /// Writes down an admission.
    fn note_admission(
        &mut self,
        request: u32,
        admission: &Admission,
        step: u64,
        clock_ns: u64,
        log: &mut RequestLog,
    ) {
        let row = request as usize;
        if log.preemptions[row] > 0 {
            self.log.readmissions.push(Readmission {
                request,
                step,
                hit_tokens: admission.hit.tokens(),
            });
            return;
        }
        log.hit(request, admission.hit);
        log.parts_at(request, self.cache.junction());
        if let Some(limits) = admission.limits {
            log.limited(request, limits);
        }
        log.admit_step[row] = step;
        log.admit_ns[row] = clock_ns;
    }

    /// Puts the requests that were passed over at the head of the queue, the last one first.
    fn return_passed_over(&mut self) {
        if !self.passed_over.is_empty() {
            self.refusal.forget();
        }
        for waiting in self.passed_over.drain(..) {
            self.waiting.push_front(waiting);
        }
    }

    /// Tries to admit a request.
    fn admit(&mut self, head: Waiting, budget: u64, threshold: u64) -> Answer {
        let Waiting { request, known } = head;
        let keys = self.workload.keys(request);
        let prompt = self.workload.requests().prompt_len(request);
        let num_tokens = known.max(prompt);
        let hit = self.cache.lookup(keys, num_tokens);
        let hits = hit.tokens();
        let lookup = Lookup {
            queries: u64::from(num_tokens),
            hits: u64::from(hits),
            preempted: known > 0,
        };
        if self.config.stats_at_lookup {
            self.count(lookup, 1);
        }
        let situation = self.situation(budget);
        let when_anything_changes = NoRoom {
            until: situation.version + 1,
            whatever_chunk: false,
        };
        let mut tokens = u64::from(num_tokens - hits);
        if threshold > 0 && threshold < tokens {
            tokens = threshold;
        }
        let whole = !self.config.enable_chunked_prefill;
        if whole && tokens > budget {
            if self.config.pass_over {
                return Answer::PassedOver;
            }
            self.refusal
                .remember(situation, when_anything_changes, lookup);
            return Answer::Refused;
        }
        let chunk = self.chunk(hits, num_tokens, prompt, to_u32(tokens.min(budget)), budget);
        let Some(chunk) = chunk else {
            self.refusal
                .remember(situation, when_anything_changes, lookup);
            return Answer::Refused;
        };
        let admitted = self.take_room(head, num_tokens, hit, chunk, situation);
        match admitted {
            Ok(admission) => {
                self.refusal.forget();
                if !self.config.stats_at_lookup {
                    self.count(lookup, 1);
                }
                Answer::Admitted(admission)
            }
            Err(no_room) => {
                // The statistics want to know what each lookup finds, even if it is refused anyway; and
                // a smaller budget may pass over what is refused now.
                let no_room = if self.config.stats_at_lookup || (whole && self.config.pass_over) {
                    when_anything_changes
                } else {
                    no_room
                };
                if no_room.until > situation.version {
                    self.refusal.remember(situation, no_room, lookup);
                } else {
                    self.refusal.forget();
                }
                Answer::Refused
            }
        }
    }

    /// Takes room for a request that was just looked up, and for a chunk of its tokens, some of them made up.
    fn take_room(
        &mut self,
        Waiting { request, known }: Waiting,
        num_tokens: u32,
        hit: Hit,
        (tokens, drafts): (u32, u32),
        situation: Situation,
    ) -> std::result::Result<Admission, NoRoom> {
        let keys = self.workload.keys(request);
        let records = self.record_limits && known == 0;
        let limits = records.then(|| self.cache.hit_limits(keys, num_tokens));
        let place = self.start(request, num_tokens);
        let active = &mut self.active[place as usize];
        let demand = Demand {
            name: u64::from(request),
            new_tokens: tokens,
            must_fit: self.config.reserve_full_isl,
            beside_others: situation.running > 0,
        };
        let admitted = self
            .cache
            .admit(&mut active.lease, keys, &active.progress, demand);
        if let Err(no_room) = admitted {
            self.spare.push(place);
            return Err(no_room);
        }
        active.progress.computed = hit.tokens();
        Ok(Admission {
            place,
            hit,
            tokens,
            drafts,
            limits,
        })
    }

    /// Tokens to compute of a request that was just looked up, and how many of them are made up. `None`: no
    /// more requests are admitted in this step.
    ///
    /// With speculative decoding, the one token that a hit may leave is made as long as a decode, unless
    /// prompts are computed in the same step.
    fn chunk(
        &self,
        hits: u32,
        num_tokens: u32,
        prompt_tokens: u32,
        tokens: u32,
        budget: u64,
    ) -> Option<(u32, u32)> {
        let progress = Progress {
            prompt_tokens,
            num_tokens,
            computed: hits,
            in_flight: 0,
        };
        let drafts = self
            .config
            .drafts
            .as_ref()
            .map_or(0, |drafts| drafts.tokens);
        let pads = drafts > 0
            && num_tokens - hits == 1
            && !self.runs.prefilling
            && (self.runs.any || hits > 0)
            && hits + 1 + drafts < self.cache.max_model_len();
        let padded = 1 + drafts;
        if pads && u64::from(padded) > budget {
            return None;
        }
        let wanted = if pads { padded } else { tokens };
        match self.cache.chunk(None, &progress, wanted) {
            0 => None,
            cut if pads && cut < padded => Some((1, 0)),
            cut => Some((cut, if pads { drafts } else { 0 })),
        }
    }

    /// A place for a request of which nothing is computed.
    fn start(&mut self, request: u32, num_tokens: u32) -> u32 {
        let place = self.spare.pop().unwrap_or_else(|| {
            self.active.push(Active::default());
            to_u32(self.active.len()) - 1
        });
        let end = self.end(request);
        let active = &mut self.active[place as usize];
        *active = Active {
            request,
            end,
            progress: Progress {
                num_tokens,
                ..Progress::new(self.workload.requests().prompt_len(request))
            },
            lease: std::mem::take(&mut active.lease),
            ..Active::default()
        };
        place
    }

    /// Adds lookups to vLLM's prefix-cache statistics.
    pub(super) fn count(&mut self, lookup: Lookup, times: u64) {
        if !self.cache.enable_caching() {
            return;
        }
        let totals = &mut self.log.totals;
        let stats = if lookup.preempted && self.config.stats_preempted_apart {
            &mut totals.stats_preempted
        } else {
            &mut totals.stats
        };
        stats.count(lookup.queries, lookup.hits, times);
    }

    /// Serves one request with the cache alone: its whole prompt at once, then token by token.
    pub(in crate::engine::vllm) fn run_alone(
        &mut self,
        request: u32,
        log: &mut RequestLog,
    ) -> Result<()> {
        let head = Waiting { request, known: 0 };
        let answer = self.admit(head, u64::MAX, 0);
        let Answer::Admitted(Admission {
            place, hit, tokens, ..
        }) = answer
        else {
            return Err(self.never_fits(request, "it cannot be admitted though nothing else runs"));
        };
        log.hit(request, hit);
        let at = place as usize;
        self.active[at].progress.computed += tokens;
        let mut sampled = 0;
        while self.active[at].progress.num_tokens + 1 < self.active[at].end {
            self.active[at].progress.num_tokens += 1;
            if !self.extend(place, 1) {
                return Err(self.never_fits(request, "its output does not fit"));
            }
            self.active[at].progress.computed += 1;
            sampled += 1;
        }
        let scheduled = u64::from(tokens) + sampled;
        log.computed_tokens[request as usize] += u64::from(tokens);
        log.scheduled_tokens[request as usize] += scheduled;
        let totals = &mut self.log.totals;
        totals.scheduled_tokens += scheduled;
        totals.peak_used = totals.peak_used.max(self.cache.usage().used());
        self.finish(place, log);
        Ok(())
    }
}
