//! How a KV-cache manager behaves.

use super::ReleaseOrder;
use crate::error::{Error, Result};

/// Which blocks of a sliding-window model keep their hash (vLLM's `prefix_cache_retention_interval`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retention {
    /// All.
    #[default]
    Dense,
    /// Only those that a request with the same prompt needs (vLLM's default, 0).
    PromptEnd,
    /// The end of every interval of so many tokens, a multiple of the block size, and the end of the
    /// prompt.
    Interval(u32),
}

/// Attention to the last `window` tokens only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Tokens, the current one included; at least 2.
    pub window: u32,
    /// Which blocks are cached.
    pub retention: Retention,
    /// `max_num_batched_tokens`, by which the admission check bounds what a request holds at once.
    /// `None`: no such bound.
    pub batch_tokens: Option<u32>,
}

/// Where released slots that hold no cached block enter the free queue: at its front, the next to be
/// taken, or at its back in the order of release like all others. Each version of vLLM has one of these
/// rules (`block_pool.py`, in 0.23 also `single_type_kv_cache_manager.py`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UncachedFirst {
    /// At the front: 0.24 to 0.26, and from 0.28 on.
    #[default]
    Always,
    /// At the front, but with caching off at the back: 0.27.
    WithCaching,
    /// At the front in groups with a sliding window, at the back with full attention: 0.23.
    WithWindow,
    /// At the back: 0.22 and older.
    Never,
}

/// How a [`Manager`](super::Manager) behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagerConfig {
    /// Tokens per block.
    pub block_size: u32,
    /// `false`: nothing is ever cached.
    pub enable_caching: bool,
    /// Tokens beyond which no slot is allocated.
    pub max_model_len: u32,
    /// Slots to keep free when a request is admitted beside others.
    pub watermark_slots: u32,
    /// `None`: full attention.
    pub sliding_window: Option<SlidingWindow>,
    /// Where released slots without a cached block enter the free queue.
    pub uncached_first: UncachedFirst,
}

impl ManagerConfig {
    /// Full attention, caching on, no limit of length, no watermark.
    #[must_use]
    pub fn new(block_size: u32) -> Self {
        Self {
            block_size,
            enable_caching: true,
            max_model_len: u32::MAX,
            watermark_slots: 0,
            sliding_window: None,
            uncached_first: UncachedFirst::Always,
        }
    }

    /// In which order this manager's slots enter the free queue.
    #[must_use]
    pub fn release_order(&self) -> ReleaseOrder {
        let uncached_first = match self.uncached_first {
            UncachedFirst::Always => true,
            UncachedFirst::WithCaching => self.enable_caching,
            UncachedFirst::WithWindow => self.sliding_window.is_some(),
            UncachedFirst::Never => false,
        };
        if uncached_first {
            ReleaseOrder::UncachedFirst
        } else {
            ReleaseOrder::AllLast
        }
    }

    /// # Errors
    /// A size that is zero, a window below 2, or a retention interval that is no multiple of the
    /// block size.
    pub fn validate(&self) -> Result<()> {
        if self.block_size == 0 {
            return Err(Error::range("block_size is 0, it must be positive"));
        }
        if let Some(sliding) = self.sliding_window {
            if sliding.window < 2 {
                return Err(Error::range(format!(
                    "sliding_window is {}, it must be at least 2",
                    sliding.window
                )));
            }
            if let Retention::Interval(interval) = sliding.retention
                && (interval == 0 || interval % self.block_size != 0)
            {
                return Err(Error::range(format!(
                    "retention interval {interval} is not a positive multiple of the block size {}",
                    self.block_size
                )));
            }
        }
        Ok(())
    }
}
