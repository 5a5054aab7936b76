//! Final numbering of a forest: preorder, the child with most requests first.
//!
//! A node whose number is its parent's plus one continues the parent's *heavy path*; every other
//! node starts a path of its own. Going from any node up to its root, the number of requests below
//! at least doubles with every change of path, so there are at most log2(requests) of them.
//!
//! It takes two steps, because the builder's nodes lie in memory as they came: a preorder of any kind
//! brings neighbours together, and the rest is done on that.

use super::builder::{ChildrenView, ForestBuilder, Node, Parts};
use super::{Columns, Forest, NONE};
use crate::index::to_u32;
use crate::trace::Id;

/// Nodes in some preorder.
struct Preorder {
    parent: Vec<u32>,
    end: Vec<u32>,
    representative: Vec<u32>,
}

impl Preorder {
    /// Puts the nodes of a builder in preorder; also returns the place of each.
    fn of(nodes: &[Node], mut children: Vec<u32>, roots: u32) -> (Self, Vec<u32>) {
        children.sort_unstable_by_key(|&node| (nodes[node as usize].parent, node));
        // Of the nodes with several children: where the list of them starts in `children`. Taken from
        // the back, so that the first of each list is what stays.
        let mut child_list_start = vec![0; nodes.len()];
        for (place, &node) in children.iter().enumerate().rev() {
            child_list_start[nodes[node as usize].parent as usize] = to_u32(place);
        }
        let mut order = Self {
            parent: Vec::with_capacity(nodes.len()),
            end: Vec::with_capacity(nodes.len()),
            representative: Vec::with_capacity(nodes.len()),
        };
        let mut preorder = vec![0; nodes.len()];
        let mut to_visit: Vec<(u32, Option<u32>)> =
            (0..roots).rev().map(|root| (root, None)).collect();
        while let Some((number, above)) = to_visit.pop() {
            let node = &nodes[number as usize];
            let place = to_u32(order.parent.len());
            preorder[number as usize] = place;
            order.parent.push(above.unwrap_or(place));
            order.end.push(node.end);
            order.representative.push(node.guide);
            match node.children.view() {
                ChildrenView::None => {}
                ChildrenView::One(only) => to_visit.push((only, Some(place))),
                ChildrenView::Many => {
                    let list = &children[child_list_start[number as usize] as usize..];
                    let own = list
                        .iter()
                        .take_while(|&&child| nodes[child as usize].parent == number);
                    to_visit.extend(own.map(|&child| (child, Some(place))));
                }
            }
        }
        (order, preorder)
    }

    /// Numbers the nodes anew: of siblings, the one with most requests below it comes first.
    /// `requests` is how many end at each node.
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
                    heavy[above] = to_u32(node);
                }
            }
        }
        drop(requests);
        let mut number = vec![0; nodes];
        // The number that the next light child of each node gets.
        let mut next_light = vec![0; nodes];
        let mut next_root = 0;
        for node in 0..nodes {
            let above = self.parent[node] as usize;
            if above == node {
                number[node] = next_root;
                next_root += size[node];
            } else if heavy[above] as usize == node {
                number[node] = number[above] + 1;
            } else {
                number[node] = next_light[above];
                next_light[above] += size[node];
            }
            let heavy_size = size.get(heavy[node] as usize).unwrap_or(&0);
            next_light[node] = number[node] + 1 + heavy_size;
        }
        number
    }
}

/// Numbers the nodes of a builder and makes the forest of them.
pub(super) fn number<T: Id>(builder: ForestBuilder<'_, T>, mut prompt_node: Vec<u32>) -> Forest {
    let trace = builder.trace();
    let Parts {
        nodes,
        roots,
        children,
        mut last,
    } = builder.finish();
    let (order, preorder) = Preorder::of(&nodes, children, roots);
    drop(nodes);
    let mut requests = vec![0u32; preorder.len()];
    for (last, prompt) in last.iter_mut().zip(&mut prompt_node) {
        *last = preorder[*last as usize];
        *prompt = preorder[*prompt as usize];
        requests[*last as usize] += 1;
    }
    drop(preorder);
    let number = order.heaviest_first(requests);
    let arrange = |column: &[u32]| {
        let mut arranged = vec![0; column.len()];
        for (&value, &number) in column.iter().zip(&number) {
            arranged[number as usize] = value;
        }
        arranged
    };
    let (end, representative) = (arrange(&order.end), arrange(&order.representative));
    let mut parent = arrange(&order.parent);
    drop(order);
    let renumber = |column: &mut [u32]| {
        for node in column {
            *node = number[*node as usize];
        }
    };
    renumber(&mut parent);
    renumber(&mut prompt_node);
    let outputs = trace.has_outputs();
    if outputs {
        renumber(&mut last);
    }
    Forest::assemble(Columns {
        tokens_per_id: trace.tokens_per_id(),
        partial_blocks: trace.partial_blocks(),
        parent,
        end,
        representative,
        prompt_node,
        output_node: outputs.then_some(last),
    })
}
