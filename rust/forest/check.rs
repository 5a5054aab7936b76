//! Whether columns are those of a forest, and of the forest of a given trace.
//!
//! [`columns`] looks at every index, in one pass over nodes and one over requests, so that nothing that
//! passes can lead outside a column later. [`agree`] compares with the trace: every length and salt, and
//! ids at random places; comparing all ids would be compiling again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::{Columns, Forest, NONE};
use crate::index::{to_u32, to_usize};
use crate::trace::{Id, Trace};

/// Nodes, and requests, whose ids are compared. A forest that is wrong for a share `s` of either is
/// found out with probability 1 - (1 - s)^SAMPLES or more; a small one for certain.
const SAMPLES: usize = 1 << 14;

/// What is wrong, in words.
type Checked = Result<(), String>;

/// Checks every invariant of the columns alone.
///
/// Nodes are in preorder, each deeper than its parent; roots are empty; every request of a node passes
/// through it; the end of an output lies below the end of its prompt, or is it.
pub(super) fn columns(forest: &Columns) -> Checked {
    let Columns { parent, end, .. } = forest;
    let nodes = parent.len();
    let requests = forest.prompt_node.len();
    if forest.tokens_per_id == 0 {
        return Err("ids of 0 tokens".into());
    }
    if end.len() != nodes || forest.representative.len() != nodes || nodes >= NONE as usize {
        return Err("columns of nodes have different lengths".into());
    }
    // Preorder: a node's parent is the node before it, or above that one.
    for node in 0..nodes {
        let above = parent[node] as usize;
        let root = above == node;
        if above > node || (root && end[node] != 0) || (!root && end[node] <= end[above]) {
            return Err(format!("node {node} does not continue its parent {above}"));
        }
        if !root {
            let mut before = node - 1;
            while before > above && parent[before] as usize != before {
                before = parent[before] as usize;
            }
            if before != above {
                return Err(format!(
                    "node {node} is not behind its parent {above} in preorder"
                ));
            }
        } else if node == 0 && above != 0 {
            return Err("node 0 is no root".into());
        }
    }
    let behind = subtree_ends(parent);
    let last = forest.output_node.as_ref().unwrap_or(&forest.prompt_node);
    if last.len() != requests {
        return Err("columns of requests have different lengths".into());
    }
    for (request, (&prompt, &last)) in forest.prompt_node.iter().zip(last).enumerate() {
        if prompt as usize >= nodes || last as usize >= nodes {
            return Err(format!(
                "request {request} ends at a node that is not there"
            ));
        }
        if last < prompt || last >= behind[prompt as usize] {
            return Err(format!("request {request} does not end below its prompt"));
        }
    }
    for (node, &request) in forest.representative.iter().enumerate() {
        if parent[node] as usize == node {
            continue;
        }
        let Some(&last) = last.get(request as usize) else {
            return Err(format!("node {node} has no request to spell it"));
        };
        if (last as usize) < node || last >= behind[node] {
            return Err(format!(
                "request {request} does not pass through node {node}"
            ));
        }
    }
    Ok(())
}

/// For each node, the first node behind all those below it.
fn subtree_ends(parent: &[u32]) -> Vec<u32> {
    let mut behind: Vec<u32> = (1..=to_u32(parent.len())).collect();
    for node in (0..parent.len()).rev() {
        let above = parent[node] as usize;
        behind[above] = behind[above].max(behind[node]);
    }
    behind
}

/// Checks that a forest whose columns are right is that of a trace.
pub(super) fn agree<T: Id>(forest: &Forest, trace: &Trace<'_, T>) -> Checked {
    if forest.requests() != trace.requests() || forest.tokens_per_id() != trace.tokens_per_id() {
        return Err("made of another number of requests, or of other ids".into());
    }
    if forest.output_node().is_some() != trace.has_outputs()
        || forest.partial_blocks() != trace.partial_blocks()
    {
        return Err("made with other options".into());
    }
    for request in 0..trace.requests() {
        let prompt = forest.columns.prompt_node[request] as usize;
        let last = forest.last_node()[request] as usize;
        if forest.columns.end[prompt] as usize != trace.prompt(request).len()
            || forest.columns.end[last] as usize != trace.len(request)
        {
            return Err(format!("request {request} has another length"));
        }
    }
    salts(forest, trace)?;
    if forest.nodes() > 0 && trace.requests() > 0 {
        compare_ids(forest, trace)?;
    }
    Ok(())
}

/// Checks that requests share a root exactly if they share a salt.
fn salts<T: Id>(forest: &Forest, trace: &Trace<'_, T>) -> Checked {
    let mut root_of = vec![0_u32; forest.nodes()];
    let mut roots = 0;
    for (node, &above) in forest.columns.parent.iter().enumerate() {
        if above as usize == node {
            roots += 1;
            root_of[node] = roots - 1;
        } else {
            root_of[node] = root_of[above as usize];
        }
    }
    let mut pairs: Vec<(u32, u32)> = (0..trace.requests())
        .map(|request| {
            let salt = trace.salts().map_or(0, |codes| codes[request]);
            (salt, root_of[forest.columns.prompt_node[request] as usize])
        })
        .collect();
    pairs.dedup();
    pairs.sort_unstable();
    pairs.dedup();
    let apart = pairs.windows(2).all(|pair| pair[0].0 != pair[1].0);
    let mut owners: Vec<u32> = pairs.iter().map(|&(_, root)| root).collect();
    owners.sort_unstable();
    if !apart || owners.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("salts are isolated in another way".into());
    }
    Ok(())
}

/// Compares ids along the way of requests, and where siblings part: all of them if there are few,
/// else those at random places.
fn compare_ids<T: Id>(forest: &Forest, trace: &Trace<'_, T>) -> Checked {
    let ids: u64 = (0..trace.requests()).map(|i| trace.len(i) as u64).sum();
    if ids <= SAMPLES as u64 {
        return compare_all(forest, trace);
    }
    let mut random = Random::new();
    let spelled =
        |node: usize, at: usize| trace.id(forest.columns.representative[node] as usize, at);
    for _ in 0..SAMPLES.min(4 * forest.requests()) {
        let request = random.below(forest.requests());
        let length = trace.len(request);
        if length == 0 {
            continue;
        }
        let at = random.below(length);
        let node = forest.node_at(forest.last_node()[request], to_u32(at) + 1) as usize;
        if trace.id(request, at) != spelled(node, at) {
            return Err(format!("request {request} has another id at {at}"));
        }
    }
    let behind = subtree_ends(&forest.columns.parent);
    for _ in 0..SAMPLES.min(4 * forest.nodes()) {
        let node = random.below(forest.nodes());
        let above = forest.columns.parent[node] as usize;
        if above == node {
            continue;
        }
        let at = forest.columns.end[above] as usize;
        for sibling in [above + 1, behind[node] as usize] {
            let other = forest.columns.parent.get(sibling).is_some_and(|&parent| {
                parent as usize == above && sibling != node && sibling != above
            });
            if other && spelled(node, at) == spelled(sibling, at) {
                return Err(format!("nodes {node} and {sibling} begin with the same id"));
            }
        }
    }
    Ok(())
}

/// Compares every id of every request, and the first ids of all siblings.
fn compare_all<T: Id>(forest: &Forest, trace: &Trace<'_, T>) -> Checked {
    for request in 0..trace.requests() {
        let mut node = forest.last_node()[request] as usize;
        while forest.columns.parent[node] as usize != node {
            let above = forest.columns.parent[node] as usize;
            let guide = forest.columns.representative[node] as usize;
            for at in forest.columns.end[above]..forest.columns.end[node] {
                if trace.id(request, at as usize) != trace.id(guide, at as usize) {
                    return Err(format!("request {request} has another id at {at}"));
                }
            }
            node = above;
        }
    }
    let mut first: Vec<(u32, u64)> = (0..forest.nodes())
        .filter(|&node| forest.columns.parent[node] as usize != node)
        .map(|node| {
            let above = forest.columns.parent[node];
            let at = forest.columns.end[above as usize] as usize;
            let id = trace.id(forest.columns.representative[node] as usize, at);
            (above, id.widen())
        })
        .collect();
    first.sort_unstable();
    if first.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two children of a node begin with the same id".into());
    }
    Ok(())
}

/// Numbers that nobody outside this process can foresee.
struct Random {
    keys: RandomState,
    drawn: u64,
}

impl Random {
    fn new() -> Self {
        Self {
            keys: RandomState::new(),
            drawn: 0,
        }
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        to_usize(self.keys.hash_one(self.drawn) % bound as u64)
    }
}
