//! The default: XXH3-64 of each block, mixed with the parent.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

use super::proof::{self, Proof};
use super::{BlockKey, Chain, Context, cbor};

/// Key of one block under [`Xxh3Chain`].
///
/// Two keys are equal only if three 64-bit values are, and a second hash of the whole prefix under keys
/// of this process: neither an accidental nor a constructed collision becomes a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Xxh3Key {
    /// `XXH3-64(parent || block)`, little-endian: identifies the whole prefix.
    pub sequence: u64,
    /// `XXH3-64` of the block's tokens as little-endian `u32`.
    pub block: u64,
    /// `sequence` of the block before, or of the root.
    pub parent: u64,
    /// Of the whole prefix; of the block alone until it is chained.
    proof: Proof,
}

impl Xxh3Key {
    /// A key to fill unused places with.
    pub(crate) const BLANK: Self = Self {
        sequence: 0,
        block: 0,
        parent: 0,
        proof: [0; 2],
    };

    /// The root of a sequence: a parent that stands for `sequence`.
    #[must_use]
    pub fn root(sequence: u64) -> Self {
        Self {
            sequence,
            proof: proof::ids(&[sequence]),
            ..Self::default()
        }
    }

    /// The key of `block`, which is not chained yet, behind this one.
    fn child(self, block: Self) -> Self {
        Self {
            sequence: mix(self.sequence, block.block),
            block: block.block,
            parent: self.sequence,
            proof: proof::child(self.proof, block.proof),
        }
    }
}

impl BlockKey for Xxh3Key {
    fn bits(&self) -> u64 {
        // With the keyed hash: where entries of a table fall cannot be constructed either.
        self.sequence ^ self.proof[0]
    }
}

/// `block_hash = XXH3-64(tokens)`, `sequence_hash = XXH3-64(parent || block_hash)`.
///
/// Block hashes are independent of each other, so the processor overlaps them; only the 16-byte
/// mix is serial. The root of a sequence without salt and `LoRA` is 0, else the XXH3-64 of their
/// canonical CBOR; extra keys of a single block (images) are mixed into its parent.
///
/// ```
/// use prefixsim::hash::{Chain, Context, Xxh3Chain};
/// let (plain, mut keys) = (Context::default(), Vec::new());
/// Xxh3Chain.extend(Xxh3Chain.root(&plain), &plain, 0, &[1, 2, 3, 4, 5], 2, &mut keys);
/// assert_eq!(keys.len(), 2); // the fifth token is a partial block
/// assert_eq!(keys[1].parent, keys[0].sequence);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Xxh3Chain;

impl Chain for Xxh3Chain {
    type Key = Xxh3Key;

    fn root(&self, context: &Context) -> Xxh3Key {
        let values = context.sequence_values();
        if values.is_empty() {
            return Xxh3Key::root(0);
        }
        let mut bytes = Vec::new();
        cbor::array(&mut bytes, &values);
        Xxh3Key {
            sequence: xxh3_64(&bytes),
            proof: proof::bytes(&bytes),
            ..Xxh3Key::default()
        }
    }

    fn extend(
        &self,
        parent: Xxh3Key,
        context: &Context,
        first_block: usize,
        tokens: &[u32],
        block_size: usize,
        keys: &mut Vec<Xxh3Key>,
    ) {
        let start = keys.len();
        block_hashes(tokens, block_size, keys);
        if context.has_block_values() {
            let mut last = parent;
            for (i, key) in keys[start..].iter_mut().enumerate() {
                let values = context.block_values(first_block + i, block_size);
                if !values.is_empty() {
                    let mut bytes = Vec::new();
                    cbor::array(&mut bytes, &values);
                    last.sequence = mix(last.sequence, xxh3_64(&bytes));
                    last.proof = proof::extra(last.proof, proof::bytes(&bytes));
                }
                *key = last.child(*key);
                last = *key;
            }
        } else {
            chain(parent, &mut keys[start..]);
        }
    }

    fn bytes<'k>(&self, key: &'k Xxh3Key) -> Cow<'k, [u8]> {
        Cow::Owned(key.sequence.to_be_bytes().to_vec())
    }
}

/// Chains keys of single blocks behind a root.
pub(crate) fn chain(root: Xxh3Key, keys: &mut [Xxh3Key]) {
    let mut parent = root;
    for key in keys {
        *key = parent.child(*key);
        parent = *key;
    }
}

/// The key of a block of hash ids, not chained yet.
pub(crate) fn of_ids(ids: &[u64]) -> Xxh3Key {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    Xxh3Key {
        block: xxh3_64(&bytes),
        proof: proof::ids(ids),
        ..Xxh3Key::default()
    }
}

/// Appends one key per full block, not chained yet.
pub(crate) fn block_hashes(tokens: &[u32], block_size: usize, keys: &mut Vec<Xxh3Key>) {
    let hash_block = |tokens: &[u32], bytes: &[u8]| Xxh3Key {
        block: xxh3_64(bytes),
        proof: proof::block(tokens),
        ..Xxh3Key::default()
    };
    if block_size == 16 {
        // The common size on the stack: no length to look up, and the copy is four vector moves.
        keys.extend(tokens.chunks_exact(16).map(|block| {
            let mut bytes = [0; 64];
            to_bytes(block, &mut bytes);
            hash_block(block, &bytes)
        }));
    } else {
        let mut bytes = vec![0; block_size * 4];
        keys.extend(tokens.chunks_exact(block_size).map(|block| {
            to_bytes(block, &mut bytes);
            hash_block(block, &bytes)
        }));
    }
}

fn to_bytes(tokens: &[u32], bytes: &mut [u8]) {
    for (target, token) in bytes.chunks_exact_mut(4).zip(tokens) {
        target.copy_from_slice(&token.to_le_bytes());
    }
}

fn mix(parent: u64, block: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&parent.to_le_bytes());
    bytes[8..].copy_from_slice(&block.to_le_bytes());
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(tokens: &[u32], block_size: usize, context: &Context) -> Vec<Xxh3Key> {
        let mut keys = Vec::new();
        let root = Xxh3Chain.root(context);
        Xxh3Chain.extend(root, context, 0, tokens, block_size, &mut keys);
        keys
    }

    #[test]
    fn a_block_is_the_xxh3_of_its_little_endian_tokens() {
        let tokens: Vec<u32> = (1000..1016).collect();
        let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
        let plain = Context::default();
        let key = keys(&tokens, 16, &plain)[0];
        assert_eq!(key.block, xxh3_64(&bytes));
        let mut both = vec![0; 8];
        both.extend(key.block.to_le_bytes());
        assert_eq!(key.sequence, xxh3_64(&both));
        assert_eq!(keys(&tokens, 4, &plain).len(), 4);
    }

    /// XXH3 multiplies 64-bit words of the input, each under a word of a fixed secret: where one is the
    /// secret, the product is 0 whatever the other.
    fn colliding(x: u32, y: u32) -> Vec<u32> {
        let mut tokens = vec![0x396c_feb8, 0xbe4b_a423, x, y];
        tokens.resize(16, 7);
        tokens
    }

    #[test]
    fn blocks_made_to_collide_are_not_the_same() {
        let plain = Context::default();
        let [a, b] = [colliding(1, 2), colliding(3, 4)].map(|tokens| keys(&tokens, 16, &plain)[0]);
        assert_eq!(
            (a.block, a.sequence, a.parent),
            (b.block, b.sequence, b.parent)
        );
        assert_ne!(a, b);
        // What follows is not the same either, whatever it is.
        let tail: Vec<u32> = (0..16).collect();
        let [c, d] = [(1, 2), (3, 4)]
            .map(|(x, y)| keys(&[colliding(x, y), tail.clone()].concat(), 16, &plain)[1]);
        assert_eq!(
            (c.block, c.sequence, c.parent),
            (d.block, d.sequence, d.parent)
        );
        assert_ne!(c, d);
    }

    #[test]
    fn salts_and_ids_are_proven_too() {
        let [a, b] = ["a", "b"].map(|salt| Xxh3Chain.root(&Context::with_salt(salt)));
        assert_ne!(a.proof, b.proof);
        let low = 0xbe4b_a423_396c_feb8;
        let [a, b] = [1, 2].map(|id| of_ids(&[low, id, 7, 7, 7, 7, 7, 7]));
        assert_eq!(a.block, b.block);
        assert_ne!(a, b);
    }

    #[test]
    fn extending_in_pieces_is_extending_at_once() {
        let tokens: Vec<u32> = (0..64).collect();
        let plain = Context::default();
        let whole = keys(&tokens, 8, &plain);
        let mut pieces = keys(&tokens[..24], 8, &plain);
        Xxh3Chain.extend(pieces[2], &plain, 3, &tokens[24..], 8, &mut pieces);
        assert_eq!(whole, pieces);
    }

    #[test]
    fn what_isolates_changes_every_key_after_it() {
        let tokens: Vec<u32> = (0..64).collect();
        let plain = keys(&tokens, 16, &Context::default());
        let salted = keys(&tokens, 16, &Context::with_salt("a"));
        assert!(plain.iter().zip(&salted).all(|(a, b)| a != b));
        let image = Context {
            multimodal: vec![super::super::MultiModalItem {
                identifier: "i".into(),
                offset: 20,
                length: 4,
            }],
            ..Context::default()
        };
        let seen = keys(&tokens, 16, &image);
        assert_eq!(seen[0], plain[0]);
        assert!(plain[1..].iter().zip(&seen[1..]).all(|(a, b)| a != b));
    }
}
