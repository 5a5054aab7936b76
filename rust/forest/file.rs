//! A forest as bytes, for a file.
//!
//! All numbers are little endian: 16 bytes of magic, then `u32` version, tokens per id and flags (1:
//! partial blocks, 2: outputs), `u32` 0, `u64` requests and nodes, 16 bytes of the trace's digest, 16
//! bytes of the XXH3-128 of all else, then `u32` columns: of nodes parent, end and representative, of
//! requests prompt node and, with outputs, output node.
//!
//! Bytes are never trusted: the checksum finds what was damaged, and what was made by hand has to pass
//! every check of [`super::check`].

use xxhash_rust::xxh3::Xxh3;

use super::{Columns, Forest, check};
use crate::error::{Error, Result};
use crate::index::to_usize;
use crate::trace::{Id, Trace};

const MAGIC: &[u8; 16] = b"prefixsim forest";
const VERSION: u32 = 2;
const PARTIAL_BLOCKS: u32 = 1;
const OUTPUTS: u32 = 2;
const CHECKSUM: std::ops::Range<usize> = 64..80;
const HEAD: usize = CHECKSUM.end;

/// What the head of a stored forest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Tokens per id.
    pub tokens_per_id: u32,
    /// Whether trailing partial blocks are kept.
    pub partial_blocks: bool,
    /// Whether the sequences go on with the outputs.
    pub outputs: bool,
    /// Digest of the trace it was compiled from.
    pub digest: [u8; 16],
    requests: u64,
    nodes: u64,
}

impl Head {
    /// Reads the head, and checks that the rest is as long as it says.
    ///
    /// # Errors
    /// [`Error::Damaged`] if this is no forest of this version.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < HEAD || &bytes[..16] != MAGIC {
            return Err(Error::damaged("not a forest file"));
        }
        let (version, flags) = (u32_at(bytes, 16), u32_at(bytes, 24));
        if version != VERSION {
            return Err(Error::damaged(format!(
                "a forest of version {version}, but this prefixsim reads {VERSION}"
            )));
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&bytes[48..64]);
        let head = Self {
            tokens_per_id: u32_at(bytes, 20),
            partial_blocks: flags & PARTIAL_BLOCKS != 0,
            outputs: flags & OUTPUTS != 0,
            digest,
            requests: u64_at(bytes, 32),
            nodes: u64_at(bytes, 40),
        };
        let columns = 1 + u64::from(head.outputs);
        let size = (head.nodes.checked_mul(3))
            .zip(head.requests.checked_mul(columns))
            .and_then(|(nodes, requests)| nodes.checked_add(requests))
            .and_then(|values| values.checked_mul(4)?.checked_add(HEAD as u64));
        if flags > PARTIAL_BLOCKS + OUTPUTS || size != Some(bytes.len() as u64) {
            return Err(Error::damaged("not a whole forest file"));
        }
        Ok(head)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn checksum(bytes: &[u8]) -> [u8; 16] {
    let mut hasher = Xxh3::new();
    hasher.update(&bytes[..CHECKSUM.start]);
    hasher.update(&bytes[CHECKSUM.end..]);
    hasher.digest128().to_le_bytes()
}

impl Forest {
    /// The forest as bytes, with the digest of its trace.
    #[must_use]
    pub fn to_bytes(&self, digest: [u8; 16]) -> Vec<u8> {
        let outputs = self.columns.output_node.as_deref().unwrap_or(&[]);
        let nodes = self.nodes();
        let values = 3 * nodes + self.requests() + outputs.len();
        let mut bytes = Vec::with_capacity(HEAD + 4 * values);
        bytes.extend_from_slice(MAGIC);
        let flags = u32::from(self.columns.partial_blocks) * PARTIAL_BLOCKS
            + u32::from(self.columns.output_node.is_some()) * OUTPUTS;
        for word in [VERSION, self.columns.tokens_per_id, flags, 0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for count in [self.requests(), nodes] {
            bytes.extend_from_slice(&(count as u64).to_le_bytes());
        }
        bytes.extend_from_slice(&digest);
        bytes.resize(HEAD, 0);
        let columns = [
            &self.columns.parent,
            &self.columns.end,
            &self.columns.representative,
            &self.columns.prompt_node,
            outputs,
        ];
        for value in columns.into_iter().flatten() {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let sum = checksum(&bytes);
        bytes[CHECKSUM].copy_from_slice(&sum);
        bytes
    }

    /// Reads the forest that [`Forest::to_bytes`] made of the forest of this very trace.
    ///
    /// ```
    /// use prefixsim::{Forest, Stop, trace::{Csr, Trace}};
    ///
    /// let trace = Trace::new(Csr::new(&[0, 3, 7], &[1u32, 2, 3, 1, 2, 3, 4])?);
    /// let forest = Forest::compile(&trace, &Stop::default())?;
    /// let mut bytes = forest.to_bytes([7; 16]);
    /// assert_eq!(Forest::from_bytes(&bytes, [7; 16], &trace)?, forest);
    /// bytes[90] ^= 1;
    /// assert!(Forest::from_bytes(&bytes, [7; 16], &trace).is_err());
    /// # Ok::<(), prefixsim::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes are no forest, or not that of this trace and its options.
    pub fn from_bytes<T: Id>(bytes: &[u8], digest: [u8; 16], trace: &Trace<'_, T>) -> Result<Self> {
        let head = Head::read(bytes)?;
        if head.digest != digest || head.requests != trace.requests() as u64 {
            return Err(Error::damaged("the forest of another trace"));
        }
        if bytes[CHECKSUM] != checksum(bytes) {
            return Err(Error::damaged("the checksum is not that of the content"));
        }
        let mut rest = &bytes[HEAD..];
        let mut column = |values: u64| {
            let (part, after) = rest.split_at(4 * to_usize(values));
            rest = after;
            part.as_chunks()
                .0
                .iter()
                .map(|&word| u32::from_le_bytes(word))
                .collect()
        };
        // In the order of the file.
        let forest = Self::from_columns(Columns {
            tokens_per_id: head.tokens_per_id,
            partial_blocks: head.partial_blocks,
            parent: column(head.nodes),
            end: column(head.nodes),
            representative: column(head.nodes),
            prompt_node: column(head.requests),
            output_node: head.outputs.then(|| column(head.requests)),
        })?;
        check::agree(&forest, trace)
            .map_err(|what| Error::damaged(format!("not the forest of this trace: {what}")))?;
        Ok(forest)
    }
}
