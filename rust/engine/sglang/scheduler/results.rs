//! Noticing the tokens a batch has sampled.

use super::{Pending, Scheduler};
use crate::engine::sglang::record::StepKind;
use crate::serving::RequestLog;

impl Scheduler<'_> {
    /// Keeps who is in the batch of this step until its results are noticed.
    pub(super) fn choose(&mut self, kind: StepKind, requests: &[u32]) {
        self.chosen.kind = Some(kind);
        self.chosen.requests.extend_from_slice(requests);
    }

    /// Notices results: with overlap those of the step before this one, which ended when this one
    /// began, else those of this step, which ends at `end`.
    pub fn notice(&mut self, begin: u64, end: u64, log: &mut RequestLog) {
        let time = if self.config.overlap {
            std::mem::swap(&mut self.pending, &mut self.chosen);
            begin
        } else {
            end
        };
        let Pending { kind, mut requests } = std::mem::take(&mut self.chosen);
        for &request in &requests {
            if kind == Some(StepKind::Prefill) {
                self.notice_prefill(request, time, log);
            } else {
                self.notice_decode(request, time, log);
            }
        }
        requests.clear();
        self.chosen.requests = requests;
    }

    fn notice_prefill(&mut self, request: u32, time: u64, log: &mut RequestLog) {
        let row = &mut self.requests[request as usize];
        if row.finished || row.retracted {
            return;
        }
        if row.partial_chunks > 0 {
            row.partial_chunks -= 1;
            return;
        }
        let end = row.end;
        if self.append(request, time, log) {
            return;
        }
        let row = &mut self.requests[request as usize];
        self.cache.checkpoint(&mut row.lease, end, false);
        row.prefix = end;
    }

    fn notice_decode(&mut self, request: u32, time: u64, log: &mut RequestLog) {
        let row = self.request(request);
        if !(row.finished || row.retracted) {
            self.append(request, time, log);
        }
    }

    /// Appends a request's next token; ends the request if it is the last. Returns whether it is.
    fn append(&mut self, request: u32, time: u64, log: &mut RequestLog) -> bool {
        let at = request as usize;
        let row = &mut self.requests[at];
        row.outputs += 1;
        if row.outputs == 1 {
            log.first_token_step[at] = self.step;
            log.first_token_ns[at] = time;
        }
        if row.outputs < row.output_len {
            return false;
        }
        let upto = row.lease.allocated.min(row.known());
        self.cache.finish(&mut row.lease, upto);
        row.finished = true;
        row.row = false;
        self.free_rows += 1;
        self.unfinished -= 1;
        self.finished += 1;
        log.finish_step[at] = self.step;
        log.finish_ns[at] = time;
        true
    }
}
