//! A flag by which one thread asks another to end a long computation.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// Asked for by the caller's thread, looked at by every long loop of the core.
///
/// ```
/// let stop = prefixsim::Stop::default();
/// assert!(stop.check().is_ok());
/// stop.request();
/// assert!(stop.check().is_err());
/// ```
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Requests between two looks at the flag, in the long loops of the core.
    pub const INTERVAL: usize = 4096;

    /// Asks the computation to end soon.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Called by long loops every few thousand requests.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once [`Stop::request`] was called.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }
}
