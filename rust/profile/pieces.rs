//! Finding the pieces: the `access` of a link-cut tree, made simple by knowing the tree.
//!
//! The final tree is known, so it is cut into heavy paths once, and a request's path crosses at
//! most log2(requests) of them. On one heavy path every request touches a leading part. Hence from
//! its top downwards the last use only gets older: the last uses of a heavy path are a stack of
//! intervals, the most recent on top. A request that goes down to depth d takes off every interval
//! that ends above d, cuts the next one, and puts itself on top. Every interval is put there once
//! and taken off once: O(log requests) per request, amortised, however many turns a session has.

use super::{BATCH, Piece};
use crate::error::{Error, Result};
use crate::forest::{Forest, NONE};
use crate::stop::Stop;

/// The pieces of all requests, as lists in one array.
#[derive(Debug)]
pub(super) struct Pieces {
    offsets: Vec<u32>,
    pieces: Vec<Piece>,
}

impl Pieces {
    /// Runs all requests, of which number t touches `blocks[t]` blocks of `units` units each.
    pub fn of(forest: &Forest, units: u32, blocks: &[u32], stop: &Stop) -> Result<Self> {
        let mut stacks = Stacks::of(forest, units);
        let mut offsets = Vec::with_capacity(blocks.len() + 1);
        let mut pieces = Vec::with_capacity(blocks.len());
        let mut way = Vec::new();
        offsets.push(0);
        for (t, &depth) in blocks.iter().enumerate() {
            if t % BATCH == 0 {
                stop.check()?;
                if pieces.len() > (NONE / 2) as usize {
                    return Err(Error::range("more than 2^31 pieces in one trace"));
                }
            }
            let path = forest.path_of()[forest.last_node()[t] as usize];
            let from = pieces.len();
            stacks.way(path, depth, &mut way);
            for &(path, depth) in way.iter().rev() {
                stacks.touch(path, depth, t as u32, |piece: Piece| {
                    match pieces[from..].last_mut() {
                        Some(Piece { end, last_use }) if *last_use == piece.last_use => {
                            *end = piece.end;
                        }
                        _ => pieces.push(piece),
                    }
                });
            }
            offsets.push(pieces.len() as u32);
        }
        pieces.shrink_to_fit();
        Ok(Self { offsets, pieces })
    }

    pub fn of_request(&self, t: usize) -> &[Piece] {
        &self.pieces[self.offsets[t] as usize..self.offsets[t + 1] as usize]
    }

    pub fn len(&self) -> usize {
        self.pieces.len()
    }
}

/// The last uses on one heavy path. The interval on top stands here, the others in the slab.
#[derive(Clone, Copy)]
struct Stack {
    up: u32,
    /// Depth at which the path starts, in blocks.
    start: u32,
    /// The most recent interval; no `last_use`: nothing touched yet.
    top: Piece,
    /// Place of the next interval in the slab.
    below: u32,
}

struct Stacks {
    paths: Vec<Stack>,
    slab: Vec<(Piece, u32)>,
    free: u32,
}

impl Stacks {
    fn of(forest: &Forest, units: u32) -> Self {
        let paths = forest
            .paths()
            .iter()
            .map(|path| Stack {
                up: path.up,
                start: path.top / units,
                top: Piece {
                    end: 0,
                    last_use: NONE,
                },
                below: NONE,
            })
            .collect();
        Self {
            paths,
            slab: Vec::new(),
            free: NONE,
        }
    }

    /// The heavy paths that a path down to `depth` on `path` takes blocks of, and how deep on each;
    /// the deepest first.
    fn way(&self, mut path: u32, mut depth: u32, way: &mut Vec<(u32, u32)>) {
        way.clear();
        while path != NONE {
            let stack = &self.paths[path as usize];
            if depth > stack.start {
                way.push((path, depth));
                depth = stack.start;
            }
            path = stack.up;
        }
    }

    /// Lets request `t` touch a path down to `depth`, telling who touched it last.
    fn touch(&mut self, path: u32, depth: u32, t: u32, mut piece: impl FnMut(Piece)) {
        let stack = &mut self.paths[path as usize];
        while stack.top.last_use != NONE {
            if stack.top.end > depth {
                piece(Piece {
                    end: depth,
                    last_use: stack.top.last_use,
                });
                break;
            }
            piece(stack.top);
            let done = stack.top.end == depth;
            if stack.below == NONE {
                stack.top.last_use = NONE;
            } else {
                let place = stack.below;
                let entry = &mut self.slab[place as usize];
                (stack.top, stack.below) = *entry;
                entry.1 = std::mem::replace(&mut self.free, place);
            }
            if done {
                break;
            }
        }
        if stack.top.last_use != NONE {
            let entry = (stack.top, stack.below);
            stack.below = if self.free == NONE {
                self.slab.push(entry);
                (self.slab.len() - 1) as u32
            } else {
                let place = self.free;
                self.free = self.slab[place as usize].1;
                self.slab[place as usize] = entry;
                place
            };
        }
        stack.top = Piece {
            end: depth,
            last_use: t,
        };
    }
}
