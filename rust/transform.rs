//! Changes to traces that look at every id: keyed hashing and tree keys.

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::trace::{Csr, Id};

/// Replaces the ids of each request by chained keyed hashes, one per `chunk` ids, the last of which
/// may stand for fewer.
///
/// Hash `k` is the first 8 bytes (little endian) of SHA-256 over the length of `key`, `key`, hash
/// `k - 1` in full (nothing for the first) and the ids of chunk `k` as 64-bit little endian. Equal
/// prefixes keep equal hashes under one key; without the key neither ids nor text can be tried out.
///
/// # Errors
/// [`Error::Range`] if `chunk` is 0; [`Error::Shape`] if `offsets` are no offsets of `ids`.
pub fn keyed_hashes<T: Id>(
    offsets: &[u64],
    ids: &[T],
    chunk: usize,
    key: &[u8],
) -> Result<(Vec<u64>, Vec<u64>)> {
    if chunk == 0 {
        return Err(Error::range("block_size must be at least 1"));
    }
    let rows = Csr::new(offsets, ids)?;
    let hashed: Vec<Vec<u64>> = (0..rows.len())
        .into_par_iter()
        .map(|i| keyed_chain(rows.list(i), chunk, key))
        .collect();
    let mut ends = vec![0];
    let mut values = Vec::with_capacity(hashed.iter().map(Vec::len).sum());
    for row in hashed {
        values.extend_from_slice(&row);
        ends.push(values.len() as u64);
    }
    Ok((ends, values))
}

fn keyed_chain<T: Id>(row: &[T], chunk: usize, key: &[u8]) -> Vec<u64> {
    let mut parent = Vec::new();
    row.chunks(chunk)
        .map(|ids| {
            let mut hasher = Sha256::new();
            hasher.update((key.len() as u64).to_le_bytes());
            hasher.update(key);
            hasher.update(&parent);
            for &id in ids {
                hasher.update(id.widen().to_le_bytes());
            }
            let digest = hasher.finalize();
            parent = digest.to_vec();
            digest
                .iter()
                .take(8)
                .rev()
                .fold(0, |hash, &byte| hash << 8 | u64::from(byte))
        })
        .collect()
}

/// XXH3-64 of the first `head` ids of each request (all of them if it has fewer): requests of one
/// sharing tree have one key.
///
/// # Errors
/// [`Error::Shape`] if `offsets` are no offsets of `ids`, see [`Csr::new`].
pub fn tree_keys<T: Id>(offsets: &[u64], ids: &[T], head: usize, seed: u64) -> Result<Vec<u64>> {
    let rows = Csr::new(offsets, ids)?;
    Ok((0..rows.len())
        .into_par_iter()
        .map(|i| {
            let row = rows.list(i);
            let mut hasher = Xxh3::with_seed(seed);
            for &id in &row[..row.len().min(head)] {
                hasher.update(&id.widen().to_le_bytes());
            }
            hasher.digest()
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_prefixes_keep_equal_hashes() {
        let ids = [1_u32, 2, 3, 4, 5, 1, 2, 3, 4, 9, 1, 2, 3];
        let (offsets, hashes) = keyed_hashes(&[0, 5, 10, 13], &ids, 2, b"key").unwrap();
        assert_eq!(offsets, [0, 3, 6, 8]);
        assert_eq!(hashes[..2], hashes[3..5]);
        assert_eq!(hashes[0], hashes[6]);
        assert_ne!(hashes[2], hashes[5]);
        assert_ne!(
            hashes[1], hashes[7],
            "a short last chunk is not the full one"
        );
        let (_, other) = keyed_hashes(&[0, 5, 10, 13], &ids, 2, b"yek").unwrap();
        assert_ne!(hashes[0], other[0]);
    }

    #[test]
    fn tree_keys_look_at_the_head_only() {
        let keys = tree_keys(&[0, 3, 6, 7], &[1_u64, 2, 3, 1, 2, 4, 1], 2, 0).unwrap();
        assert_eq!(keys[0], keys[1]);
        assert_ne!(keys[0], keys[2]);
    }
}
