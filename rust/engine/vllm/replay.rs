//! A whole trace through the manager in one call, without time.
//!
//! Requests are admitted in order. With concurrency K, K requests hold their slots at once: the
//! oldest is released when a further one is admitted, or earlier if its slots are needed.

use std::collections::VecDeque;

use super::block_manager::UNBOUNDED;
use super::{KeyIndex, Lease, Manager, ManagerConfig, TableIndex};
use crate::error::{Error, Result};
use crate::hash::{Chain, Context, Xxh3Chain, Xxh3Key, chain_blocks, of_ids};
use crate::index::{to_u32, to_usize};
use crate::serving::{Demand, KvCache, Progress};
use crate::stats::Residency;
use crate::stop::Stop;

/// Requests between two looks at the stop flag.
pub(super) const STOP_INTERVAL: usize = 1024;

/// What a trace knows of its prompts.
#[derive(Debug, Clone, Copy)]
pub enum Ids<'t> {
    /// Token ids.
    Tokens(&'t [u32]),
    /// Ids of so many tokens each; the last of a prompt may stand for fewer.
    Hashes(&'t [u64], u32),
}

/// The columns of a trace that decide a replay; list `i` of a column with offsets is
/// `values[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Prompts<'t> {
    /// Offsets of the prompts, one more than requests.
    pub offsets: &'t [u64],
    /// Tokens or hash ids of the prompts.
    pub ids: Ids<'t>,
    /// Tokens per prompt.
    pub prompt_len: &'t [u32],
    /// Isolation key of each request.
    pub salt: Option<&'t [u32]>,
    /// Offsets and token ids of the outputs.
    pub outputs: Option<(&'t [u64], &'t [u32])>,
}

/// When requests arrive, for the residency of evicted blocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock<'t> {
    /// Seconds, one per request.
    pub timestamp: &'t [f64],
    /// The first request whose evictions are measured.
    pub measured_from: usize,
}

/// What a replay gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReplayOutcome {
    /// Prompt tokens found in the cache, per request.
    pub hit_tokens: Vec<u32>,
    /// Slots whose block was dropped for this request, per request.
    pub evictions: Vec<u32>,
    /// Slots taken, in total.
    pub allocated: u64,
    /// Most slots in use at once.
    pub peak_used: u32,
    /// Distinct blocks in the cache at the end.
    pub cached_end: u64,
    /// How long evicted blocks had been there, if there was a clock.
    pub residency: Option<Residency>,
}

/// Replays a trace through the manager; `num_blocks` slots (`None`: no limit), the null block
/// included, `concurrency` requests at once. With a `clock` the residency of evicted blocks is
/// measured.
///
/// Output tokens, where given, are appended as decoding does: one by one, the last never computed.
///
/// # Errors
/// [`Error::Shape`] or [`Error::Range`] if columns do not fit together, the block size is neither a
/// multiple nor a
/// divisor of the tokens per id, or a request can never fit; [`Error::Interrupted`].
pub fn replay(
    prompts: &Prompts<'_>,
    config: &ManagerConfig,
    num_blocks: Option<u32>,
    concurrency: u32,
    clock: Option<Clock<'_>>,
    stop: &Stop,
) -> Result<ReplayOutcome> {
    prompts.validate(config.block_size)?;
    let hashes = PromptHashes {
        prompts,
        block_size: config.block_size,
        tokens: Vec::new(),
    };
    let index = TableIndex::default();
    let lengths = Lengths {
        prompt: prompts.prompt_len,
        output_offsets: prompts.outputs.map(|(offsets, _)| offsets),
    };
    run(
        hashes,
        index,
        lengths,
        config,
        num_blocks,
        concurrency,
        clock,
        stop,
    )
}

/// Where the keys of a replay's blocks come from.
pub(super) trait KeySource {
    /// Keys of blocks: equal if and only if the tokens up to the end of the block are.
    type Key: Copy + Eq + Send + Sync + std::fmt::Debug;

    /// Sets `keys` to those of the full blocks of a request's prompt.
    fn prompt(&mut self, request: usize, keys: &mut Vec<Self::Key>);

    /// Adds to the keys of the prompt those of the blocks that the output, its last token left out,
    /// fills.
    ///
    /// # Errors
    /// [`Error::Range`] if the tokens are not known.
    fn output(&mut self, request: usize, keys: &mut Vec<Self::Key>) -> Result<()>;
}

/// Tokens of each request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths<'t> {
    pub prompt: &'t [u32],
    /// Offsets of the outputs, if they are appended.
    pub output_offsets: Option<&'t [u64]>,
}

impl Lengths<'_> {
    /// Tokens of a request's output, 0 where outputs are left out.
    pub(super) fn output(&self, request: usize) -> u32 {
        self.output_offsets
            .map_or(0, |offsets| to_u32(offsets[request + 1] - offsets[request]))
    }
}

/// Replays requests whose blocks have the keys of `source`; see [`replay`].
#[allow(clippy::too_many_arguments)] // One call from each of two doors.
pub(super) fn run<S: KeySource, I: KeyIndex<Key = S::Key>>(
    source: S,
    index: I,
    lengths: Lengths<'_>,
    config: &ManagerConfig,
    num_blocks: Option<u32>,
    concurrency: u32,
    clock: Option<Clock<'_>>,
    stop: &Stop,
) -> Result<ReplayOutcome> {
    let requests = lengths.prompt.len();
    check_run(requests, concurrency, clock)?;
    let slots = num_blocks.unwrap_or(UNBOUNDED);
    let mut replay = Replay {
        manager: Manager::new(slots, config.clone(), index)?,
        source,
        held: VecDeque::new(),
        spare: Vec::new(),
        keys: Vec::new(),
        outcome: ReplayOutcome::default(),
    };
    for request in 0..requests {
        if request % STOP_INTERVAL == 0 {
            stop.check()?;
        }
        if let Some(clock) = clock {
            replay.manager.set_time(clock.timestamp[request]);
            if request == clock.measured_from {
                replay.manager.take_residency();
            }
        }
        replay.request(lengths, request, concurrency as usize)?;
    }
    replay.outcome.residency = clock.map(|_| replay.manager.take_residency().unwrap_or_default());
    replay.outcome.cached_end = replay.manager.pool().num_cached() as u64;
    Ok(replay.outcome)
}

/// Checks what is not a column of the prompts.
pub(super) fn check_run(requests: usize, concurrency: u32, clock: Option<Clock<'_>>) -> Result<()> {
    if clock.is_some_and(|clock| clock.timestamp.len() != requests) {
        return Err(Error::shape(
            "the timestamp column has another number of rows",
        ));
    }
    if concurrency == 0 {
        return Err(Error::range("concurrency is 0, it must be positive"));
    }
    Ok(())
}

/// A request that needs more slots than there are.
pub(super) fn never_fits(request: usize, tokens: u64, usable: u32, block_size: u32) -> Error {
    Error::never_fits(format!(
        "request {request}: {tokens} tokens never fit a cache of {usable} blocks of {block_size} \
         tokens (the null block not counted), give {} or more with it",
        tokens.div_ceil(u64::from(block_size)) + 1,
    ))
}

impl Prompts<'_> {
    pub(super) fn validate(&self, block_size: u32) -> Result<()> {
        let requests = self.prompt_len.len();
        let values = match self.ids {
            Ids::Tokens(tokens) => tokens.len(),
            Ids::Hashes(hashes, unit) => {
                if block_size == 0
                    || unit == 0
                    || !(block_size.is_multiple_of(unit) || unit.is_multiple_of(block_size))
                {
                    return Err(Error::range(format!(
                        "block size {block_size}: the trace has ids of {unit} tokens, give a \
                         multiple or a divisor of that"
                    )));
                }
                hashes.len()
            }
        };
        check_offsets("prompts", self.offsets, requests, values)?;
        if let Some((offsets, tokens)) = self.outputs {
            check_offsets("outputs", offsets, requests, tokens.len())?;
        }
        if self.salt.is_some_and(|salt| salt.len() != requests) {
            return Err(Error::shape("the salt column has another number of rows"));
        }
        for (request, &prompt_len) in self.prompt_len.iter().enumerate() {
            let ids = self.offsets[request + 1] - self.offsets[request];
            let (right, unit) = match self.ids {
                Ids::Tokens(_) => (ids == u64::from(prompt_len), 1),
                Ids::Hashes(_, unit) => (ids * u64::from(unit) >= u64::from(prompt_len), unit),
            };
            if !right {
                return Err(Error::shape(format!(
                    "request {request}: {ids} ids of {unit} tokens do not make a prompt of \
                     {prompt_len} tokens"
                )));
            }
        }
        Ok(())
    }

    /// The parent of a request's first block.
    pub(super) fn root(&self, request: usize) -> Xxh3Key {
        Xxh3Key::root(self.salt.map_or(0, |salt| u64::from(salt[request])))
    }

    /// Computes the keys of the full blocks of a prompt.
    pub(super) fn keys(&self, request: usize, block_size: u32, keys: &mut Vec<Xxh3Key>) {
        keys.clear();
        let (start, end) = (self.offsets[request], self.offsets[request + 1]);
        let range = to_usize(start)..to_usize(end);
        let root = self.root(request);
        match self.ids {
            Ids::Tokens(tokens) => {
                let plain = Context::default();
                Xxh3Chain.extend(root, &plain, 0, &tokens[range], block_size as usize, keys);
            }
            Ids::Hashes(hashes, unit) => {
                let full = (self.prompt_len[request] / block_size) as usize;
                hashed_blocks(&hashes[range], unit, block_size, full, keys);
                chain_blocks(root, keys);
            }
        }
    }
}

/// Appends the block hashes of `full` blocks made of hash ids of `unit` tokens.
fn hashed_blocks(ids: &[u64], unit: u32, block_size: u32, full: usize, keys: &mut Vec<Xxh3Key>) {
    if block_size >= unit {
        let per_block = (block_size / unit) as usize;
        keys.extend(ids.chunks_exact(per_block).take(full).map(of_ids));
    } else {
        let per_id = (unit / block_size) as usize;
        let part = |block| of_ids(&[ids[block / per_id], (block % per_id) as u64]);
        keys.extend((0..full).map(part));
    }
}

fn check_offsets(what: &str, offsets: &[u64], requests: usize, values: usize) -> Result<()> {
    let ascending = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
    let within = offsets.last().is_some_and(|&end| end <= values as u64);
    if offsets.len() != requests + 1 || !ascending || !within {
        return Err(Error::shape(format!(
            "the offsets of the {what} do not fit {requests} requests and {values} values"
        )));
    }
    Ok(())
}

/// Keys that are hashes of the tokens before.
struct PromptHashes<'p, 't> {
    prompts: &'p Prompts<'t>,
    block_size: u32,
    tokens: Vec<u32>,
}

impl KeySource for PromptHashes<'_, '_> {
    type Key = Xxh3Key;

    fn prompt(&mut self, request: usize, keys: &mut Vec<Xxh3Key>) {
        self.prompts.keys(request, self.block_size, keys);
    }

    fn output(&mut self, request: usize, keys: &mut Vec<Xxh3Key>) -> Result<()> {
        let prompts = self.prompts;
        let Some((offsets, output)) = prompts.outputs else {
            return Ok(());
        };
        let Ids::Tokens(tokens) = prompts.ids else {
            return Err(Error::range("output tokens need prompts of tokens"));
        };
        let block_size = self.block_size as usize;
        let start = to_usize(prompts.offsets[request]);
        let prompt = &tokens[start..to_usize(prompts.offsets[request + 1])];
        let produced = to_usize(offsets[request])..to_usize(offsets[request + 1]);
        self.tokens.clear();
        self.tokens
            .extend_from_slice(&prompt[prompt.len() - prompt.len() % block_size..]);
        if let Some((_, output)) = output[produced].split_last() {
            self.tokens.extend_from_slice(output);
        }
        let parent = keys
            .last()
            .copied()
            .unwrap_or_else(|| prompts.root(request));
        let plain = Context::default();
        Xxh3Chain.extend(parent, &plain, 0, &self.tokens, block_size, keys);
        Ok(())
    }
}

struct Replay<S: KeySource, I: KeyIndex<Key = S::Key>> {
    manager: Manager<I>,
    source: S,
    held: VecDeque<Lease>,
    spare: Vec<Lease>,
    keys: Vec<S::Key>,
    outcome: ReplayOutcome,
}

impl<S: KeySource, I: KeyIndex<Key = S::Key>> Replay<S, I> {
    fn request(&mut self, lengths: Lengths<'_>, request: usize, concurrency: usize) -> Result<()> {
        while self.held.len() >= concurrency {
            self.release_oldest();
        }
        let prompt_len = lengths.prompt[request];
        if self.manager.config().enable_caching {
            self.source.prompt(request, &mut self.keys);
        }
        let before = self.manager.pool().evictions();
        let mut lease = self.spare.pop().unwrap_or_default();
        let mut progress = Progress::new(prompt_len);
        let hits = self.manager.lookup(&self.keys, prompt_len).tokens();
        let demand = Demand {
            name: request as u64,
            new_tokens: prompt_len - hits,
            must_fit: true,
            beside_others: false,
        };
        loop {
            let taken = self
                .manager
                .admit(&mut lease, &self.keys, &progress, demand);
            if let Ok(taken) = taken {
                self.outcome.allocated += u64::from(taken);
                break;
            }
            self.make_room(request, prompt_len)?;
        }
        progress.computed = prompt_len;
        let output = lengths.output(request);
        if output > 0 {
            self.decode(request, &mut lease, &mut progress, output - 1)?;
        }
        let pool = self.manager.pool();
        self.outcome.peak_used = self
            .outcome
            .peak_used
            .max(pool.num_slots() - 1 - pool.num_free());
        self.outcome
            .evictions
            .push(to_u32(pool.evictions() - before));
        self.outcome.hit_tokens.push(hits);
        self.held.push_back(lease);
        Ok(())
    }

    /// Appends output tokens, all but the last, which is never computed.
    fn decode(
        &mut self,
        request: usize,
        lease: &mut Lease,
        progress: &mut Progress,
        tokens: u32,
    ) -> Result<()> {
        if self.manager.config().enable_caching && tokens > 0 {
            self.source.output(request, &mut self.keys)?;
        }
        for _ in 0..tokens {
            progress.num_tokens += 1;
            loop {
                if let Ok(taken) = self.manager.extend(lease, &self.keys, progress, 1) {
                    self.outcome.allocated += u64::from(taken);
                    break;
                }
                self.make_room(request, progress.num_tokens)?;
            }
            progress.computed += 1;
        }
        Ok(())
    }

    fn make_room(&mut self, request: usize, num_tokens: u32) -> Result<()> {
        if self.held.is_empty() {
            let block_size = self.manager.config().block_size;
            let usable = self.manager.pool().num_slots() - 1;
            return Err(never_fits(
                request,
                u64::from(num_tokens),
                usable,
                block_size,
            ));
        }
        self.release_oldest();
        Ok(())
    }

    fn release_oldest(&mut self) {
        if let Some(mut lease) = self.held.pop_front() {
            self.manager.release(&mut lease);
            self.spare.push(lease);
        }
    }
}
