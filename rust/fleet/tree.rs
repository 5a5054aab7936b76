//! A forest at one block size, as the tree of segments that routers and caches are kept on.

use crate::error::{Error, Result};
use crate::forest::Forest;
use crate::index::{Ix, RequestIx};

/// The segment above all others; it holds no block.
pub const ROOT: u32 = 0;

const UNSEEN: u32 = u32::MAX;

/// A run of blocks that the same requests traverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The segment above it.
    pub parent: u32,
    /// Blocks above it.
    pub start: u32,
    /// Blocks up to its end.
    pub end: u32,
}

impl Segment {
    /// Blocks it holds; at least 1 but for the root.
    #[must_use]
    pub const fn blocks(self) -> u32 {
        self.end - self.start
    }
}

/// A segment with what somebody keeps of it: half a cache line, so that a step of a walk waits for memory
/// once.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub(super) struct Node<T> {
    pub segment: Segment,
    pub kept: T,
}

/// The parent of a segment.
#[inline]
pub(super) fn above<T>(nodes: &[Node<T>], at: u32) -> u32 {
    nodes[at as usize].segment.parent
}

/// Entries at the front of a queue that are looked at together.
pub(super) const OLDEST: usize = 8;

/// Requests whose paths are looked at together.
pub(super) const AHEAD: usize = 16;

/// Most segments that are looked at of a path.
const AHEAD_SEGMENTS: usize = 8;

/// Walks up from some segments step by step, all at once, so that the loads of one step wait for memory
/// together instead of one after the other. Nothing comes of it but that the caches of the processor
/// hold what the walks that follow will need.
///
/// `step` reads what they will read of a segment, given with its place among `places`, and returns the
/// segment to read next and any number made of what it read; the root ends a walk.
#[inline]
pub(super) fn look_ahead(places: &mut [u32], mut step: impl FnMut(usize, u32) -> (u32, u32)) {
    let mut sum = 0_u32;
    for _ in 0..AHEAD_SEGMENTS {
        let mut open = 0;
        for (lane, at) in places.iter_mut().enumerate() {
            let (next, read) = step(lane, *at);
            sum ^= read;
            open |= next;
            *at = next;
        }
        if open == ROOT {
            break;
        }
    }
    std::hint::black_box(sum);
}

/// What a forest is measured in: how long its nodes and prompts are in some unit.
#[derive(Debug, Clone, Copy)]
pub struct Measure<'a> {
    /// Units that an id stands for.
    pub units_per_id: u64,
    /// Length of each prompt in units.
    pub length: &'a [u32],
    /// Factor that turns `length` into the unit of this measure.
    pub scale: u32,
    /// Units behind which nothing is looked at; [`None`]: all are.
    pub most: Option<u32>,
}

/// A forest at one block size: segments of at least one block, numbered by first use.
///
/// ```text
///   tokens   0 ........ 20 ┬─ 40        blocks of 16:   root ─ [0, 1) ┬─ [1, 2)
///                          └─ 40                                      └─ [1, 2)
/// ```
///
/// With `partial` a last block of fewer units is a block of its own, equal only to the last block of
/// an equal prompt.
#[derive(Debug)]
pub struct BlockTree {
    segments: Vec<Segment>,
    /// The segment in which each request's prompt ends.
    leaf: Vec<u32>,
    /// Length of each prompt, in units.
    length: Vec<u32>,
    /// A request that passes through each segment; the first one.
    first: Vec<u32>,
    block: u32,
}

impl BlockTree {
    /// Looks at a forest through blocks of `block` units.
    ///
    /// # Errors
    /// [`Error::Range`] if `block` is 0, or a prompt has 2^32 units or more; [`Error::Shape`] if
    /// lengths are not one per request.
    pub fn new(forest: &Forest, measure: Measure<'_>, block: u32, partial: bool) -> Result<Self> {
        if block == 0 {
            return Err(Error::range("blocks of 0, give 1 or more"));
        }
        Error::check_rows("prompt_len", measure.length.len(), forest.requests())?;
        let length = measure
            .length
            .iter()
            .map(|&units| {
                units.checked_mul(measure.scale).ok_or_else(|| {
                    Error::range(format!(
                        "a prompt of {units} x {} characters",
                        measure.scale
                    ))
                })
            })
            .collect::<Result<Vec<u32>>>()?;
        let (nodes, prompt_node) = (forest.nodes(), forest.prompt_node());
        let mut depth: Vec<u64> = forest
            .end()
            .iter()
            .map(|&ids| u64::from(ids) * measure.units_per_id)
            .collect();
        for (&node, &units) in prompt_node.iter().zip(&length) {
            let depth = &mut depth[node as usize];
            *depth = (*depth).min(u64::from(units));
        }
        let most = measure.most.unwrap_or(u32::MAX);
        for depth in &mut depth {
            *depth = (*depth).min(u64::from(most));
        }
        let mut tree = Self {
            segments: vec![Segment {
                parent: ROOT,
                start: 0,
                end: 0,
            }],
            leaf: Vec::with_capacity(length.len()),
            length,
            first: vec![UNSEEN],
            block,
        };
        tree.number(forest, &depth, nodes)?;
        if partial {
            tree.add_partial(prompt_node, nodes, most);
        }
        Ok(tree)
    }

    /// Numbers the segments in the order in which requests come to them.
    fn number(&mut self, forest: &Forest, depth: &[u64], nodes: usize) -> Result<()> {
        let (parent, block) = (forest.parent(), u64::from(self.block));
        let mut segment = vec![UNSEEN; nodes];
        let mut new = Vec::new();
        for (request, &node) in forest.prompt_node().iter().enumerate() {
            let mut at = node;
            while segment[at as usize] == UNSEEN {
                new.push(at);
                let above = parent[at as usize];
                if above == at {
                    break;
                }
                at = above;
            }
            while let Some(at) = new.pop() {
                let above = parent[at as usize];
                if above == at {
                    segment[at as usize] = ROOT;
                    continue;
                }
                let up = segment[above as usize];
                let start = self.segments[up as usize].end;
                let end = u32::try_from(depth[at as usize] / block)
                    .map_err(|_| Error::range("a prompt of 2^32 blocks or more"))?;
                segment[at as usize] = if end > start {
                    self.push(up, start, end, request)
                } else {
                    up
                };
            }
            self.leaf.push(segment[node as usize]);
        }
        Ok(())
    }

    fn add_partial(&mut self, prompt_node: &[u32], nodes: usize, most: u32) {
        let mut tail = vec![UNSEEN; nodes];
        for (request, &node) in prompt_node.iter().enumerate() {
            if self.length[request].min(most).is_multiple_of(self.block) {
                continue;
            }
            let node = node as usize;
            if tail[node] == UNSEEN {
                let up = self.leaf[request];
                let start = self.segments[up as usize].end;
                tail[node] = self.push(up, start, start + 1, request);
            }
            self.leaf[request] = tail[node];
        }
    }

    fn push(&mut self, parent: u32, start: u32, end: u32, request: usize) -> u32 {
        self.segments.push(Segment { parent, start, end });
        self.first.push(RequestIx::from_usize(request).get());
        RequestIx::from_usize(self.segments.len() - 1).get()
    }

    /// Number of segments, the root included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there is no block at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.len() == 1
    }

    /// A segment.
    #[inline]
    #[must_use]
    pub fn segment(&self, at: u32) -> Segment {
        self.segments[at as usize]
    }

    /// Blocks of the longest prompt.
    pub(super) fn longest(&self) -> u32 {
        let ends = self.segments.iter().map(|segment| segment.end);
        ends.max().unwrap_or(0)
    }

    /// All segments, with something kept of each.
    pub(super) fn nodes<T: Copy>(&self, kept: T) -> Vec<Node<T>> {
        let node = |&segment: &Segment| Node { segment, kept };
        self.segments.iter().map(node).collect()
    }

    /// The segments in which the prompts of some requests in a row end, in a buffer.
    pub(super) fn leaves<'b>(
        &self,
        requests: &std::ops::Range<usize>,
        buffer: &'b mut [u32; AHEAD],
    ) -> &'b mut [u32] {
        let leaves = &self.leaf[requests.clone()];
        let buffer = &mut buffer[..leaves.len()];
        buffer.copy_from_slice(leaves);
        buffer
    }

    /// The segment in which the prompt of a request ends; the root if it has no block.
    #[inline]
    #[must_use]
    pub fn leaf(&self, request: RequestIx) -> u32 {
        self.leaf[request.usize()]
    }

    /// Blocks of the prompt of a request.
    #[inline]
    #[must_use]
    pub fn blocks(&self, request: RequestIx) -> u32 {
        self.segment(self.leaf(request)).end
    }

    /// Length of the prompt of a request, in units.
    #[inline]
    #[must_use]
    pub fn length(&self, request: RequestIx) -> u32 {
        self.length[request.usize()]
    }

    /// The first request that passes through a segment.
    #[must_use]
    pub fn first(&self, segment: u32) -> Option<RequestIx> {
        let first = self.first[segment as usize];
        (first != UNSEEN).then(|| RequestIx::new(first))
    }

    /// Units of a block.
    #[must_use]
    pub fn block(&self) -> u32 {
        self.block
    }

    /// Number of requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.leaf.len()
    }

    /// Puts the segments of a path in `path`, the first block's first.
    #[inline]
    pub fn path(&self, leaf: u32, path: &mut Vec<u32>) {
        path.clear();
        let mut at = leaf;
        while at != ROOT {
            path.push(at);
            at = self.segments[at as usize].parent;
        }
        path.reverse();
    }

    /// Checks every invariant: parents come before children, which begin where they end.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        for (at, segment) in self.segments.iter().enumerate().skip(1) {
            let above = self.segments[segment.parent as usize];
            if segment.parent as usize >= at || segment.start != above.end || segment.blocks() == 0
            {
                return Err(Error::bug(format!("segment {at} is in the wrong place")));
            }
        }
        Ok(())
    }
}
