//! Final numbering of a forest: preorder, the child with most requests first.
//!
//! A node whose number is its parent's plus one continues the parent's *heavy path*; every other
//! node starts a path of its own. Going from any node up to its root, the number of requests below
//! at least doubles with every change of path, so there are at most log2(requests) of them.

use super::Forest;
use super::draft::Node;
use super::units::{Sequences, Unit};

/// Children of every node as lists in one array.
struct Children {
    offsets: Vec<u32>,
    nodes: Vec<u32>,
}

impl Children {
    fn of(nodes: &[Node], roots: usize) -> Self {
        let mut offsets = vec![0u32; nodes.len() + 1];
        for node in &nodes[roots..] {
            offsets[node.parent as usize + 1] += 1;
        }
        for i in 0..nodes.len() {
            offsets[i + 1] += offsets[i];
        }
        let mut lists = vec![0; nodes.len() - roots];
        // Filled from the back, which moves every end of a list to its start.
        let mut ends = offsets.clone();
        for (i, node) in nodes.iter().enumerate().skip(roots).rev() {
            let end = &mut ends[node.parent as usize + 1];
            *end -= 1;
            lists[*end as usize] = i as u32;
        }
        Self {
            offsets,
            nodes: lists,
        }
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

    /// Puts the child with most requests below it last in each list, where preorder starts.
    fn heaviest_last(&mut self, requests: &[u32]) {
        for node in 0..self.offsets.len() as u32 - 1 {
            let range = self.range(node);
            let siblings = &mut self.nodes[range];
            let heaviest = (0..siblings.len()).max_by_key(|&i| {
                (
                    requests[siblings[i] as usize],
                    std::cmp::Reverse(siblings[i]),
                )
            });
            if let Some(heaviest) = heaviest {
                let end = siblings.len() - 1;
                siblings.swap(heaviest, end);
            }
        }
    }
}

/// Numbers the nodes of a draft and makes the forest of it.
pub(super) fn number<T: Unit>(
    nodes: &[Node],
    roots: u32,
    mut prompt_node: Vec<u32>,
    mut last: Vec<u32>,
    sequences: &Sequences<'_, T>,
) -> Forest {
    let mut children = Children::of(nodes, roots as usize);
    let mut requests = vec![0u32; nodes.len()];
    for &node in &last {
        requests[node as usize] += 1;
    }
    let order = children.preorder(roots);
    for &node in order.iter().rev() {
        if node >= roots {
            requests[nodes[node as usize].parent as usize] += requests[node as usize];
        }
    }
    drop(order);
    children.heaviest_last(&requests);
    drop(requests);
    let order = children.preorder(roots);
    drop(children);
    let mut place = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old as usize] = new as u32;
    }
    let mut parent = Vec::with_capacity(order.len());
    let mut end = Vec::with_capacity(order.len());
    let mut representative = Vec::with_capacity(order.len());
    for &old in &order {
        let node = nodes[old as usize];
        parent.push(place[node.parent as usize]);
        end.push(node.end);
        representative.push(node.guide);
    }
    drop(order);
    for node in &mut prompt_node {
        *node = place[*node as usize];
    }
    let outputs = sequences.has_outputs();
    if outputs {
        for node in &mut last {
            *node = place[*node as usize];
        }
    }
    Forest::assemble(
        sequences.unit(),
        sequences.partial_blocks(),
        parent,
        end,
        representative,
        prompt_node,
        outputs.then_some(last),
    )
}
