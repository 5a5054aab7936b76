//! The prefixes that requests share most.

use super::{Forest, NONE};
use crate::index::to_u32;

/// Shared prefixes, the ones that save most first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedPrefixes {
    /// Length of each prefix, in ids.
    pub ids: Vec<u32>,
    /// Number of requests whose prompt starts with it.
    pub requests: Vec<u32>,
    /// The first request that starts with it.
    pub first: Vec<u32>,
}

impl Forest {
    /// The `count` prefixes of two or more prompts with the largest length × (requests − 1).
    ///
    /// Only maximal ones: a prefix that all its requests continue in the same way is not listed.
    #[must_use]
    pub fn shared_prefixes(&self, count: usize) -> SharedPrefixes {
        let (requests, first) = self.prompts_below();
        let mut continued = vec![false; self.nodes()];
        for (node, &above) in self.columns.parent.iter().enumerate() {
            let above = above as usize;
            if above != node && requests[node] == requests[above] {
                continued[above] = true;
            }
        }
        let mut shared: Vec<u32> = (0..to_u32(self.nodes()))
            .filter(|&n| {
                let at = n as usize;
                requests[at] > 1 && self.columns.end[at] > 0 && !continued[at]
            })
            .collect();
        let saved = |n: u32| {
            let at = n as usize;
            (
                std::cmp::Reverse(u64::from(self.columns.end[at]) * u64::from(requests[at] - 1)),
                first[at],
                self.columns.end[at],
            )
        };
        if shared.len() > count {
            shared.select_nth_unstable_by_key(count, |&n| saved(n));
            shared.truncate(count);
        }
        shared.sort_unstable_by_key(|&n| saved(n));
        let pick = |column: &[u32]| shared.iter().map(|&n| column[n as usize]).collect();
        SharedPrefixes {
            ids: pick(&self.columns.end),
            requests: pick(&requests),
            first: pick(&first),
        }
    }

    /// For each node, how many prompts pass through it or end there, and the first of them.
    fn prompts_below(&self) -> (Vec<u32>, Vec<u32>) {
        let mut requests = vec![0u32; self.nodes()];
        let mut first = vec![NONE; self.nodes()];
        for (request, &node) in self.columns.prompt_node.iter().enumerate().rev() {
            requests[node as usize] += 1;
            first[node as usize] = to_u32(request);
        }
        for node in (0..self.nodes()).rev() {
            let above = self.columns.parent[node] as usize;
            if above != node {
                requests[above] += requests[node];
                first[above] = first[above].min(first[node]);
            }
        }
        (requests, first)
    }
}
