//! Simulated time.

use crate::error::{Error, Result};

/// A clock in nanoseconds from the start of the trace. It never reaches `u64::MAX`, which is later
/// than any event.
///
/// ```
/// let mut clock = prefixsim::serving::Clock::default();
/// clock.wait_until(5);
/// clock.pass(10)?;
/// clock.wait_until(3); // Already past.
/// assert_eq!(clock.now(), 15);
/// # Ok::<(), prefixsim::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    now: u64,
}

impl Clock {
    /// The time, in nanoseconds.
    #[must_use]
    pub fn now(self) -> u64 {
        self.now
    }

    /// Lets `duration` nanoseconds pass.
    ///
    /// # Errors
    /// [`Error::Range`] if the clock reaches 2^64 - 1 ns.
    pub fn pass(&mut self, duration: u64) -> Result<()> {
        self.now = self.after(duration)?;
        Ok(())
    }

    /// The time `duration` nanoseconds from now.
    ///
    /// # Errors
    /// [`Error::Range`] if that is not below 2^64 - 1 ns.
    pub fn after(self, duration: u64) -> Result<u64> {
        let time = self.now.checked_add(duration);
        time.filter(|&time| time < u64::MAX).ok_or_else(overflow)
    }

    /// Lets `steps` times `duration` nanoseconds pass; returns their sum.
    ///
    /// # Errors
    /// [`Error::Range`] if the clock reaches 2^64 - 1 ns.
    pub fn pass_steps(&mut self, steps: u64, duration: u64) -> Result<u64> {
        let total = steps.checked_mul(duration).ok_or_else(overflow)?;
        self.pass(total)?;
        Ok(total)
    }

    /// Idles until `time`; does nothing if that is past.
    pub fn wait_until(&mut self, time: u64) {
        self.now = self.now.max(time);
    }
}

fn overflow() -> Error {
    Error::range("the clock passes 2^64 ns (584 years): check timestamps and latency")
}
