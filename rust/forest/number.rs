//! Final numbering of a forest: preorder, the child with most requests first.
//!
//! A node whose number is its parent's plus one continues the parent's *heavy path*; every other
//! node starts a path of its own. Going from any node up to its root, the number of requests below
//! at least doubles with every change of path, so there are at most log2(requests) of them.

use super::build::Draft;
use super::{Forest, NONE};

/// Children of every node as lists in one array.
struct Children {
    offsets: Vec<u32>,
    nodes: Vec<u32>,
}

impl Children {
    fn of(parent: &[u32], roots: usize) -> Self {
        let mut offsets = vec![0u32; parent.len() + 1];
        for &p in &parent[roots..] {
            offsets[p as usize + 1] += 1;
        }
        for i in 0..parent.len() {
            offsets[i + 1] += offsets[i];
        }
        let mut place = offsets.clone();
        let mut nodes = vec![0; parent.len() - roots];
        for (node, &p) in parent.iter().enumerate().skip(roots) {
            nodes[place[p as usize] as usize] = node as u32;
            place[p as usize] += 1;
        }
        Self { offsets, nodes }
    }

    fn range(&self, node: u32) -> std::ops::Range<usize> {
        self.offsets[node as usize] as usize..self.offsets[node as usize + 1] as usize
    }

    /// All nodes, parents before children.
    fn preorder(&self, roots: u32) -> Vec<u32> {
        let mut order = Vec::with_capacity(self.offsets.len() - 1);
        let mut stack: Vec<u32> = (0..roots).rev().collect();
        while let Some(node) = stack.pop() {
            order.push(node);
            stack.extend_from_slice(&self.nodes[self.range(node)]);
        }
        order
    }
}

/// Numbers the nodes of a draft and makes the forest of it.
pub(super) fn number(
    draft: Draft,
    mut prompt_node: Vec<u32>,
    mut last: Vec<u32>,
    unit: u32,
    outputs: bool,
    partial_blocks: bool,
) -> Forest {
    let Draft {
        parent,
        end,
        representative,
        roots,
    } = draft;
    let mut children = Children::of(&parent, roots as usize);
    let mut requests = vec![0u32; parent.len()];
    for &node in &last {
        requests[node as usize] += 1;
    }
    let order = children.preorder(roots);
    for &node in order.iter().rev() {
        if node >= roots {
            requests[parent[node as usize] as usize] += requests[node as usize];
        }
    }
    for &node in &order {
        let range = children.range(node);
        let siblings = &mut children.nodes[range];
        let heaviest = (0..siblings.len())
            .max_by_key(|&i| {
                (
                    requests[siblings[i] as usize],
                    std::cmp::Reverse(siblings[i]),
                )
            })
            .unwrap_or(0);
        // The stack of a preorder takes its last element first.
        let end = siblings.len().saturating_sub(1);
        if heaviest != end {
            siblings.swap(heaviest, end);
        }
    }
    drop((requests, order));
    let order = children.preorder(roots);
    drop(children);
    let mut place = vec![NONE; order.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old as usize] = new as u32;
    }
    let pick = |column: &[u32]| -> Vec<u32> { order.iter().map(|&o| column[o as usize]).collect() };
    let parent = order
        .iter()
        .map(|&o| place[parent[o as usize] as usize])
        .collect();
    let (end, representative) = (pick(&end), pick(&representative));
    for node in &mut prompt_node {
        *node = place[*node as usize];
    }
    if outputs {
        for node in &mut last {
            *node = place[*node as usize];
        }
    }
    Forest::assemble(
        unit,
        partial_blocks,
        parent,
        end,
        representative,
        prompt_node,
        outputs.then_some(last),
    )
}
