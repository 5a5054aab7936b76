//! Blocks as numbers.

use super::Forest;
use crate::error::{Error, Result};

/// Numbers of blocks by the place in the forest where they end.
///
/// Block k of a sequence is where the forest's tree stands after (k + 1) blocks, so that a node that
/// ends at depth e and begins at depth s has `e / b - s / b` blocks of its own, numbered in a row. No
/// token is looked at and nothing is hashed: two blocks have one number exactly if their prefixes are
/// the same tokens under the same salt.
///
/// ```
/// use prefixsim::{Forest, Stop, forest::BlockNumbers, trace::{Csr, Trace}};
///
/// let prompts = Csr::new(&[0, 4, 8], &[1_u32, 2, 3, 4, 1, 2, 5, 6])?;
/// let forest = Forest::compile(&Trace::new(prompts), &Stop::default())?;
/// let numbers = BlockNumbers::new(&forest, 2)?;
/// let mut paths = [vec![], vec![]];
/// for (path, &node) in paths.iter_mut().zip(forest.prompt_node()) {
///     numbers.path(node, 2, path);
/// }
/// assert_eq!(paths[0][0], paths[1][0]);
/// assert_ne!(paths[0][1], paths[1][1]);
/// assert_eq!(numbers.blocks(), 3);
/// # Ok::<(), prefixsim::Error>(())
/// ```
#[derive(Debug)]
pub struct BlockNumbers<'f> {
    forest: &'f Forest,
    ids_per_block: u32,
    /// The number of the first block that ends in each node.
    first: Vec<u32>,
    blocks: u64,
}

impl<'f> BlockNumbers<'f> {
    /// Numbers the blocks of `ids_per_block` ids of a forest.
    ///
    /// # Errors
    /// [`Error::Range`] if there are too many for 32 bits.
    pub fn new(forest: &'f Forest, ids_per_block: u32) -> Result<Self> {
        let mut first = Vec::with_capacity(forest.nodes());
        let mut blocks = 0_u64;
        for (&end, &above) in forest.end().iter().zip(forest.parent()) {
            first.push(u32::try_from(blocks).map_err(|_| too_many())?);
            blocks += u64::from(end / ids_per_block)
                - u64::from(forest.end()[above as usize] / ids_per_block);
        }
        u32::try_from(blocks).map_err(|_| too_many())?;
        Ok(Self {
            forest,
            ids_per_block,
            first,
            blocks,
        })
    }

    /// The forest.
    #[must_use]
    pub fn forest(&self) -> &'f Forest {
        self.forest
    }

    /// How many numbers there are.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Sets `keys` to the numbers of the first `count` blocks on the path to `node`.
    pub fn path(&self, mut node: u32, count: u32, keys: &mut Vec<u32>) {
        keys.clear();
        keys.resize(count as usize, 0);
        let (ends, parents) = (self.forest.end(), self.forest.parent());
        loop {
            let above = parents[node as usize];
            let start = ends[above as usize] / self.ids_per_block;
            let end = (ends[node as usize] / self.ids_per_block).min(count);
            if start < end {
                let first = self.first[node as usize];
                for (key, number) in keys[start as usize..end as usize].iter_mut().zip(first..) {
                    *key = number;
                }
            }
            if above == node {
                return;
            }
            node = above;
        }
    }
}

fn too_many() -> Error {
    Error::range("more than 2^32 - 1 distinct blocks: choose larger blocks")
}
