//! Chained hashes of full blocks.
//!
//! The hash of block `i` depends on every token before it: it is computed from the hash of block
//! `i - 1`, the block's own tokens, and what isolates the sequence ([`Context`]: salt, `LoRA`,
//! images). Trailing partial blocks have no hash.
//!
//! [`Xxh3Chain`] is the fast default of prefixsim. [`DigestChain`] reproduces, byte for byte, the
//! four algorithms of vLLM 0.33, so that hashes can be matched with those a server publishes.

mod cbor;
mod context;
mod digest;
pub(crate) mod keyed;
mod pickle;
mod proof;
mod xxh3;

pub use context::{Context, MultiModalItem, Value};
pub use digest::{Digest, DigestAlgorithm, DigestChain};
pub use xxh3::{Xxh3Chain, Xxh3Key};
pub(crate) use xxh3::{chain as chain_blocks, of_ids};

/// A key by which a cache finds a block. Equal keys mean equal prefixes.
pub trait BlockKey: Copy + Eq + Send + Sync + std::fmt::Debug {
    /// 64 well-mixed bits of the key, for hash tables.
    fn bits(&self) -> u64;
}

/// Computes the keys of successive full blocks of a sequence.
pub trait Chain: Send + Sync {
    /// The key of one block; also the parent of the next.
    type Key: BlockKey;

    /// The parent of block 0 of a sequence with this context.
    fn root(&self, context: &Context) -> Self::Key;

    /// Appends the keys of the full blocks in `tokens` to `keys`.
    ///
    /// `tokens` starts at block number `first_block`, whose parent is `parent`; a trailing partial
    /// block is ignored. `block_size` is in tokens and positive.
    fn extend(
        &self,
        parent: Self::Key,
        context: &Context,
        first_block: usize,
        tokens: &[u32],
        block_size: usize,
        keys: &mut Vec<Self::Key>,
    );

    /// The bytes by which users know this key.
    fn bytes<'k>(&self, key: &'k Self::Key) -> std::borrow::Cow<'k, [u8]>;
}
