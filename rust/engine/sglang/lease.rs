//! What a running request holds of the cache.

use super::trie::NodeId;

/// What a running request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its sequence: prompt and output.
    pub sequence: u32,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Its priority in the tree.
    pub priority: i64,
    /// Tokens that have KV.
    pub allocated: u32,
    /// Leading tokens whose KV belongs to the tree.
    pub in_tree: u32,
    /// Leading tokens it inserted itself since its admission.
    pub inserted: u32,
    /// The node it holds.
    pub node: NodeId,
}

impl Lease {
    /// A request that holds nothing.
    #[must_use]
    pub fn new(sequence: u32, prompt: u32, priority: i64) -> Self {
        Self {
            sequence,
            prompt,
            priority,
            allocated: 0,
            in_tree: 0,
            inserted: 0,
            node: NodeId::ROOT,
        }
    }
}
