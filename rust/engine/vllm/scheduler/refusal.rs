//! Why asking for an admission again would be useless.

use crate::error::{Error, Result};
use crate::serving::NoRoom;

/// What the answer to an admission depends on, besides the request at the head of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Situation {
    /// Version of the cache.
    pub version: u64,
    /// Requests running.
    pub running: usize,
    /// Requests waiting.
    pub waiting: usize,
    /// Tokens left of the step's.
    pub budget: u64,
}

/// What the refused lookup counts for, each time it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lookup {
    pub queries: u64,
    pub hits: u64,
    pub preempted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    then: Situation,
    /// Version of the cache before which the answer is the same.
    until: u64,
    /// Whether that holds however many of the step's tokens are left.
    whatever_chunk: bool,
    lookup: Lookup,
}

/// Remembers why the request at the head of the queue was not admitted, to know when to ask again.
///
/// The owner calls [`forget`](Self::forget) whenever another request comes to the head of the queue.
#[derive(Debug, Clone, Default)]
pub(super) struct RefusalMemo(Option<Refusal>);

impl RefusalMemo {
    /// There was no room in a situation.
    pub fn remember(&mut self, then: Situation, no_room: NoRoom, lookup: Lookup) {
        self.0 = Some(Refusal {
            then,
            until: no_room.until,
            whatever_chunk: no_room.whatever_chunk,
            lookup,
        });
    }

    /// Nothing is known of the head of the queue.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// Whether the answer is known to be no.
    pub fn is_refused(&self, now: Situation) -> bool {
        let Some(refusal) = self.0 else {
            return false;
        };
        let then = refusal.then;
        let same = if refusal.whatever_chunk {
            // Only the reserve beside other requests matters.
            (then.running == 0) == (now.running == 0)
        } else {
            then.budget == now.budget && then.running == now.running && then.waiting == now.waiting
        };
        same && now.version < refusal.until
    }

    /// The refused lookup.
    pub fn lookup(&self) -> Option<Lookup> {
        self.0.map(|refusal| refusal.lookup)
    }

    /// Checks every invariant; `version` and `waiting` as they are now.
    ///
    /// # Errors
    /// [`Error::Bug`](crate::Error::Bug) naming the first one that does not hold.
    pub fn validate(&self, version: u64, waiting: usize) -> Result<()> {
        let Some(refusal) = self.0 else {
            return Ok(());
        };
        if waiting == 0 {
            return Err(Error::bug("a refusal is known, but no request waits"));
        }
        if refusal.then.version > version || refusal.until <= refusal.then.version {
            return Err(Error::bug(format!(
                "refused at version {} until {}, but now is {version}",
                refusal.then.version, refusal.until
            )));
        }
        if refusal.lookup.hits >= refusal.lookup.queries {
            return Err(Error::bug("a refused lookup found every token"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Situation = Situation {
        version: 10,
        running: 2,
        waiting: 3,
        budget: 100,
    };
    const LOOKUP: Lookup = Lookup {
        queries: 9,
        hits: 4,
        preempted: false,
    };

    fn refused(until: u64, whatever_chunk: bool) -> RefusalMemo {
        let mut memo = RefusalMemo::default();
        let no_room = NoRoom {
            until,
            whatever_chunk,
        };
        memo.remember(THEN, no_room, LOOKUP);
        memo
    }

    #[test]
    fn a_chunk_that_does_not_fit_is_asked_for_again_when_anything_changes() {
        let memo = refused(11, false);
        assert!(memo.is_refused(THEN));
        for now in [
            Situation {
                version: 11,
                ..THEN
            },
            Situation { running: 1, ..THEN },
            Situation { waiting: 4, ..THEN },
            Situation { budget: 99, ..THEN },
        ] {
            assert!(!memo.is_refused(now), "{now:?}");
        }
    }

    #[test]
    fn a_prompt_that_does_not_fit_waits_for_slots() {
        let memo = refused(15, true);
        let other = Situation {
            version: 14,
            running: 1,
            waiting: 9,
            budget: 1,
        };
        assert!(memo.is_refused(other));
        // Without others there is no reserve to keep.
        assert!(!memo.is_refused(Situation {
            running: 0,
            ..other
        }));
        assert!(!memo.is_refused(Situation {
            version: 15,
            ..other
        }));
    }

    #[test]
    fn another_head_is_another_question() {
        let mut memo = refused(15, true);
        assert_eq!(memo.lookup(), Some(LOOKUP));
        assert_eq!(memo.validate(12, 1), Ok(()));
        assert!(memo.validate(12, 0).is_err() && memo.validate(9, 1).is_err());
        memo.forget();
        assert!(!memo.is_refused(THEN));
        assert_eq!(memo.lookup(), None);
        assert_eq!(memo.validate(0, 0), Ok(()));
    }
}
