//! The reuse intervals turned around: who uses a stretch of blocks next.

use super::Profile;
use crate::error::{Error, Result};
use crate::index::{Ix, RequestIx};

/// Blocks of a path up to depth `end`, from the end of the interval before, next used by `request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct NextUse {
    pub end: u32,
    pub request: RequestIx,
}

/// For each request, the stretches of its path by who uses them next, ascending in depth and in
/// time; what none names is never used again.
#[derive(Debug)]
pub(crate) struct NextUses {
    offsets: Vec<u32>,
    uses: Vec<NextUse>,
}

impl NextUses {
    /// Turns the reuse intervals of a profile around: an interval of request u last used by t
    /// means that this stretch of t's path is next used by u.
    #[allow(clippy::cast_possible_truncation)] // Checked where the intervals are made.
    pub fn new(profile: &Profile) -> Self {
        let requests = profile.requests();
        let mut offsets = vec![0u32; requests + 2];
        for t in 0..requests {
            for interval in profile.reuse(RequestIx::from_usize(t)) {
                offsets[interval.last_use.usize() + 2] += 1;
            }
        }
        for i in 2..offsets.len() {
            offsets[i] += offsets[i - 1];
        }
        let mut uses = vec![NextUse::default(); profile.reuse_intervals()];
        for t in 0..requests {
            let request = RequestIx::from_usize(t);
            for interval in profile.reuse(request) {
                let place = &mut offsets[interval.last_use.usize() + 1];
                uses[*place as usize] = NextUse {
                    end: interval.end,
                    request,
                };
                *place += 1;
            }
        }
        offsets.pop();
        Self { offsets, uses }
    }

    /// The stretches of one request.
    pub fn of(&self, request: RequestIx) -> &[NextUse] {
        let t = request.usize();
        &self.uses[self.offsets[t] as usize..self.offsets[t + 1] as usize]
    }

    /// Checks every invariant.
    pub fn validate(&self) -> Result<()> {
        for t in 0..self.offsets.len().saturating_sub(1) {
            let request = RequestIx::from_usize(t);
            let mut before = NextUse { end: 0, request };
            for &next in self.of(request) {
                if next.end <= before.end || next.request <= before.request {
                    return Err(Error::bug(format!(
                        "next uses of request {t} do not get deeper and later"
                    )));
                }
                before = next;
            }
        }
        Ok(())
    }
}
