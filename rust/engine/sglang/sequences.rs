//! What the tree's keys are made of: token sequences that can be compared.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::hash::keyed;
use crate::index::to_u32;
use crate::trace::common_prefix;

/// Token sequences, each under a number and in a namespace. A node of the tree stores no tokens, only
/// which sequence passes through it and between which depths.
///
/// Implementors promise that a sequence's first tokens never change while it is held; it may grow.
pub trait Sequences {
    /// A number that is equal for two sequences whose first `start + page` tokens and namespaces are
    /// equal. Sequences that differ may have the same number if [`Sequences::same_page`] tells them
    /// apart.
    fn page_key(&self, sequence: u32, start: u32, page: u32) -> u64;

    /// Whether two sequences that are equal up to `start` and have the same page key are equal for
    /// `page` tokens more.
    fn same_page(&self, a: u32, b: u32, start: u32, page: u32) -> bool;

    /// The depth, at most `to`, up to which two sequences are equal, which they are up to `from`.
    fn common(&self, a: u32, b: u32, from: u32, to: u32) -> u32;

    /// A node refers to the sequence.
    fn hold(&mut self, sequence: u32);

    /// A node no longer refers to the sequence.
    fn release(&mut self, sequence: u32);
}

#[derive(Debug, Default)]
struct Buffer {
    tokens: Vec<u32>,
    namespace: u32,
    holders: u32,
}

/// Sequences handed over one by one, each kept as long as something refers to it.
#[derive(Debug, Default)]
pub struct TokenBuffers {
    buffers: Vec<Buffer>,
    unused: Vec<u32>,
}

impl TokenBuffers {
    /// Takes a copy of the tokens; the caller holds the sequence.
    pub fn add(&mut self, tokens: &[u32], namespace: u32) -> u32 {
        let buffer = Buffer {
            tokens: tokens.to_vec(),
            namespace,
            holders: 1,
        };
        if let Some(sequence) = self.unused.pop() {
            self.buffers[sequence as usize] = buffer;
            return sequence;
        }
        self.buffers.push(buffer);
        to_u32(self.buffers.len()) - 1
    }

    /// Adds tokens at the end of a sequence.
    pub fn extend(&mut self, sequence: u32, tokens: &[u32]) {
        self.buffers[sequence as usize]
            .tokens
            .extend_from_slice(tokens);
    }

    /// The tokens of a sequence.
    #[must_use]
    pub fn tokens(&self, sequence: u32) -> &[u32] {
        &self.buffers[sequence as usize].tokens
    }

    /// The namespace of a sequence.
    #[must_use]
    pub fn namespace(&self, sequence: u32) -> u32 {
        self.buffers[sequence as usize].namespace
    }

    /// Number of sequences that something refers to.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffers.len() - self.unused.len()
    }
}

impl Sequences for TokenBuffers {
    fn page_key(&self, sequence: u32, start: u32, page: u32) -> u64 {
        let buffer = &self.buffers[sequence as usize];
        let tokens = &buffer.tokens[start as usize..(start + page) as usize];
        let fold = |seed, token: &u32| xxh3_64_with_seed(&token.to_le_bytes(), seed);
        tokens
            .iter()
            .fold(keyed::secret() ^ u64::from(buffer.namespace), fold)
    }

    fn same_page(&self, a: u32, b: u32, start: u32, page: u32) -> bool {
        let (a, b) = (&self.buffers[a as usize], &self.buffers[b as usize]);
        let page = start as usize..(start + page) as usize;
        a.namespace == b.namespace && a.tokens[page.clone()] == b.tokens[page]
    }

    fn common(&self, a: u32, b: u32, from: u32, to: u32) -> u32 {
        let (a, b) = (self.tokens(a), self.tokens(b));
        let (from, to) = (from as usize, to as usize);
        to_u32(from + common_prefix(&a[from..to.min(a.len())], &b[from..to.min(b.len())]))
    }

    fn hold(&mut self, sequence: u32) {
        self.buffers[sequence as usize].holders += 1;
    }

    fn release(&mut self, sequence: u32) {
        let buffer = &mut self.buffers[sequence as usize];
        buffer.holders -= 1;
        if buffer.holders == 0 {
            *buffer = Buffer::default();
            self.unused.push(sequence);
        }
    }
}
