//! The KV router of Dynamo: a cost of blocks to prefill and blocks in use.

use std::sync::Arc;

use crate::error::Error;
use crate::fleet::replicas::{Draw, Replicas};
use crate::fleet::router::{Arrival, Decision, Router, Setting, View};
use crate::fleet::rows::Rows;
use crate::fleet::traffic::{Blocks, Unit};
use crate::fleet::tree::{AHEAD, BlockTree, Node, ROOT, above, look_ahead};
use crate::index::{Ix, RequestIx};

/// Weights of the cost, under Dynamo's names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DynamoConfig {
    /// What the router knows of caches: KV events, or (`false`) its own decisions.
    pub use_kv_events: bool,
    /// Credit for a cached block.
    pub overlap_score_credit: f64,
    /// How fast the credit decays where a replica has more prefill than the idlest one.
    pub overlap_score_credit_decay: f64,
    /// Weight of blocks to prefill.
    pub prefill_load_scale: f64,
    /// Weight of a request in flight.
    pub decode_active_request_weight: f64,
    /// 0: the smallest cost; above: softmax over costs.
    pub router_temperature: f64,
    /// Seconds after which an own decision is forgotten.
    pub router_ttl_secs: f64,
}

impl Default for DynamoConfig {
    fn default() -> Self {
        Self {
            use_kv_events: true,
            overlap_score_credit: 1.0,
            overlap_score_credit_decay: 0.0,
            prefill_load_scale: 1.0,
            decode_active_request_weight: 0.0,
            router_temperature: 0.0,
            router_ttl_secs: 120.0,
        }
    }
}

/// Distinct blocks of the requests in flight at each replica, as counts of what is active below each
/// segment.
#[derive(Debug)]
struct Active {
    nodes: Vec<Node<Marks>>,
    /// Requests that end in a segment, and segments below it that are active.
    below: Rows<u32, 16>,
    blocks: Vec<u32>,
}

/// What is kept of a segment.
#[derive(Debug, Clone, Copy)]
struct Marks {
    /// Replicas at which it is active.
    active: Replicas,
    /// Replicas to which it was ever sent.
    sent: Replicas,
}

impl Active {
    fn new(tree: &BlockTree, replicas: usize) -> Self {
        Self {
            nodes: tree.nodes(Marks {
                active: Replicas::NONE,
                sent: Replicas::NONE,
            }),
            below: Rows::new(tree.len(), replicas),
            blocks: vec![0; replicas],
        }
    }

    fn add(&mut self, leaf: u32, replica: usize) {
        let mut at = leaf;
        while at != ROOT {
            let below = self.below.get_mut(at, replica);
            *below += 1;
            if *below > 1 {
                return;
            }
            let node = &mut self.nodes[at as usize];
            node.kept.active.add(replica);
            self.blocks[replica] += node.segment.blocks();
            at = node.segment.parent;
        }
    }

    fn remove(&mut self, leaf: u32, replica: usize) {
        let mut at = leaf;
        while at != ROOT {
            let below = self.below.get_mut(at, replica);
            *below -= 1;
            if *below > 0 {
                return;
            }
            let node = &mut self.nodes[at as usize];
            let active = &mut node.kept.active;
            *active = active.without(Replicas::one(replica));
            self.blocks[replica] -= node.segment.blocks();
            at = node.segment.parent;
        }
    }

    fn validate(&self) -> crate::Result<()> {
        let mut blocks = vec![0; self.blocks.len()];
        for (at, node) in (0..).zip(&self.nodes) {
            for (replica, sum) in blocks.iter_mut().enumerate() {
                let below = self.below.get(at, replica);
                if (below > 0) != node.kept.active.has(replica) {
                    return Err(Error::bug(format!("segment {at} of replica {replica}")));
                }
                *sum += u32::from(below > 0) * node.segment.blocks();
            }
        }
        if blocks != self.blocks {
            return Err(Error::bug("active blocks do not add up"));
        }
        Ok(())
    }

    /// Leading blocks of a path that are active at each replica.
    fn depths(&self, leaf: u32, of: Replicas, depth: &mut [u32]) {
        depth.fill(0);
        let (mut at, mut open) = (leaf, of);
        while at != ROOT && !open.is_empty() {
            let node = &self.nodes[at as usize];
            let found = node.kept.active.and(open);
            for replica in found {
                depth[replica] = node.segment.end;
            }
            open = open.without(found);
            at = node.segment.parent;
        }
    }
}

/// The latest decision for each segment at each replica.
#[derive(Debug)]
struct Decisions {
    /// The request plus one.
    latest: Rows<u32, 16>,
    /// The first request that is not yet forgotten.
    alive: u32,
}

impl Decisions {
    /// Leading blocks of a path that were sent to each replica.
    fn depths(&self, nodes: &[Node<Marks>], leaf: u32, of: Replicas, depth: &mut [u32]) {
        depth.fill(0);
        let (mut at, mut open) = (leaf, of);
        while at != ROOT && !open.is_empty() {
            let node = &nodes[at as usize];
            for replica in node.kept.sent.and(open) {
                if self.latest.get(at, replica) > self.alive {
                    depth[replica] = node.segment.end;
                    open = open.without(Replicas::one(replica));
                }
            }
            at = node.segment.parent;
        }
    }

    /// Notes that the path to `leaf` was sent to a replica.
    fn note(&mut self, nodes: &mut [Node<Marks>], leaf: u32, request: RequestIx, replica: usize) {
        let mut at = leaf;
        while at != ROOT {
            *self.latest.get_mut(at, replica) = request.get() + 1;
            let node = &mut nodes[at as usize];
            node.kept.sent.add(replica);
            at = node.segment.parent;
        }
    }
}

/// The KV router of Dynamo 1.6.1 (`dynamo-kv-router`).
///
/// A cached block is worth as much as a block of foreign load, so a prefix is given up as soon as its
/// holder has that many more blocks to prefill or in use.
#[derive(Debug)]
pub struct Dynamo {
    config: DynamoConfig,
    tree: Arc<BlockTree>,
    block: u32,
    time: Vec<f64>,
    active: Active,
    decisions: Option<Decisions>,
    /// Prefill tokens of requests in prefill at each replica.
    prefill: Vec<u64>,
    /// Requests in flight.
    requests: Vec<u32>,
    booked: Vec<u32>,
    overlap: Vec<u32>,
    in_use: Vec<u32>,
    cost: Vec<f64>,
    draw: Draw,
    prompt_tokens: u32,
}

impl Dynamo {
    /// Nothing is in flight, and nothing was decided.
    ///
    /// # Errors
    /// As [`Traffic::tree`](crate::fleet::Traffic::tree).
    pub fn new(setting: &Setting<'_>, config: DynamoConfig) -> crate::Result<Self> {
        let tree = setting
            .traffic
            .tree(Blocks::full(Unit::Tokens, setting.block_size))?;
        let replicas = setting.replicas;
        Ok(Self {
            config,
            block: setting.block_size,
            time: setting.traffic.columns().timestamp.clone(),
            active: Active::new(&tree, replicas),
            decisions: (!config.use_kv_events).then(|| Decisions {
                latest: Rows::new(tree.len(), replicas),
                alive: 0,
            }),
            prefill: vec![0; replicas],
            requests: vec![0; replicas],
            booked: vec![0; setting.traffic.requests()],
            overlap: vec![0; replicas],
            in_use: vec![0; replicas],
            cost: vec![0.0; replicas],
            draw: Draw::new(setting.seed),
            tree,
            prompt_tokens: 0,
        })
    }

    fn cached_tokens(&self, replica: usize) -> u32 {
        let cached = u64::from(self.overlap[replica]) * u64::from(self.block);
        u32::try_from(cached).map_or(self.prompt_tokens, |c| c.min(self.prompt_tokens))
    }

    #[allow(clippy::cast_precision_loss)] // Counts of tokens and blocks.
    fn costs(&mut self, available: Replicas) {
        let config = self.config;
        let (n, b) = (f64::from(self.prompt_tokens), f64::from(self.block));
        let least = available.into_iter().map(|w| self.prefill[w]).min();
        let least = least.unwrap_or(0);
        let blocks = (n / b).ceil().max(1.0);
        for w in available {
            let raw = (self.prefill[w] as f64 + n) / b;
            let mut decay = 1.0;
            if config.overlap_score_credit_decay > 0.0 {
                let more = (self.prefill[w] - least) as f64 / b;
                decay = 1.0 / (1.0 + config.overlap_score_credit_decay * (more / blocks));
            }
            let credit = config.overlap_score_credit * decay * f64::from(self.overlap[w]);
            let prefill = config.prefill_load_scale * (raw - credit).max(0.0);
            let decode = f64::from(self.active.blocks[w] + self.in_use[w]);
            self.cost[w] = prefill
                + decode
                + config.decode_active_request_weight * f64::from(self.requests[w]);
        }
    }

    /// Draws with chances of softmax(-(cost - least) / ((most - least) · temperature)).
    fn softmax(&mut self, available: Replicas) -> usize {
        let costs = || available.into_iter().map(|w| self.cost[w]);
        let least = costs().fold(f64::INFINITY, f64::min);
        let most = costs().fold(f64::NEG_INFINITY, f64::max);
        if most <= least {
            return self.draw.one_of(available);
        }
        let scale = (most - least) * self.config.router_temperature;
        let weight = |w: usize| (-(self.cost[w] - least) / scale).exp();
        let sum: f64 = available.into_iter().map(weight).sum();
        let mut left = self.draw.clone().unit() * sum;
        let chosen = available.into_iter().find(|&w| {
            left -= weight(w);
            left < 0.0
        });
        self.draw.bits();
        chosen.unwrap_or_else(|| available.lowest())
    }
}

impl Router for Dynamo {
    fn route(&mut self, arrival: &Arrival, view: &View<'_>) -> Decision {
        let leaf = self.tree.leaf(arrival.request);
        self.prompt_tokens = arrival.prompt_tokens;
        match &mut self.decisions {
            None => self.overlap.copy_from_slice(view.cached),
            Some(decisions) => {
                let since = arrival.time - self.config.router_ttl_secs;
                while self
                    .time
                    .get(decisions.alive as usize)
                    .is_some_and(|&time| time <= since)
                {
                    decisions.alive += 1;
                }
                decisions.depths(&self.active.nodes, leaf, view.available, &mut self.overlap);
            }
        }
        let full = self.active.nodes[leaf as usize].segment.end;
        self.active.depths(leaf, view.available, &mut self.in_use);
        for new in &mut self.in_use {
            *new = full - *new;
        }
        self.costs(view.available);
        if self.config.router_temperature > 0.0 {
            return Decision::one(self.softmax(view.available));
        }
        Decision::among(view.available.least_by(|w| self.cost[w]))
    }

    fn believed(&self, replica: usize) -> Option<u32> {
        Some(self.cached_tokens(replica))
    }

    /// Of each replica the overlap in blocks, then of each its prefill tokens with the request, then of each
    /// its blocks in use with the request.
    #[allow(clippy::cast_precision_loss)] // Counts of tokens.
    fn note(&self, notes: &mut Vec<f64>) {
        notes.extend(self.overlap.iter().map(|&blocks| f64::from(blocks)));
        let uncached = |w| u64::from(self.prompt_tokens - self.cached_tokens(w));
        let replicas = 0..self.overlap.len();
        notes.extend(replicas.map(|w| (self.prefill[w] + uncached(w)) as f64));
        let in_use = self.active.blocks.iter().zip(&self.in_use);
        notes.extend(in_use.map(|(&blocks, &new)| f64::from(blocks + new)));
    }

    fn booked(&mut self, arrival: &Arrival, _: &View<'_>, replica: usize) {
        let leaf = self.tree.leaf(arrival.request);
        let uncached = self.prompt_tokens - self.cached_tokens(replica);
        self.booked[arrival.request.usize()] = uncached;
        self.prefill[replica] += u64::from(uncached);
        self.requests[replica] += 1;
        self.active.add(leaf, replica);
        if let Some(decisions) = &mut self.decisions {
            let nodes = &mut self.active.nodes;
            decisions.note(nodes, leaf, arrival.request, replica);
        }
    }

    fn ahead(&mut self, requests: std::ops::Range<usize>) {
        let mut buffer = [ROOT; AHEAD];
        let leaves = self.tree.leaves(&requests, &mut buffer);
        let (nodes, below) = (&self.active.nodes, &self.active.below);
        match &self.decisions {
            None => look_ahead(leaves, |_, at| (above(nodes, at), below.get(at, 0))),
            Some(decisions) => look_ahead(leaves, |_, at| {
                let read = below.get(at, 0) ^ decisions.latest.get(at, 0);
                (above(nodes, at), read)
            }),
        }
    }

    fn prefill_ended(&mut self, request: RequestIx, replica: usize) {
        self.prefill[replica] -= u64::from(self.booked[request.usize()]);
    }

    fn finished(&mut self, request: RequestIx, replica: usize) {
        self.requests[replica] -= 1;
        self.active.remove(self.tree.leaf(request), replica);
    }

    fn validate(&self) -> crate::Result<()> {
        self.active.validate()
    }
}
