//! Where in the forest tokens are lost: stretches of prompts added up over segments.

use super::{Forest, HeavyPath};
use crate::error::{Error, Result};
use crate::index::to_u32;

/// Segments of the forest and the tokens that prompts lose there, the most first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentLosses {
    /// Depth at which each segment starts, in tokens.
    pub start: Vec<u64>,
    /// Depth at which it ends, in tokens.
    pub end: Vec<u64>,
    /// Tokens lost in it, summed over requests.
    pub tokens: Vec<u64>,
    /// Number of requests that lose tokens in it.
    pub requests: Vec<u32>,
    /// A request whose sequence passes through it.
    pub example: Vec<u32>,
}

impl Forest {
    /// Adds up the stretches `from[i]..to[i]` (in tokens) of all prompts over the segments they lie
    /// on, and returns the `count` segments with the largest sums.
    ///
    /// A stretch covers whole segments but for its ends. It is marked at its two ends only, and the
    /// marks are added up from the leaves: O(log requests) per request, whatever its length. What
    /// lies behind the ids of a prompt belongs to no segment and is not counted.
    ///
    /// # Errors
    /// [`Error::Shape`] if a column is not one row per request; [`Error::Range`] if a stretch
    /// descends.
    pub fn segment_losses(&self, from: &[u32], to: &[u32], count: usize) -> Result<SegmentLosses> {
        if from.len() != self.requests() || to.len() != self.requests() {
            return Err(Error::shape(format!(
                "{} and {} rows given, but the trace has {} requests",
                from.len(),
                to.len(),
                self.requests()
            )));
        }
        let (mut cover, mut tokens) = (vec![0i64; self.nodes()], vec![0i64; self.nodes()]);
        for (request, (&from, &to)) in from.iter().zip(to).enumerate() {
            if from > to {
                return Err(Error::range(format!(
                    "request {request}: a stretch from {from} to {to} descends"
                )));
            }
            let last = self.columns.prompt_node[request];
            let to = u64::from(to).min(self.depth_in_tokens(last));
            let from = u64::from(from);
            if from < to {
                self.mark(last, from, to, &mut cover, &mut tokens);
            }
        }
        for node in (0..self.nodes()).rev() {
            let above = self.columns.parent[node] as usize;
            if above != node {
                cover[above] += cover[node];
                let ids = self.columns.end[node] - self.columns.end[above];
                let length = u64::from(ids) * u64::from(self.columns.tokens_per_id);
                tokens[node] += cover[node] * length.cast_signed();
            }
        }
        Ok(self.most_lost(&cover, &tokens, count))
    }

    /// Notes a stretch: `cover` at both ends, and in `tokens` what the end segments have too much.
    fn mark(&self, last: u32, from: u64, to: u64, cover: &mut [i64], tokens: &mut [i64]) {
        let tokens_per_id = u64::from(self.columns.tokens_per_id);
        let bottom = self.node_at(last, to_u32(to.div_ceil(tokens_per_id)));
        let top = self.node_at(last, to_u32(from / tokens_per_id) + 1);
        cover[bottom as usize] += 1;
        cover[self.columns.parent[top as usize] as usize] -= 1;
        tokens[bottom as usize] -= (self.depth_in_tokens(bottom) - to).cast_signed();
        tokens[top as usize] -= (from - self.top_in_tokens(top)).cast_signed();
    }

    fn most_lost(&self, cover: &[i64], tokens: &[i64], count: usize) -> SegmentLosses {
        let mut nodes: Vec<u32> = (0..to_u32(self.nodes()))
            .filter(|&n| tokens[n as usize] > 0)
            .collect();
        let order = |n: u32| (std::cmp::Reverse(tokens[n as usize]), n);
        if nodes.len() > count {
            nodes.select_nth_unstable_by_key(count, |&n| order(n));
            nodes.truncate(count);
        }
        nodes.sort_unstable_by_key(|&n| order(n));
        SegmentLosses {
            start: nodes.iter().map(|&n| self.top_in_tokens(n)).collect(),
            end: nodes.iter().map(|&n| self.depth_in_tokens(n)).collect(),
            tokens: nodes
                .iter()
                .map(|&n| tokens[n as usize].cast_unsigned())
                .collect(),
            requests: nodes.iter().map(|&n| to_u32(cover[n as usize])).collect(),
            example: nodes
                .iter()
                .map(|&n| self.columns.representative[n as usize])
                .collect(),
        }
    }

    fn depth_in_tokens(&self, node: u32) -> u64 {
        u64::from(self.columns.end[node as usize]) * u64::from(self.columns.tokens_per_id)
    }

    fn top_in_tokens(&self, node: u32) -> u64 {
        self.depth_in_tokens(self.columns.parent[node as usize])
    }

    /// The node, `node` or one above it, that holds the id that ends at `depth` (at least 1).
    pub(super) fn node_at(&self, node: u32, depth: u32) -> u32 {
        let mut path = self.path_of[node as usize];
        while let HeavyPath {
            up: Some(up), top, ..
        } = self.paths[path]
            && top >= depth
        {
            path = up;
        }
        // The nodes of a path follow each other, and so do the paths.
        let first = self.path_of.partition_point(|&p| p < path);
        let nodes = self.path_of[first..].partition_point(|&p| p == path);
        let above = self.columns.end[first..first + nodes].partition_point(|&end| end < depth);
        to_u32(first + above)
    }
}
