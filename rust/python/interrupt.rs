//! Long calls: the GIL released, Ctrl-C still heard.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::prelude::*;

use super::pool::pooled;
use crate::error::{Error, Result};
use crate::stop::Stop;

/// How often the calling thread looks for a pending signal.
const SIGNAL_POLL: Duration = Duration::from_millis(50);

/// Runs `work` on another thread with the GIL released, and asks it to stop on a pending signal.
///
/// # Errors
/// What `work` returns; the signal handler's exception (`KeyboardInterrupt`) after a signal;
/// `RuntimeError` if `work` panicked.
// The method itself is not general enough over the lifetime of `py`.
#[allow(clippy::redundant_closure_for_method_calls)]
pub fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&Stop) -> Result<T> + Send,
) -> PyResult<T> {
    let stop = Stop::default();
    let mut signal = None;
    let outcome = py.detach(|| {
        std::thread::scope(|scope| {
            let (done, finished) = channel::<()>();
            let stop = &stop;
            let worker = scope.spawn(move || {
                let outcome = pooled(|| work(stop));
                drop(done);
                outcome
            });
            while finished.recv_timeout(SIGNAL_POLL) == Err(RecvTimeoutError::Timeout) {
                if signal.is_none()
                    && let Err(error) = Python::attach(|py| py.check_signals())
                {
                    signal = Some(error);
                    stop.request();
                }
            }
            worker.join()
        })
    });
    if let Some(error) = signal {
        return Err(error);
    }
    Ok(outcome.unwrap_or_else(|_| panicked())?)
}

/// Runs `work`, which is short, with the GIL released.
///
/// # Errors
/// What `work` returns; `RuntimeError` if it panicked.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    let outcome = py.detach(|| catch_unwind(AssertUnwindSafe(|| pooled(work))));
    Ok(outcome.unwrap_or_else(|_| panicked())?)
}

/// What a panic of the core is to Python: its message has been printed.
fn panicked<T>() -> Result<T> {
    Err(Error::bug("a computation of the core panicked"))
}
