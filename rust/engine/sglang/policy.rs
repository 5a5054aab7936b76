//! The order in which leaves are evicted.

use super::trie::Node;
use super::version::{Version, choose};
use crate::error::{Error, Result};

/// Order of eviction (SGLang's `--radix-eviction-policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Least recently used first.
    #[default]
    Lru,
    /// Least frequently used first. In 0.5.9 uses are never counted: the same as [`Policy::Lru`].
    Lfu,
    /// Oldest node first.
    Fifo,
    /// Most recently used first.
    Mru,
    /// Youngest node first.
    Filo,
    /// Lowest priority first.
    Priority,
    /// Segmented LRU: nodes with fewer hits than the threshold first.
    Slru {
        /// Hits from which a node is protected.
        protected_threshold: u32,
    },
    /// LRU, but first the leaves whose loss leaves enough of what once was cached on their path.
    Tlru {
        /// Tokens that may be lost.
        threshold: i64,
        /// Tokens by which the next prompt is expected to be longer.
        next_prompt_estimate: i64,
    },
}

/// What leaves are sorted by; the smallest is evicted first.
pub(super) type EvictionKey = (i64, u64);

impl Policy {
    /// All policies, by name, with SGLang's default parameters.
    pub const ALL: [(&'static str, Self); 8] = [
        ("lru", Self::Lru),
        ("lfu", Self::Lfu),
        ("fifo", Self::Fifo),
        ("mru", Self::Mru),
        ("filo", Self::Filo),
        ("priority", Self::Priority),
        (
            "slru",
            Self::Slru {
                protected_threshold: 2,
            },
        ),
        (
            "tlru",
            Self::Tlru {
                threshold: 0,
                next_prompt_estimate: 0,
            },
        ),
    ];

    /// The policy of that name, with SGLang's default parameters.
    ///
    /// # Errors
    /// [`Error::Range`] listing the names there are.
    pub fn from_name(name: &str) -> Result<Self> {
        choose("radix_eviction_policy", name, &Self::ALL)
    }

    /// # Errors
    /// [`Error::Range`] if the version has no such policy.
    pub fn check(self, version: Version) -> Result<()> {
        let (name, known) = match self {
            Self::Slru { .. } => ("slru", !version.is_0509()),
            Self::Tlru { .. } => ("tlru", version.is_unified()),
            _ => return Ok(()),
        };
        if known {
            return Ok(());
        }
        let (version, _) = Version::ALL
            .into_iter()
            .find(|v| v.1 == version)
            .unwrap_or_default();
        Err(Error::range(format!(
            "radix_eviction_policy {name:?}: {version} does not have it, choose another"
        )))
    }

    /// Where a leaf stands in the order.
    pub(super) fn key(self, node: &Node) -> EvictionKey {
        let first = match self {
            Self::Lru => 0,
            Self::Mru => return (0, !node.accessed),
            Self::Fifo => node.created.cast_signed(),
            Self::Filo => -node.created.cast_signed(),
            Self::Lfu => i64::from(node.hits),
            Self::Priority => node.priority,
            Self::Slru {
                protected_threshold,
            } => i64::from(node.hits >= protected_threshold),
            Self::Tlru {
                threshold,
                next_prompt_estimate,
            } => {
                let needed = i64::from(node.longest) + next_prompt_estimate - threshold;
                -i64::from(i64::from(node.start) >= needed.max(0))
            }
        };
        (first, node.accessed)
    }
}
