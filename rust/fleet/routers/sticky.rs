//! Sessions that stay where they began.

use super::simple::least_loaded;
use crate::fleet::replicas::Replicas;
use crate::fleet::router::{Arrival, Decision, Router, Setting, View};
use crate::index::RequestIx;

/// Where a new session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignment {
    /// Anywhere.
    Random,
    /// To a replica with the fewest requests in flight.
    MinLoad,
    /// To a replica with the fewest sessions that have a request in flight.
    MinGroup,
}

/// sglang-router 0.3.2 `manual`: a session stays at the replica of its first request, unless it has been
/// idle for too long or the replica is gone.
#[derive(Debug)]
pub struct Sticky {
    assignment: Assignment,
    /// Seconds after which an idle session is forgotten.
    idle_s: f64,
    /// Per session: its replica and when it was last used.
    bound: Vec<Option<(usize, f64)>>,
    /// Requests in flight of each session at each replica.
    flying: Vec<u32>,
    replicas: usize,
    /// Sessions with a request in flight at each replica.
    groups: Vec<u32>,
    sessions: Vec<u32>,
}

impl Sticky {
    /// No session is bound.
    #[must_use]
    pub fn new(setting: &Setting<'_>, assignment: Assignment, idle_s: f64) -> Self {
        let columns = setting.traffic.columns();
        let sessions = columns.session_names.len();
        let counted = assignment == Assignment::MinGroup;
        Self {
            assignment,
            idle_s,
            bound: vec![None; sessions],
            flying: vec![
                0;
                if counted {
                    sessions * setting.replicas
                } else {
                    0
                }
            ],
            replicas: setting.replicas,
            groups: vec![0; setting.replicas],
            sessions: if counted {
                columns.session.clone()
            } else {
                Vec::new()
            },
        }
    }
}

impl Router for Sticky {
    fn route(&mut self, arrival: &Arrival, view: &View<'_>) -> Decision {
        if let Some((replica, used)) = self.bound[arrival.session as usize]
            && view.available.has(replica)
            && arrival.time - used < self.idle_s
        {
            return Decision::one(replica);
        }
        Decision::among(match self.assignment {
            Assignment::Random => view.available,
            Assignment::MinLoad => least_loaded(view.available, view),
            Assignment::MinGroup => view.available.least_by(|replica| self.groups[replica]),
        })
    }

    fn booked(&mut self, arrival: &Arrival, _: &View<'_>, replica: usize) {
        let session = arrival.session as usize;
        self.bound[session] = Some((replica, arrival.time));
        if let Some(count) = self.flying.get_mut(session * self.replicas + replica) {
            *count += 1;
            self.groups[replica] += u32::from(*count == 1);
        }
    }

    fn finished(&mut self, request: RequestIx, replica: usize) {
        let Some(&session) = self.sessions.get(request.get() as usize) else {
            return;
        };
        let count = &mut self.flying[session as usize * self.replicas + replica];
        *count -= 1;
        self.groups[replica] -= u32::from(*count == 0);
    }

    fn resized(&mut self, available: Replicas) {
        for bound in &mut self.bound {
            *bound = bound.filter(|&(replica, _)| available.has(replica));
        }
    }
}
