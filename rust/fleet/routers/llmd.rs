//! The router of llm-d: filters, scorers and a picker, of which the scorers decide.

use std::sync::Arc;

use super::llmd_index::Approximate;
use crate::fleet::replicas::Replicas;
use crate::fleet::router::{Arrival, Decision, Router, Setting, View};
use crate::fleet::traffic::{Blocks, Unit};
use crate::fleet::tree::{AHEAD, BlockTree, ROOT};
use crate::index::{Ix, RequestIx};

/// Fewest tokens of a block of the approximate index.
const LEAST_BLOCK: u32 = 64;
/// Most tokens of a prompt that the approximate index looks at.
const MOST_TOKENS: u32 = 131_072;
/// Requests in the queue at which the load-aware scorer gives nothing.
const QUEUE_THRESHOLD: f64 = 128.0;
/// Tokens in flight at which the token-load scorer gives nothing.
const TOKEN_THRESHOLD: f64 = 4_194_304.0;
/// Tokens of a match that the length term of the prefix scorer counts in full.
const MATCH_LENGTH_SCALE: f64 = 8192.0;

/// Weights of the scorers, and of what is inside the prefix scorer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LlmdConfig {
    /// What the router knows of caches: KV events (`precise-prefix-cache-producer`), or (`false`) its own
    /// decisions (`approx-prefix-cache-producer`).
    pub precise: bool,
    /// `prefix-cache-scorer`.
    pub prefix_weight: f64,
    /// `queue-scorer`.
    pub queue_weight: f64,
    /// `running-requests-size-scorer`.
    pub running_weight: f64,
    /// `load-aware-scorer`.
    pub load_aware_weight: f64,
    /// `active-request-scorer`.
    pub active_weight: f64,
    /// `token-load-scorer`.
    pub token_load_weight: f64,
    /// `session-affinity-scorer`.
    pub session_weight: f64,
    /// `matchLengthWeight` of the prefix scorer.
    pub match_length_weight: f64,
    /// Tokens of a block of the approximate index; at least 64 are taken.
    pub block_tokens: u32,
    /// Blocks a replica of the approximate index.
    pub index_capacity: u64,
}

impl Default for LlmdConfig {
    fn default() -> Self {
        Self {
            precise: false,
            prefix_weight: 3.0,
            queue_weight: 2.0,
            running_weight: 0.0,
            load_aware_weight: 0.0,
            active_weight: 0.0,
            token_load_weight: 0.0,
            session_weight: 0.0,
            match_length_weight: 0.0,
            block_tokens: LEAST_BLOCK,
            index_capacity: 31_250,
        }
    }
}

/// The router of llm-d (August 2026) and of the Gateway API inference extension: a weighted sum of
/// scores between 0 and 1, the highest wins, ties at random.
#[derive(Debug)]
pub struct Llmd {
    config: LlmdConfig,
    tree: Arc<BlockTree>,
    index: Option<Approximate>,
    matched: Vec<u32>,
    scores: Vec<f64>,
    /// Blocks of the request just routed.
    blocks: u32,
    prompt_tokens: u32,
    /// Uncached tokens of the requests in flight at each replica.
    tokens: Vec<u64>,
    booked: Vec<u32>,
    bound: Vec<Option<usize>>,
}

impl Llmd {
    /// An empty index.
    ///
    /// # Errors
    /// As [`Traffic::tree`](crate::fleet::Traffic::tree).
    pub fn new(setting: &Setting<'_>, config: LlmdConfig) -> crate::Result<Self> {
        let blocks = if config.precise {
            Blocks::full(Unit::Tokens, setting.block_size)
        } else {
            let size = config.block_tokens.max(LEAST_BLOCK);
            let most = MOST_TOKENS / size * size;
            Blocks::full(Unit::Tokens, size).with_partial().within(most)
        };
        let tree = setting.traffic.tree(blocks)?;
        let replicas = setting.replicas;
        let requests = setting.traffic.requests();
        Ok(Self {
            index: (!config.precise)
                .then(|| Approximate::new(&tree, replicas, config.index_capacity)),
            tree,
            config,
            matched: vec![0; replicas],
            scores: vec![0.0; replicas],
            blocks: 0,
            prompt_tokens: 0,
            tokens: vec![0; replicas],
            booked: vec![0; requests],
            bound: vec![None; setting.traffic.columns().session_names.len()],
        })
    }

    fn score(&mut self, arrival: &Arrival, view: &View<'_>) {
        let config = self.config;
        let of = view.available;
        let waiting = Range::of(of, view.waiting);
        let running = Range::of(of, view.running);
        let active = Range::of(of, view.loads);
        for w in of {
            let m = self.matched[w];
            let block = f64::from(self.tree.block());
            let mut total = 0.0;
            let mut add = |weight: f64, score: f64| {
                if weight != 0.0 {
                    total += weight * score.clamp(0.0, 1.0);
                }
            };
            let length = config.match_length_weight;
            add(
                config.prefix_weight,
                prefix_score(m, self.blocks, block, length),
            );
            add(config.queue_weight, waiting.least_first(view.waiting[w]));
            add(config.running_weight, running.least_first(view.running[w]));
            add(config.load_aware_weight, load_aware_score(view.waiting[w]));
            add(config.active_weight, active.idle_first(view.loads[w]));
            let uncached = self.prompt_tokens - self.tokens_of(m);
            add(
                config.token_load_weight,
                token_load_score(self.tokens[w] + u64::from(uncached)),
            );
            let bound = self.bound[arrival.session as usize] == Some(w);
            add(config.session_weight, f64::from(u8::from(bound)));
            self.scores[w] = total;
        }
    }

    fn tokens_of(&self, blocks: u32) -> u32 {
        let tokens = u64::from(blocks) * u64::from(self.tree.block());
        u32::try_from(tokens).map_or(self.prompt_tokens, |t| t.min(self.prompt_tokens))
    }
}

/// `prefix-cache-scorer`.
pub(super) fn prefix_score(matched: u32, blocks: u32, block: f64, length_weight: f64) -> f64 {
    prefix_score_scaled(matched, blocks, block, length_weight, MATCH_LENGTH_SCALE)
}

pub(super) fn prefix_score_scaled(
    matched: u32,
    blocks: u32,
    block: f64,
    length_weight: f64,
    scale: f64,
) -> f64 {
    if blocks == 0 {
        return 0.0;
    }
    let share = f64::from(matched) / f64::from(blocks);
    if length_weight == 0.0 {
        return share;
    }
    let length = (f64::from(matched) * block / scale).min(1.0);
    (1.0 - length_weight) * share + length_weight * length * length
}

/// `load-aware-scorer`.
pub(super) fn load_aware_score(waiting: u32) -> f64 {
    if waiting == 0 {
        return 0.5;
    }
    0.5 * (1.0 - f64::from(waiting).min(QUEUE_THRESHOLD) / QUEUE_THRESHOLD)
}

/// `token-load-scorer`.
#[allow(clippy::cast_precision_loss)] // A count of tokens.
fn token_load_score(tokens: u64) -> f64 {
    1.0 - (tokens as f64).min(TOKEN_THRESHOLD) / TOKEN_THRESHOLD
}

/// The smallest and the largest of some counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    least: u32,
    most: u32,
}

impl Range {
    pub fn of(replicas: Replicas, counts: &[u32]) -> Self {
        let counts = || replicas.into_iter().map(|w| counts[w]);
        Self {
            least: counts().min().unwrap_or(0),
            most: counts().max().unwrap_or(0),
        }
    }

    /// `queue-scorer`, `running-requests-size-scorer`.
    pub fn least_first(self, count: u32) -> f64 {
        if self.most == self.least {
            return 1.0;
        }
        f64::from(self.most - count) / f64::from(self.most - self.least)
    }

    /// `active-request-scorer`.
    pub fn idle_first(self, count: u32) -> f64 {
        if count == 0 {
            return 1.0;
        }
        f64::from(self.most - count) / f64::from(self.most)
    }
}

impl Router for Llmd {
    fn route(&mut self, arrival: &Arrival, view: &View<'_>) -> Decision {
        let leaf = self.tree.leaf(arrival.request);
        self.prompt_tokens = arrival.prompt_tokens;
        self.blocks = self.tree.segment(leaf).end;
        match &mut self.index {
            None => self.matched.copy_from_slice(view.cached),
            Some(index) => index.find(leaf, view.available, &mut self.matched),
        }
        self.score(arrival, view);
        Decision::among(view.available.least_by(|w| -self.scores[w]))
    }

    fn believed(&self, replica: usize) -> Option<u32> {
        Some(self.tokens_of(self.matched[replica]))
    }

    /// Blocks of the request, then matched blocks of each replica, then total score of each.
    fn note(&self, notes: &mut Vec<f64>) {
        notes.push(f64::from(self.blocks));
        notes.extend(self.matched.iter().map(|&blocks| f64::from(blocks)));
        notes.extend(&self.scores);
    }

    fn booked(&mut self, arrival: &Arrival, _: &View<'_>, replica: usize) {
        let uncached = self.prompt_tokens - self.tokens_of(self.matched[replica]);
        self.booked[arrival.request.usize()] = uncached;
        self.tokens[replica] += u64::from(uncached);
        self.bound[arrival.session as usize].get_or_insert(replica);
        if let Some(index) = &mut self.index {
            index.book(replica);
        }
    }

    fn ahead(&mut self, requests: std::ops::Range<usize>) {
        if let Some(index) = &self.index {
            let mut buffer = [ROOT; AHEAD];
            index.ahead(self.tree.leaves(&requests, &mut buffer));
        }
    }

    fn finished(&mut self, request: RequestIx, replica: usize) {
        self.tokens[replica] -= u64::from(self.booked[request.usize()]);
    }

    fn resized(&mut self, available: Replicas) {
        for bound in &mut self.bound {
            *bound = bound.filter(|&replica| available.has(replica));
        }
    }

    fn validate(&self) -> crate::Result<()> {
        match &self.index {
            Some(index) => index.validate(),
            None => Ok(()),
        }
    }
}
