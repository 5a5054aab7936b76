//! The algorithms of vLLM, byte for byte.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use super::{BlockKey, Chain, Context, cbor, pickle};

/// What vLLM 0.33 hashes into `NONE_HASH`, the root, when `PYTHONHASHSEED` is not set.
const DEFAULT_SEED: &str = "vllm-none-hash";

/// vLLM's `--prefix-caching-hash-algo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// SHA-256 of canonical CBOR.
    Sha256Cbor,
    /// SHA-256 of a pickle, protocol 5.
    Sha256,
    /// XXH3-128 of canonical CBOR.
    XxhashCbor,
    /// XXH3-128 of a pickle, protocol 5.
    Xxhash,
}

impl DigestAlgorithm {
    fn is_cbor(self) -> bool {
        matches!(self, Self::Sha256Cbor | Self::XxhashCbor)
    }

    fn is_sha256(self) -> bool {
        matches!(self, Self::Sha256Cbor | Self::Sha256)
    }

    /// Length of a hash in bytes: 32 or 16.
    #[must_use]
    pub fn len(self) -> usize {
        if self.is_sha256() { 32 } else { 16 }
    }

    /// Never: a hash has bytes.
    #[must_use]
    pub fn is_empty(self) -> bool {
        false
    }

    fn digest(self, bytes: &[u8]) -> Digest {
        let mut digest = [0; 32];
        if self.is_sha256() {
            digest.copy_from_slice(&Sha256::digest(bytes));
        } else {
            digest[..16].copy_from_slice(&xxh3_128(bytes).to_be_bytes());
        }
        Digest(digest)
    }
}

/// A hash of 32 bytes, or of 16 followed by zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl BlockKey for Digest {
    fn bits(&self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.0[i]))
    }
}

/// Block hashes as vLLM 0.33 computes them: `H(i) = F((H(i-1), tokens, extra keys))`.
///
/// ```
/// use prefixsim::hash::{DigestAlgorithm, DigestChain};
/// let chain = DigestChain::new(DigestAlgorithm::Sha256Cbor, None);
/// assert_eq!(chain.none_hash().0[..4], [0x9b, 0xd9, 0x6a, 0x48]);
/// ```
#[derive(Debug, Clone)]
pub struct DigestChain {
    algorithm: DigestAlgorithm,
    none_hash: Digest,
}

impl DigestChain {
    /// `seed` is the server's `PYTHONHASHSEED`; `None` if it is not set.
    ///
    /// Without a seed vLLM starts the two xxhash algorithms from a random root, which nothing can
    /// match; this uses the root that the SHA-256 algorithms use.
    #[must_use]
    pub fn new(algorithm: DigestAlgorithm, seed: Option<&str>) -> Self {
        let mut bytes = Vec::new();
        let seed = seed.unwrap_or(DEFAULT_SEED);
        if algorithm.is_cbor() {
            cbor::text(&mut bytes, seed);
        } else {
            pickle::text(&mut bytes, seed);
        }
        Self {
            algorithm,
            none_hash: algorithm.digest(&bytes),
        }
    }

    /// The parent of the first block.
    #[must_use]
    pub fn none_hash(&self) -> Digest {
        self.none_hash
    }
}

impl Chain for DigestChain {
    type Key = Digest;

    fn root(&self, _: &Context) -> Digest {
        self.none_hash
    }

    fn extend(
        &self,
        parent: Digest,
        context: &Context,
        first_block: usize,
        tokens: &[u32],
        block_size: usize,
        keys: &mut Vec<Digest>,
    ) {
        let mut parent = parent;
        let mut bytes = Vec::new();
        for (i, block) in tokens.chunks_exact(block_size).enumerate() {
            let extra = context.extra_keys(first_block + i, block_size);
            bytes.clear();
            let parent_bytes = &parent.0[..self.algorithm.len()];
            if self.algorithm.is_cbor() {
                cbor::block(&mut bytes, parent_bytes, block, &extra);
            } else {
                pickle::block(&mut bytes, parent_bytes, block, &extra);
            }
            parent = self.algorithm.digest(&bytes);
            keys.push(parent);
        }
    }

    fn bytes<'k>(&self, key: &'k Digest) -> Cow<'k, [u8]> {
        Cow::Borrowed(&key.0[..self.algorithm.len()])
    }
}
