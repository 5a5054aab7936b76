//! The default: XXH3-64 of each block, mixed with the parent.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

use super::{BlockKey, Chain, Context, cbor};

/// Key of one block under [`Xxh3Chain`].
///
/// Two keys are equal only if three 64-bit values are: an accidental collision of one of them does
/// not become a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Xxh3Key {
    /// `XXH3-64(parent || block)`, little-endian: identifies the whole prefix.
    pub sequence: u64,
    /// `XXH3-64` of the block's tokens as little-endian `u32`.
    pub block: u64,
    /// `sequence` of the block before, or of the root.
    pub parent: u64,
}

impl Xxh3Key {
    /// The root of a sequence: a parent that stands for `sequence`.
    #[must_use]
    pub fn root(sequence: u64) -> Self {
        Self {
            sequence,
            ..Self::default()
        }
    }

    /// The key of a block with hash `block` that follows this one.
    #[must_use]
    pub fn child(self, block: u64) -> Self {
        Self {
            sequence: mix(self.sequence, block),
            block,
            parent: self.sequence,
        }
    }
}

impl BlockKey for Xxh3Key {
    fn bits(&self) -> u64 {
        self.sequence
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
        Xxh3Key::root(xxh3_64(&bytes))
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
                }
                *key = last.child(key.block);
                last = *key;
            }
        } else {
            chain(parent.sequence, &mut keys[start..]);
        }
    }

    fn bytes<'k>(&self, key: &'k Xxh3Key) -> Cow<'k, [u8]> {
        Cow::Owned(key.sequence.to_be_bytes().to_vec())
    }
}

/// Fills in `sequence` and `parent` of keys whose `block` is known.
pub(crate) fn chain(root: u64, keys: &mut [Xxh3Key]) {
    let mut parent = root;
    for key in keys {
        key.parent = parent;
        key.sequence = mix(parent, key.block);
        parent = key.sequence;
    }
}

/// Appends one key per full block, of which only `block` is filled in.
pub(crate) fn block_hashes(tokens: &[u32], block_size: usize, keys: &mut Vec<Xxh3Key>) {
    let hash_block = |block| Xxh3Key {
        block,
        ..Xxh3Key::default()
    };
    if block_size == 16 {
        // The common size on the stack: no length to look up, and the copy is four vector moves.
        keys.extend(tokens.chunks_exact(16).map(|block| {
            let mut bytes = [0; 64];
            to_bytes(block, &mut bytes);
            hash_block(xxh3_64(&bytes))
        }));
    } else {
        let mut bytes = vec![0; block_size * 4];
        keys.extend(tokens.chunks_exact(block_size).map(|block| {
            to_bytes(block, &mut bytes);
            hash_block(xxh3_64(&bytes))
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
