//! Time to live.

use super::Setting;
use super::leaves::Rank;
use super::parameters::parameters;
use super::ranked::{Ranked, Ranking, ordered};
use crate::error::{Error, Result};
use crate::index::{Ix, RequestIx};

parameters! {
    /// Parameters of [`Ttl`].
    TtlParameters {
        /// Seconds for which a block is kept.
        seconds: f64 = 300.0, in 0.0..=f64::MAX;
        /// Whether every use begins the time anew; else it runs from when the block came in.
        renew: bool = true, in false..=true;
    }
}

/// Drops blocks when their time is over: a request at time t hits what was used (or came in, without
/// renewal) at t - `seconds` or later. Where room is short, the block whose time is over first goes.
///
/// A prefix is of use only as a whole: without renewal a block's time is over no later than that of
/// the block before it.
#[derive(Debug, Clone, Copy)]
pub struct Ttl<'p> {
    timestamp: &'p [f64],
    parameters: TtlParameters,
}

/// When blocks leave, and the request that set it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deadline {
    at: f64,
    set_by: RequestIx,
}

impl<'p> Ttl<'p> {
    /// An empty cache.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one timestamp per request.
    pub fn build(setting: &Setting<'p>, parameters: TtlParameters) -> Result<Ranked<'p, Self>> {
        let timestamp = setting.facts.timestamp;
        Error::check_rows("timestamp", timestamp.len(), setting.profile.requests())?;
        let ranking = Self {
            timestamp,
            parameters,
        };
        Ok(Ranked::new(setting, ranking))
    }

    fn deadline(&self, request: RequestIx) -> Deadline {
        Deadline {
            at: self.timestamp[request.usize()] + self.parameters.seconds,
            set_by: request,
        }
    }
}

impl Ranking for Ttl<'_> {
    type State = Deadline;

    fn expiry(&mut self, request: RequestIx) -> Rank {
        (ordered(self.timestamp[request.usize()]), 0)
    }

    fn admitted(&mut self, request: RequestIx, above: Option<&Deadline>) -> Deadline {
        let own = self.deadline(request);
        above.map_or(own, |above| Deadline {
            at: own.at.min(above.at),
            ..own
        })
    }

    fn used(&mut self, request: RequestIx, deadline: &mut Deadline) {
        if self.parameters.renew {
            *deadline = self.deadline(request);
        }
    }

    fn rank(&self, deadline: &Deadline, _end: u32) -> Rank {
        (ordered(deadline.at), deadline.set_by.get().into())
    }
}
