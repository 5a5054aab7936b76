//! When each running request next needs attention.

use crate::error::{Error, Result};

/// Running requests in order of admission, and for each the next step that has to look at it.
///
/// A request that decodes only computes a token in a slot it has, in most steps. The calendar lets
/// the scheduler pass over such requests, and over whole steps in which no request is due.
///
/// Between two steps, `next_due` is the smallest entry of `due`.
#[derive(Debug, Clone)]
pub(super) struct DecodeCalendar {
    /// Places of the requests.
    running: Vec<u32>,
    due: Vec<u64>,
    next_due: u64,
}

impl Default for DecodeCalendar {
    fn default() -> Self {
        Self {
            running: Vec::new(),
            due: Vec::new(),
            next_due: u64::MAX,
        }
    }
}

impl DecodeCalendar {
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Places of the running requests, in order of admission.
    pub fn places(&self) -> &[u32] {
        &self.running
    }

    /// Whether the `i`-th request has to be looked at in `step`.
    pub fn is_due(&self, i: usize, step: u64) -> bool {
        self.due[i] <= step
    }

    /// The earliest step in which a request is due; `u64::MAX` if none runs.
    pub fn next_due(&self) -> u64 {
        self.next_due
    }

    /// Adds a request that is due in `step`, which is going on.
    pub fn push(&mut self, place: u32, step: u64) {
        self.running.push(place);
        self.due.push(step);
    }

    /// Removes the `i`-th request; returns its place.
    pub fn remove(&mut self, i: usize) -> u32 {
        self.due.remove(i);
        self.running.remove(i)
    }

    /// Lets every request be due in `step`.
    pub fn all_due(&mut self, step: u64) {
        self.due.fill(step);
    }

    /// Keeps the requests for which `stays` is true.
    pub fn retain(&mut self, stays: impl Fn(u32) -> bool) {
        let mut kept = 0;
        for i in 0..self.running.len() {
            if stays(self.running[i]) {
                self.running[kept] = self.running[i];
                self.due[kept] = self.due[i];
                kept += 1;
            }
        }
        self.running.truncate(kept);
        self.due.truncate(kept);
    }

    /// Ends `step`: asks `quiet` for how many steps each request that was due need not be looked at.
    pub fn plan(&mut self, step: u64, mut quiet: impl FnMut(u32) -> u32) {
        self.next_due = u64::MAX;
        for (&place, due) in self.running.iter().zip(&mut self.due) {
            if *due <= step {
                *due = step + 1 + u64::from(quiet(place));
            }
            self.next_due = self.next_due.min(*due);
        }
    }

    /// Checks every invariant before `step`.
    ///
    /// # Errors
    /// [`Error::Bug`](crate::Error::Bug) naming the first one that does not hold.
    pub fn validate(&self, step: u64) -> Result<()> {
        if self.running.len() != self.due.len() {
            return Err(Error::bug("calendar: a request without an entry"));
        }
        if self.next_due != self.due.iter().copied().min().unwrap_or(u64::MAX) {
            return Err(Error::bug(format!(
                "calendar: {} is not the earliest step",
                self.next_due
            )));
        }
        if self.next_due < step {
            return Err(Error::bug(format!(
                "calendar: step {} was missed, the next is {step}",
                self.next_due
            )));
        }
        let mut places = self.running.clone();
        places.sort_unstable();
        places.dedup();
        if places.len() != self.running.len() {
            return Err(Error::bug("calendar: a request runs twice"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_is_that_of_the_request_that_is_due_first() {
        let mut calendar = DecodeCalendar::default();
        assert_eq!(calendar.next_due(), u64::MAX);
        for place in [3, 7, 5] {
            calendar.push(place, 1);
        }
        assert!(calendar.is_due(2, 1));
        calendar.plan(1, |place| place);
        assert_eq!(calendar.next_due(), 5);
        assert_eq!(calendar.validate(2), Ok(()));
        assert!(!calendar.is_due(0, 4) && calendar.is_due(0, 5));
        // Only who was due is asked again.
        calendar.plan(5, |place| if place == 3 { 100 } else { unreachable!() });
        assert_eq!(calendar.next_due(), 7);
        assert_eq!(calendar.validate(6), Ok(()));
        assert!(calendar.validate(8).is_err());
    }

    #[test]
    fn order_survives_those_who_leave() {
        let mut calendar = DecodeCalendar::default();
        for place in 0..6 {
            calendar.push(place, 1);
        }
        calendar.retain(|place| place % 2 == 0);
        assert_eq!(calendar.places(), [0, 2, 4]);
        assert_eq!(calendar.remove(2), 4);
        calendar.all_due(9);
        calendar.plan(9, |_| 0);
        assert_eq!((calendar.len(), calendar.next_due()), (2, 10));
        assert_eq!(calendar.validate(10), Ok(()));
        calendar.retain(|_| false);
        calendar.plan(10, |_| 0);
        assert_eq!(calendar.len(), 0);
        assert_eq!(calendar.validate(u64::MAX), Ok(()));
    }

    #[test]
    fn broken_calendars_are_found() {
        let mut calendar = DecodeCalendar::default();
        calendar.push(1, 1);
        assert!(calendar.validate(1).is_err()); // Not planned.
        calendar.push(1, 1);
        calendar.plan(1, |_| 0);
        assert!(calendar.validate(2).is_err()); // Twice.
    }
}
