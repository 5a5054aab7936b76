//! The threads that computations are spread over, also in a process that was forked.
//!
//! A fork copies no threads: the pool of the parent would wait forever in the child. A child gets a pool
//! of its own.

use std::sync::atomic::{AtomicU32, Ordering};

/// The process that the common pool belongs to; 0 before its first use.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Runs `work` where its parallel parts find threads.
pub fn pooled<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let here = std::process::id();
    let owner = OWNER
        .compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed)
        .unwrap_or_else(|owner| owner);
    if owner == 0 || owner == here {
        return work();
    }
    match rayon::ThreadPoolBuilder::new().build() {
        Ok(pool) => pool.install(work),
        // No threads to be had: this one alone.
        Err(_) => match rayon::ThreadPoolBuilder::new()
            .use_current_thread()
            .num_threads(1)
            .build()
        {
            Ok(pool) => pool.install(work),
            Err(_) => work(),
        },
    }
}
