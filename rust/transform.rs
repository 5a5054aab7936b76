//! Changes to traces that look at every id: keyed hashing and sharing trees.

use std::collections::HashMap;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::index::to_u32;
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

/// The sharing tree of each request, as a number from 0: requests are of one tree if and only if their
/// first `head` ids (all of them if there are fewer) and their salts are equal.
///
/// Trees are numbered in the order of XXH3-64 of those ids, so that a random choice of numbers is one
/// of trees, wherever they stand in the trace. The hash decides the order alone, as ids that collide
/// under it can be constructed.
///
/// # Errors
/// [`Error::Shape`] if `offsets` are no offsets of `ids`, see [`Csr::new`], or there is not one salt
/// per request.
pub fn tree_numbers<T: Id>(
    offsets: &[u64],
    ids: &[T],
    head: usize,
    seed: u64,
    salt: Option<&[u32]>,
) -> Result<Vec<u32>> {
    let rows = Csr::new(offsets, ids)?;
    if let Some(salt) = salt {
        Error::check_rows("salt", salt.len(), rows.len())?;
    }
    // The table's hash has a random key: nobody can fill one place of it.
    let mut known = HashMap::new();
    let mut trees = Vec::new();
    let mut tree_of = Vec::with_capacity(rows.len());
    for i in 0..rows.len() {
        let row = rows.list(i);
        let start = &row[..row.len().min(head)];
        let salt = salt.map_or(0, |salt| salt[i]);
        let tree = *known.entry((salt, start)).or_insert_with(|| {
            trees.push((salt, start));
            trees.len() - 1
        });
        tree_of.push(tree);
    }
    let keys: Vec<u64> = trees
        .par_iter()
        .map(|(salt, start)| tree_key(start, seed) ^ u64::from(*salt).wrapping_mul(GOLDEN))
        .collect();
    let mut order: Vec<usize> = (0..trees.len()).collect();
    order.sort_by_key(|&tree| keys[tree]);
    let mut number = vec![0; trees.len()];
    for (place, tree) in order.into_iter().enumerate() {
        number[tree] = to_u32(place);
    }
    Ok(tree_of.into_iter().map(|tree| number[tree]).collect())
}

/// Spreads small numbers over 64 bits.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn tree_key<T: Id>(start: &[T], seed: u64) -> u64 {
    let mut hasher = Xxh3::with_seed(seed);
    for id in start {
        hasher.update(&id.widen().to_le_bytes());
    }
    hasher.digest()
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
    fn trees_look_at_the_head_and_the_salt_only() {
        let (offsets, ids) = ([0, 3, 6, 7, 10], [1_u64, 2, 3, 1, 2, 4, 1, 1, 2, 3]);
        let trees = tree_numbers(&offsets, &ids, 2, 0, None).unwrap();
        assert_eq!(trees[0], trees[1]);
        assert_ne!(trees[0], trees[2]);
        let salted = tree_numbers(&offsets, &ids, 2, 0, Some(&[0, 0, 0, 1])).unwrap();
        assert_eq!(salted[0], salted[1]);
        assert_ne!(salted[0], salted[3]);
        assert_eq!(salted.iter().max(), Some(&2));
        assert!(tree_numbers(&offsets, &ids, 2, 0, Some(&[0])).is_err());
    }

    #[test]
    fn heads_made_to_collide_are_trees_of_their_own() {
        let secret = 0xbe4b_a423_396c_feb8;
        let ids: Vec<u64> = (0..20).flat_map(|i| [secret, i, 7, 7]).collect();
        let offsets: Vec<u64> = (0..=20).map(|i| i * 4).collect();
        assert_eq!(tree_key(&ids[..4], 0), tree_key(&ids[4..8], 0));
        let mut trees = tree_numbers(&offsets, &ids, 4, 0, None).unwrap();
        trees.sort_unstable();
        assert_eq!(trees, (0..20).collect::<Vec<u32>>());
    }
}
