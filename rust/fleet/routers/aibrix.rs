//! The `prefix-cache` router of `AIBrix`.

use std::sync::Arc;

use super::recency::{Entry, HeadsFirst, Segments};
use super::sglang::tokens_of;
use super::simple::least_loaded;
use crate::error::Error;
use crate::fleet::replicas::Replicas;
use crate::fleet::router::{Arrival, Decision, Router, Setting, View};
use crate::fleet::traffic::{Blocks, Unit};
use crate::fleet::tree::{AHEAD, BlockTree, Node, ROOT, above, look_ahead};

/// Limits of the router and its table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AibrixConfig {
    /// Difference of loads beyond which only the least loaded replicas are looked at.
    pub imbalance_abs: u32,
    /// Standard deviations above the mean load beyond which a replica is passed over.
    pub stddev_factor: f64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Blocks of the table, of all replicas together.
    pub table_blocks: u64,
    /// Seconds after which an unused block is forgotten.
    pub ttl_secs: f64,
}

impl Default for AibrixConfig {
    fn default() -> Self {
        Self {
            imbalance_abs: 8,
            stddev_factor: 1.0,
            block_bytes: 4,
            table_blocks: 200_000,
            ttl_secs: 1200.0,
        }
    }
}

/// Which way a decision of [`Aibrix`] went; imbalance is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// A replica that matched.
    Taken,
    /// All that matched were passed over for their load.
    Skipped,
    /// None matched.
    None,
}

/// What the table keeps of a segment.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Replicas that have all of it.
    had: Replicas,
    entry: Entry,
}

impl Segments for Vec<Node<Known>> {
    #[inline]
    fn above(&self, at: u32) -> u32 {
        self[at as usize].segment.parent
    }

    #[inline]
    fn entry(&mut self, at: u32) -> &mut Entry {
        &mut self[at as usize].kept.entry
    }

    #[inline]
    fn lost(&mut self, at: u32, _: bool) {
        self[at as usize].kept.had = Replicas::NONE;
    }
}

/// The `prefix-cache` router of `AIBrix` (0.7-rc3): the longest match, unless its replica is loaded by more
/// than a standard deviation above the mean.
///
/// The table is one LRU of blocks for all replicas, entered first block first: what it drops is the
/// beginning of prompts, without which nothing matches.
#[derive(Debug)]
pub struct Aibrix {
    config: AibrixConfig,
    tree: Arc<BlockTree>,
    nodes: Vec<Node<Known>>,
    table: HeadsFirst,
    /// The segments of the prompt, the last one first.
    path: Vec<u32>,
    depth: Vec<u32>,
    percent: Vec<u32>,
    last: (Matched, bool),
    bytes: u32,
    prompt_tokens: u32,
}

impl Aibrix {
    /// An empty table.
    ///
    /// # Errors
    /// As [`Traffic::tree`](crate::fleet::Traffic::tree).
    pub fn new(setting: &Setting<'_>, config: AibrixConfig) -> crate::Result<Self> {
        let tree = setting
            .traffic
            .tree(Blocks::full(Unit::Bytes, config.block_bytes))?;
        Ok(Self {
            nodes: tree.nodes(Known {
                had: Replicas::NONE,
                entry: Entry::default(),
            }),
            table: HeadsFirst::new(),
            tree,
            config,
            path: Vec::new(),
            depth: vec![0; setting.replicas],
            percent: vec![0; setting.replicas],
            last: (Matched::None, false),
            bytes: 0,
            prompt_tokens: 0,
        })
    }

    /// Finds how deep each replica of `ready` matches.
    fn find(&mut self, arrival: &Arrival, mut ready: Replicas) {
        let leaf = self.tree.leaf(arrival.request);
        self.depth.fill(0);
        self.path.clear();
        let mut at = leaf;
        while at != ROOT {
            self.path.push(at);
            at = self.nodes[at as usize].segment.parent;
        }
        for &at in self.path.iter().rev() {
            let node = &self.nodes[at as usize];
            ready = ready.and(node.kept.had);
            if ready.is_empty() {
                break;
            }
            for replica in ready {
                self.depth[replica] = node.segment.end;
            }
        }
        let blocks = u64::from(self.nodes[leaf as usize].segment.end.max(1));
        for (percent, &depth) in self.percent.iter_mut().zip(&self.depth) {
            *percent = u32::try_from(u64::from(depth) * 100 / blocks).unwrap_or(100);
        }
    }
}

/// Mean and sample standard deviation of loads.
fn spread(available: Replicas, loads: &[u32]) -> (f64, f64) {
    #[allow(clippy::cast_precision_loss)] // At most 64.
    let count = available.len() as f64;
    let loads = || available.into_iter().map(|w| f64::from(loads[w]));
    let mean = loads().sum::<f64>() / count;
    if count < 2.0 {
        return (mean, 0.0);
    }
    let squares: f64 = loads().map(|load| (load - mean) * (load - mean)).sum();
    (mean, (squares / (count - 1.0)).sqrt())
}

/// The replicas that `AIBrix` takes with equal right of those that `matched`, given all loads; none if all
/// are loaded too much.
pub(super) fn select(
    matched: Replicas,
    available: Replicas,
    loads: &[u32],
    percent: &[u32],
    stddev_factor: f64,
) -> Replicas {
    let (mean, deviation) = spread(available, loads);
    let gate = mean + stddev_factor * deviation;
    let mut passed = Replicas::NONE;
    for replica in matched {
        if f64::from(loads[replica]) <= gate {
            passed.add(replica);
        }
    }
    passed.least_by(|w| (u32::MAX - percent[w], loads[w]))
}

impl Router for Aibrix {
    fn route(&mut self, arrival: &Arrival, view: &View<'_>) -> Decision {
        let forget = arrival.time - self.config.ttl_secs;
        self.table.expire(forget, &mut self.nodes);
        self.bytes = self.tree.blocks(arrival.request) * self.tree.block();
        self.prompt_tokens = arrival.prompt_tokens;
        let least = least_loaded(view.available, view);
        let most = view.available.into_iter().map(|w| view.loads[w]).max();
        let spread = most.unwrap_or(0) - view.loads[least.lowest()];
        let imbalanced = spread > self.config.imbalance_abs;
        let ready = if imbalanced { least } else { view.available };
        self.find(arrival, ready);
        let mut matched = Replicas::NONE;
        for replica in ready {
            if self.depth[replica] > 0 {
                matched.add(replica);
            }
        }
        let factor = self.config.stddev_factor;
        let found = select(matched, view.available, view.loads, &self.percent, factor);
        if !found.is_empty() {
            self.last = (Matched::Taken, imbalanced);
            return if imbalanced {
                Decision::by_load(found)
            } else {
                Decision::among(found)
            };
        }
        let none = if matched.is_empty() {
            Matched::None
        } else {
            Matched::Skipped
        };
        self.last = (none, imbalanced);
        if imbalanced {
            Decision::by_load(least)
        } else {
            Decision::among(least)
        }
    }

    fn believed(&self, replica: usize) -> Option<u32> {
        let known = self.depth[replica].saturating_mul(self.tree.block());
        Some(tokens_of(known, self.bytes, self.prompt_tokens))
    }

    /// The branch (0: taken, 1: skipped, 2: none), whether loads were too different, and the percent of each
    /// replica, -1 if it has nothing.
    fn note(&self, notes: &mut Vec<f64>) {
        let (matched, imbalanced) = self.last;
        notes.extend([f64::from(matched as u8), f64::from(u8::from(imbalanced))]);
        let percents = self.percent.iter().zip(&self.depth);
        notes.extend(percents.map(|(&percent, &depth)| match depth {
            0 => -1.0,
            _ => f64::from(percent),
        }));
    }

    fn booked(&mut self, arrival: &Arrival, _: &View<'_>, replica: usize) {
        let Some(&leaf) = self.path.first() else {
            return;
        };
        self.table.begin(leaf, arrival.time);
        for &at in self.path.iter().rev() {
            let node = &mut self.nodes[at as usize];
            node.kept.had.add(replica);
            self.table
                .touch(&mut node.kept.entry, node.segment.blocks());
            // At once: room for the beginning of a prompt is made by its own end, if that is oldest.
            self.table.shrink(self.config.table_blocks, &mut self.nodes);
        }
    }

    fn ahead(&mut self, requests: std::ops::Range<usize>) {
        let mut buffer = [ROOT; AHEAD];
        let leaves = self.tree.leaves(&requests, &mut buffer);
        look_ahead(leaves, |_, at| (above(&self.nodes, at), 0));
    }

    fn validate(&self) -> crate::Result<()> {
        self.table
            .validate(self.nodes.iter().map(|node| node.kept.entry))?;
        for (at, node) in self.nodes.iter().enumerate() {
            let (size, kept) = (node.segment.blocks(), node.kept.entry.kept);
            if kept > size || !node.kept.had.is_empty() && kept != size {
                return Err(Error::bug(format!("segment {at} is had without its head")));
            }
        }
        Ok(())
    }
}
