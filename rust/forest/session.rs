//! How much of a prompt its own session had said before.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::{Forest, HeavyPath};
use crate::error::{Error, Result};
use crate::index::to_usize;
use crate::stop::Stop;

/// The request of a number that is a session code in its upper and a request in its lower half.
#[inline]
fn request_of(turn: u64) -> usize {
    to_usize(turn & u64::from(u32::MAX))
}

impl Forest {
    /// For each request, how many leading ids of its prompt an earlier request of the same
    /// session had in its sequence.
    ///
    /// In preorder, the deepest common ancestor of a node with any of a set of nodes is the one with
    /// its neighbour in the set, before or behind.
    ///
    /// # Errors
    /// [`Error::Shape`] if `session` is not one code per request; [`Error::Interrupted`] if asked
    /// to stop.
    pub fn session_depth(&self, session: &[u32], stop: &Stop) -> Result<Vec<u32>> {
        if session.len() != self.requests() {
            return Err(Error::shape(format!(
                "session: {} rows, but {} requests",
                session.len(),
                self.requests()
            )));
        }
        // Session and request in one number: sorted by session, in a session by time.
        let mut order: Vec<u64> = (0u64..)
            .zip(session)
            .map(|(request, &code)| u64::from(code) << 32 | request)
            .collect();
        order.par_sort_unstable();
        let found = order
            .par_chunk_by(|a, b| a >> 32 == b >> 32)
            .map(|turns| stop.check().map(|()| self.session_depths(turns)))
            .collect::<Result<Vec<_>>>()?;
        let mut depth = vec![0; session.len()];
        for (&request, own) in order.iter().zip(found.into_iter().flatten()) {
            depth[request_of(request)] = own;
        }
        Ok(depth)
    }

    /// [`Forest::session_depth`] of the requests of one session.
    fn session_depths(&self, turns: &[u64]) -> Vec<u32> {
        let last = self.last_node();
        if let [first, second] = *turns {
            let (second, first) = (request_of(second), request_of(first));
            let (node, seen) = (self.columns.prompt_node[second], last[first]);
            return vec![0, self.common_depth(node, seen)];
        }
        let mut seen: BTreeSet<u32> = BTreeSet::new();
        let depth = |&request: &u64| {
            let request = request_of(request);
            let node = self.columns.prompt_node[request];
            let before = seen.range(..=node).next_back();
            let behind = seen.range(node..).next();
            let own = before
                .into_iter()
                .chain(behind)
                .map(|&other| self.common_depth(node, other))
                .max()
                .unwrap_or(0);
            seen.insert(last[request]);
            own
        };
        turns.iter().map(depth).collect()
    }

    /// Ids that the sequences ending at two nodes have in common.
    fn common_depth(&self, a: u32, b: u32) -> u32 {
        let (mut path_a, mut path_b) = (self.path_of[a as usize], self.path_of[b as usize]);
        let (mut depth_a, mut depth_b) =
            (self.columns.end[a as usize], self.columns.end[b as usize]);
        while path_a != path_b {
            // Paths are numbered in preorder: the later one cannot be above the earlier.
            let (path, depth) = if path_a > path_b {
                (&mut path_a, &mut depth_a)
            } else {
                (&mut path_b, &mut depth_b)
            };
            let HeavyPath {
                up: Some(up), top, ..
            } = self.paths[*path]
            else {
                return 0;
            };
            (*path, *depth) = (up, top);
        }
        depth_a.min(depth_b)
    }
}
