//! The forest: every token sequence of a trace in one radix tree per salt.
//!
//! A *node* is a segment: a maximal run of ids (of tokens, or hashes of several tokens) that the
//! same requests traverse. N requests make at most a few N nodes, whatever their lengths, and a
//! request is then one number: the node where its prompt ends. Blocks of any size are an afterthought:
//! a block of size b at index k is the tree position at depth (k + 1)·b, see [`crate::Profile`].

mod block_numbers;
mod build;
mod builder;
mod chain;
mod check;
mod file;
mod losses;
mod number;
mod prefixes;
mod session;

pub use block_numbers::BlockNumbers;
pub use file::Head;
pub use losses::SegmentLosses;
pub use prefixes::SharedPrefixes;

use crate::error::{Error, Result};
use crate::index::{IndexVec, Ix, PathIx, RequestIx};

/// "No such request, node or path" in columns of indices.
pub const NONE: u32 = u32::MAX;

/// Radix forest of the sequences of a trace.
///
/// Nodes are numbered in preorder; a node whose number is its parent's plus one continues the
/// parent's heavy path. A root is its own parent and has depth 0.
///
/// ```
/// use prefixsim::{Forest, Stop, trace::{Csr, Trace}};
///
/// let prompts = Csr::new(&[0, 3, 7], &[1u32, 2, 3, 1, 2, 3, 4])?;
/// let forest = Forest::compile(&Trace::new(prompts), &Stop::default())?;
/// assert_eq!(forest.nodes(), 3); // the root, 1 2 3, and 4 below it
/// assert_eq!(forest.unique_blocks(2)?, 2);
/// # Ok::<(), prefixsim::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forest {
    columns: Columns,
    path_of: Vec<PathIx>,
    paths: IndexVec<PathIx, HeavyPath>,
}

/// What a forest is made of, and saved as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// Tokens that an id stands for.
    pub tokens_per_id: u32,
    /// Whether a last id that stands for fewer tokens is part of the sequences.
    pub partial_blocks: bool,
    /// The node above each node; a root is its own.
    pub parent: Vec<u32>,
    /// Depth at which each node ends, in ids.
    pub end: Vec<u32>,
    /// A request whose sequence passes through each node; [`NONE`] for roots.
    pub representative: Vec<u32>,
    /// The node where the prompt of each request ends.
    pub prompt_node: Vec<u32>,
    /// The node where the output of each request ends, if the sequences go on with outputs.
    pub output_node: Option<Vec<u32>>,
}

/// A heavy path: a run of nodes, each the heaviest child of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeavyPath {
    /// The path it hangs on; [`None`] for a path that starts at a root.
    pub up: Option<PathIx>,
    /// Depth at which it leaves that path, in ids.
    pub top: u32,
    /// Depth of its last node, in ids.
    pub bottom: u32,
}

impl Forest {
    /// Puts a forest together from its columns, which are known to be right.
    fn assemble(columns: Columns) -> Self {
        let Columns { parent, end, .. } = &columns;
        let mut path_of: Vec<PathIx> = Vec::with_capacity(parent.len());
        let mut paths: IndexVec<PathIx, HeavyPath> = Vec::new().into();
        for (node, &above) in parent.iter().enumerate() {
            let above = above as usize;
            if node > 0 && above + 1 == node {
                let path = path_of[above];
                paths[path].bottom = end[node];
                path_of.push(path);
            } else {
                let root = above == node;
                path_of.push(paths.push(HeavyPath {
                    up: (!root).then(|| path_of[above]),
                    top: if root { 0 } else { end[above] },
                    bottom: end[node],
                }));
            }
        }
        Self {
            columns,
            path_of,
            paths,
        }
    }

    /// Puts a saved forest together again.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the columns are not those of a forest.
    pub fn from_columns(columns: Columns) -> Result<Self> {
        check::columns(&columns).map_err(|what| Error::damaged(format!("not a forest: {what}")))?;
        Ok(Self::assemble(columns))
    }

    /// Checks every invariant of the columns.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        check::columns(&self.columns).map_err(|what| Error::bug(format!("not a forest: {what}")))
    }

    /// Tokens that an id stands for.
    #[must_use]
    pub fn tokens_per_id(&self) -> u32 {
        self.columns.tokens_per_id
    }

    /// Whether a last id that stands for fewer tokens is part of the sequences.
    #[must_use]
    pub fn partial_blocks(&self) -> bool {
        self.columns.partial_blocks
    }

    /// Number of requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.columns.prompt_node.len()
    }

    /// Number of nodes, roots included.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.columns.parent.len()
    }

    /// Number of heavy paths.
    #[must_use]
    pub fn heavy_paths(&self) -> usize {
        self.paths.len()
    }

    /// The node above each node; a root is its own.
    #[must_use]
    pub fn parent(&self) -> &[u32] {
        &self.columns.parent
    }

    /// Depth at which each node ends, in ids.
    #[must_use]
    pub fn end(&self) -> &[u32] {
        &self.columns.end
    }

    /// A request whose sequence passes through each node; [`NONE`] for roots.
    #[must_use]
    pub fn representative(&self) -> &[u32] {
        &self.columns.representative
    }

    /// The node where the prompt of each request ends.
    #[must_use]
    pub fn prompt_node(&self) -> &[u32] {
        &self.columns.prompt_node
    }

    /// The node where the output of each request ends, if the forest was compiled with outputs.
    #[must_use]
    pub fn output_node(&self) -> Option<&[u32]> {
        self.columns.output_node.as_deref()
    }

    /// The node where everything known of each request ends.
    #[must_use]
    pub fn last_node(&self) -> &[u32] {
        self.columns
            .output_node
            .as_deref()
            .unwrap_or(&self.columns.prompt_node)
    }

    /// The longest sequence, in ids.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.columns.end.iter().copied().max().unwrap_or(0)
    }

    /// The most nodes on one path from a root, roots not counted.
    #[must_use]
    pub fn height(&self) -> u32 {
        let mut height = vec![0u32; self.nodes()];
        let mut most = 0;
        for (node, &above) in self.columns.parent.iter().enumerate() {
            if above as usize != node {
                height[node] = height[above as usize] + 1;
                most = most.max(height[node]);
            }
        }
        most
    }

    /// Distinct full blocks of `block_size` tokens; with outputs, theirs as well.
    ///
    /// # Errors
    /// As [`Forest::ids_per_block`].
    pub fn unique_blocks(&self, block_size: u32) -> Result<u64> {
        let ids = self.ids_per_block(block_size)?;
        Ok(self
            .columns
            .end
            .iter()
            .zip(&self.columns.parent)
            .map(|(&end, &above)| u64::from(end / ids - self.columns.end[above as usize] / ids))
            .sum())
    }

    /// How many ids make a block of `block_size` tokens.
    ///
    /// # Errors
    /// [`Error::Range`] if the block size is no multiple of the tokens of an id, or, with partial
    /// blocks kept, not the tokens themselves.
    pub fn ids_per_block(&self, block_size: u32) -> Result<u32> {
        if block_size == 0 || !block_size.is_multiple_of(self.columns.tokens_per_id) {
            return Err(Error::range(format!(
                "block size {block_size}: the trace allows multiples of {} only",
                self.columns.tokens_per_id
            )));
        }
        if self.columns.partial_blocks && block_size != self.columns.tokens_per_id {
            return Err(Error::range(format!(
                "block size {block_size}: with partial blocks kept it has to be {}",
                self.columns.tokens_per_id
            )));
        }
        Ok(block_size / self.columns.tokens_per_id)
    }

    pub(crate) fn paths(&self) -> &IndexVec<PathIx, HeavyPath> {
        &self.paths
    }

    /// The heavy path on which everything known of a request ends.
    #[inline]
    pub(crate) fn path_of_request(&self, request: RequestIx) -> PathIx {
        self.path_of[self.last_node()[request.usize()] as usize]
    }
}
