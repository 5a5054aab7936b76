//! Final numbering of a forest: preorder, the child with most requests first.
//!
//! A node whose number is its parent's plus one continues the parent's *heavy path*; every other
//! node starts a path of its own. Going from any node up to its root, the number of requests below
//! at least doubles with every change of path, so there are at most log2(requests) of them.
//!
//! It takes two steps, because the draft's nodes lie in memory as they came: a preorder of any kind
//! brings neighbours together, and the rest is done on that.

use super::Forest;
use super::draft::{Draft, Node, SEVERAL};
use crate::forest::NONE;
use crate::trace::Id;

/// Nodes in some preorder.
struct Flat {
    parent: Vec<u32>,
    end: Vec<u32>,
    representative: Vec<u32>,
}

impl Flat {
    /// Puts the nodes of a draft in preorder; leaves the place of each in its `first`.
    fn of(nodes: &mut [Node], mut children: Vec<u32>, roots: u32) -> Self {
        children.sort_unstable_by_key(|&node| (nodes[node as usize].parent, node));
        for (i, &node) in children.iter().enumerate().rev() {
            // Where the list of its children starts.
            let parent = nodes[node as usize].parent as usize;
            nodes[parent].first = i as u32;
        }
        let mut flat = Self {
            parent: Vec::with_capacity(nodes.len()),
            end: Vec::with_capacity(nodes.len()),
            representative: Vec::with_capacity(nodes.len()),
        };
        let mut stack: Vec<(u32, u32)> = (0..roots).rev().map(|root| (root, NONE)).collect();
        while let Some((number, above)) = stack.pop() {
            let node = &mut nodes[number as usize];
            let place = flat.parent.len() as u32;
            flat.parent.push(if above == NONE { place } else { above });
            flat.end.push(node.end);
            flat.representative.push(node.guide);
            let list = std::mem::replace(&mut node.first, place) as usize;
            match node.child {
                NONE => {}
                SEVERAL => {
                    let siblings = children[list..]
                        .iter()
                        .take_while(|&&child| nodes[child as usize].parent == number);
                    stack.extend(siblings.map(|&child| (child, place)));
                }
                only => stack.push((only, place)),
            }
        }
        flat
    }

    /// Numbers the nodes anew: of siblings, the one with most requests below it comes first.
    fn heaviest_first(&self, mut requests: Vec<u32>) -> Vec<u32> {
        let nodes = self.parent.len();
        let mut size = vec![1u32; nodes];
        let mut heavy = vec![NONE; nodes];
        for node in (0..nodes).rev() {
            let above = self.parent[node] as usize;
            if above != node {
                size[above] += size[node];
                requests[above] += requests[node];
                let rival = heavy[above];
                if rival == NONE || requests[rival as usize] < requests[node] {
                    heavy[above] = node as u32;
                }
            }
        }
        drop(requests);
        let mut place = vec![0; nodes];
        // Where the next light child of each node goes.
        let mut next = vec![0; nodes];
        let mut root_place = 0;
        for node in 0..nodes {
            let above = self.parent[node] as usize;
            if above == node {
                place[node] = root_place;
                root_place += size[node];
            } else if heavy[above] == node as u32 {
                place[node] = place[above] + 1;
            } else {
                place[node] = next[above];
                next[above] += size[node];
            }
            let heavy_size = size.get(heavy[node] as usize).unwrap_or(&0);
            next[node] = place[node] + 1 + heavy_size;
        }
        place
    }
}

/// Numbers the nodes of a draft and makes the forest of it.
pub(super) fn number<T: Id>(draft: Draft<'_, T>, mut prompt_node: Vec<u32>) -> Forest {
    let trace = draft.trace();
    let roots = draft.roots();
    let (mut nodes, children, mut last) = draft.finish();
    let flat = Flat::of(&mut nodes, children, roots);
    let mut requests = vec![0u32; nodes.len()];
    for (last, prompt) in last.iter_mut().zip(&mut prompt_node) {
        *last = nodes[*last as usize].first;
        *prompt = nodes[*prompt as usize].first;
        requests[*last as usize] += 1;
    }
    drop(nodes);
    let place = flat.heaviest_first(requests);
    let arrange = |column: &[u32]| {
        let mut arranged = vec![0; column.len()];
        for (&value, &place) in column.iter().zip(&place) {
            arranged[place as usize] = value;
        }
        arranged
    };
    let (end, representative) = (arrange(&flat.end), arrange(&flat.representative));
    let mut parent = arrange(&flat.parent);
    drop(flat);
    let renumber = |column: &mut [u32]| {
        for node in column {
            *node = place[*node as usize];
        }
    };
    renumber(&mut parent);
    renumber(&mut prompt_node);
    let outputs = trace.has_outputs();
    if outputs {
        renumber(&mut last);
    }
    Forest::assemble(
        trace.tokens_per_id(),
        trace.partial_blocks(),
        parent,
        end,
        representative,
        prompt_node,
        outputs.then_some(last),
    )
}
