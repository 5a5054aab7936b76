//! What a step schedules, from then until its output is there.

use super::{Scheduled, Scheduler};
use crate::error::{Error, Result};
use crate::serving::{KvCache, Progress, RequestLog};

/// Whose tokens a step schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartKind {
    /// Those of a request that ran before the step.
    Running,
    /// Those of a request that the step admitted.
    Admitted,
}

/// What a step schedules of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub place: u32,
    pub request: u32,
    pub tokens: u32,
    /// Guessed tokens among them.
    pub drafts: u32,
    pub kind: PartKind,
    /// Whether the guesses were made up to fill a batch, and never are right.
    pub padded: bool,
    /// Whether the step computes the last of the known tokens, and so samples one.
    pub samples: bool,
}

/// A step that was scheduled and whose output is not there. Requests that are passed over have no part.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub step: u64,
    pub parts: Vec<Part>,
}

impl<C: KvCache<Key = u32>> Scheduler<'_, C> {
    /// Adds tokens of a request to the step.
    pub(super) fn add(&mut self, place: u32, tokens: u32, kind: PartKind) {
        let active = &mut self.active[place as usize];
        let progress = &active.progress;
        // What is beyond the known tokens is guessed.
        let known = progress.num_tokens + active.placeholders;
        let end = progress.computed + tokens;
        let drafts = end.saturating_sub(known).min(active.drafts);
        active.drafts = 0;
        self.scheduled.push(Part {
            place,
            request: active.request,
            tokens,
            drafts,
            kind,
            padded: false,
            samples: false,
        });
    }

    /// Ends the scheduling of a step: its tokens count as computed, and its batch is in flight.
    pub(super) fn launch(&mut self, step: u64, done: &mut Scheduled, log: &mut RequestLog) {
        let spare = std::mem::take(&mut self.spare_parts);
        let mut parts = std::mem::replace(&mut self.scheduled, spare);
        let next_drafts = self
            .config
            .drafts
            .as_ref()
            .map_or(0, |drafts| drafts.tokens);
        for part in &mut parts {
            let active = &mut self.active[part.place as usize];
            let progress = &mut active.progress;
            let Progress {
                computed,
                prompt_tokens,
                ..
            } = *progress;
            if computed >= prompt_tokens && part.tokens == 1 {
                done.work.add_decodes(1, u64::from(computed));
            } else {
                done.work.add_prefill(computed, part.tokens);
            }
            let row = part.request as usize;
            let end = computed + part.tokens;
            let of_prompt = end.min(prompt_tokens) - computed.min(prompt_tokens);
            log.computed_tokens[row] += u64::from(of_prompt);
            log.scheduled_tokens[row] += u64::from(part.tokens);
            done.requests += 1;
            progress.computed = end;
            self.context += u64::from(match part.kind {
                PartKind::Running => part.tokens,
                PartKind::Admitted => end,
            });
            part.samples = end >= progress.num_tokens + active.placeholders;
            active.prefilling = !part.samples;
            active.synced = step + 1;
            if self.config.async_scheduling {
                progress.in_flight += part.tokens;
                if part.samples {
                    active.placeholders += 1 + part.drafts;
                    active.drafts = next_drafts;
                }
            }
        }
        self.log.totals.scheduled_tokens += done.tokens;
        self.flights.push_back(Batch { step, parts });
    }

    /// What the step scheduled last computes: requests and their tokens, of those that have parts.
    pub(in crate::engine::vllm) fn last_batch(&self) -> Vec<(u32, u32)> {
        let parts = self.flights.back().map_or(&[][..], |batch| &batch.parts);
        parts
            .iter()
            .map(|part| (part.request, part.tokens))
            .collect()
    }

    /// Checks that what is in flight is what the requests count.
    pub(super) fn validate_flights(&self) -> Result<()> {
        if !self.config.async_scheduling {
            return if self.flights.is_empty() {
                Ok(())
            } else {
                Err(Error::bug("a step is in flight between steps"))
            };
        }
        for &place in self.calendar.places() {
            let active = &self.active[place as usize];
            let parts = self.flights.iter().flat_map(|batch| &batch.parts);
            let of_this =
                parts.filter(|part| part.place == place && part.request == active.request);
            let in_parts: u32 = of_this.map(|part| part.tokens).sum();
            let in_flight = in_parts + u32::from(active.quiet);
            if in_flight != active.progress.in_flight {
                return Err(Error::bug(format!(
                    "request {}: {} tokens in flight, not {in_flight}",
                    active.request, active.progress.in_flight
                )));
            }
        }
        Ok(())
    }
}
