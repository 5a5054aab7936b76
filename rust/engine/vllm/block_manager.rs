//! The online door: requests by name, tokens in, slots out.

use std::collections::HashMap;
use std::hash::Hash;

use super::{KeyIndex, Manager, ManagerConfig, PoolEvent, Sequence, Slot, TableIndex};
use crate::error::{Error, Result};
use crate::hash::{Chain, Context};

/// Slots of a cache without a limit: the first free slot is one never taken, unless there is one
/// that holds nothing worth keeping, so nothing is ever evicted.
pub(super) const UNBOUNDED: u32 = u32::MAX - 1;

/// Keys are computed this many blocks at a time while a lookup still hits.
const LOOKUP_STRIDE: usize = 256;

/// What a successful [`BlockManager::allocate`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// Prompt tokens found in the cache.
    pub hit_tokens: u32,
    /// Slots newly taken: the last ones of the table.
    pub new_slots: u32,
}

/// Counters as vLLM publishes them: one entry per admitted request, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Requests admitted.
    pub requests: u64,
    /// Their prompt tokens.
    pub queries: u64,
    /// Those found in the cache.
    pub hits: u64,
}

#[derive(Debug, Clone)]
struct Request<K> {
    sequence: Sequence,
    keys: Vec<K>,
    /// Tokens after the last full block.
    tail: Vec<u32>,
    context: Context,
}

/// The KV-cache manager of vLLM 0.33, one call at a time.
///
/// ```
/// use prefixsim::engine::vllm::{BlockManager, ManagerConfig};
/// use prefixsim::hash::{Context, Xxh3Chain};
/// let plain = Context::default();
/// let config = ManagerConfig::new(2);
/// let mut cache = BlockManager::<_, &str>::new(Some(10), config, Xxh3Chain)?;
/// cache.allocate("a", &[1, 2, 3, 4, 5], None, &plain, true)?.unwrap();
/// cache.free(&"a")?;
/// let second = cache.allocate("b", &[1, 2, 3, 4, 9], None, &plain, true)?.unwrap();
/// assert_eq!(second.hit_tokens, 4);
/// assert_eq!(cache.table(&"b")?, [1, 2, 3]);
/// # Ok::<(), prefixsim::Error>(())
/// ```
#[derive(Debug)]
pub struct BlockManager<C: Chain, Id>
where
    TableIndex<C::Key>: KeyIndex<Key = C::Key>,
{
    chain: C,
    manager: Manager<TableIndex<C::Key>>,
    requests: HashMap<Id, Request<C::Key>>,
    /// Emptied requests, kept for their memory.
    spare: Vec<Request<C::Key>>,
    admitted: u64,
    stats: CacheStats,
    keys: Vec<C::Key>,
}

impl<C: Chain, Id: Eq + Hash + Clone + std::fmt::Display> BlockManager<C, Id>
where
    TableIndex<C::Key>: KeyIndex<Key = C::Key>,
{
    /// A cache of `num_blocks` slots, the null block 0 included; `None` for one without a limit.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if the configuration is not usable.
    pub fn new(num_blocks: Option<u32>, config: ManagerConfig, chain: C) -> Result<Self> {
        let num_slots = num_blocks.unwrap_or(UNBOUNDED);
        Ok(Self {
            chain,
            manager: Manager::new(num_slots, config, TableIndex::default())?,
            requests: HashMap::new(),
            spare: Vec::new(),
            admitted: 0,
            stats: CacheStats::default(),
            keys: Vec::new(),
        })
    }

    /// The manager underneath.
    #[must_use]
    pub fn manager(&self) -> &Manager<TableIndex<C::Key>> {
        &self.manager
    }

    /// The hash algorithm.
    #[must_use]
    pub fn chain(&self) -> &C {
        &self.chain
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.stats
    }

    /// Starts recording events.
    pub fn record_events(&mut self) {
        self.manager.record_events();
    }

    /// The events since the last call.
    pub fn take_events(&mut self) -> Vec<PoolEvent<C::Key>> {
        self.manager.take_events()
    }

    /// Names of the requests that hold slots.
    pub fn requests(&self) -> impl Iterator<Item = &Id> {
        self.requests.keys()
    }

    /// Prompt tokens that [`BlockManager::allocate`] would find in the cache.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if there are no tokens.
    pub fn lookup(&mut self, tokens: &[u32], context: &Context) -> Result<u32> {
        let num_tokens = prompt_length(tokens)?;
        let config = self.manager.config();
        let block_size = config.block_size as usize;
        let in_parts = config.sliding_window.is_none();
        if !config.enable_caching {
            return Ok(0);
        }
        let stride = if in_parts {
            LOOKUP_STRIDE * block_size
        } else {
            tokens.len()
        };
        let mut parent = self.chain.root(context);
        let mut hits = 0;
        for (part, start) in tokens.chunks(stride).zip((0..).step_by(stride)) {
            self.keys.clear();
            let block = start / block_size;
            self.chain
                .extend(parent, context, block, part, block_size, &mut self.keys);
            // One token more than this part, unless it is the last: all its blocks may be hit.
            let known = (num_tokens as usize - start).min(part.len() + 1) as u32;
            let found = self.manager.lookup(&self.keys, known);
            hits += found;
            if (found as usize) < part.len() {
                break;
            }
            if let Some(&last) = self.keys.last() {
                parent = last;
            }
        }
        Ok(hits)
    }

    /// Admits a request: finds the longest cached prefix of `tokens` and takes slots for the
    /// `chunk` tokens after it (`None`: all the rest). `None` is returned if there is not enough room;
    /// then nothing has changed and the request is unknown.
    ///
    /// With `must_fit`, as vLLM 0.33 does by default, there has to be room for all tokens, not only
    /// for the chunk.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if the id is taken, there are no tokens, or the chunk
    /// is empty or more
    /// than what the cache does not have.
    pub fn allocate(
        &mut self,
        id: Id,
        tokens: &[u32],
        chunk: Option<u32>,
        context: &Context,
        must_fit: bool,
    ) -> Result<Option<Allocation>> {
        let num_tokens = prompt_length(tokens)?;
        if self.requests.contains_key(&id) {
            return Err(Error::invalid(format!(
                "request {id} holds blocks already: free it first, or use another id"
            )));
        }
        let mut request = self.start(tokens, context);
        request.sequence.restart(num_tokens, self.admitted);
        let hit_tokens = self.manager.lookup(&request.keys, num_tokens);
        let chunk = match checked_chunk(&id, chunk, num_tokens - hit_tokens) {
            Ok(chunk) => chunk,
            Err(error) => {
                self.spare.push(request);
                return Err(error);
            }
        };
        let Request { sequence, keys, .. } = &mut request;
        let Ok(new_slots) = self.manager.admit(sequence, keys, chunk, must_fit, false) else {
            self.spare.push(request);
            return Ok(None);
        };
        sequence.computed += chunk;
        self.admitted += 1;
        if self.manager.config().enable_caching {
            self.stats.requests += 1;
            self.stats.queries += u64::from(num_tokens);
            self.stats.hits += u64::from(hit_tokens);
        }
        self.requests.insert(id, request);
        Ok(Some(Allocation {
            hit_tokens,
            new_slots,
        }))
    }

    /// A request with the keys of its full blocks.
    fn start(&mut self, tokens: &[u32], context: &Context) -> Request<C::Key> {
        let mut request = self.spare.pop().unwrap_or_else(|| Request {
            sequence: Sequence::default(),
            keys: Vec::new(),
            tail: Vec::new(),
            context: Context::default(),
        });
        request.context.clone_from(context);
        request.keys.clear();
        request.tail.clear();
        let config = self.manager.config();
        if config.enable_caching {
            let block_size = config.block_size as usize;
            let full = tokens.len() - tokens.len() % block_size;
            let root = self.chain.root(context);
            request.keys.reserve(tokens.len() / block_size);
            self.chain.extend(
                root,
                context,
                0,
                &tokens[..full],
                block_size,
                &mut request.keys,
            );
            request.tail.extend_from_slice(&tokens[full..]);
        }
        request
    }

    /// Takes slots for the next `chunk` known tokens of a request (`None`: all that are not computed
    /// yet). Returns how many, or `None` if there is not enough room.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if the request is unknown, or the chunk is empty or
    /// more than what is left.
    pub fn extend(&mut self, id: &Id, chunk: Option<u32>) -> Result<Option<u32>> {
        let request = find_mut(&mut self.requests, id)?;
        let left = request.sequence.num_tokens - request.sequence.computed;
        let chunk = checked_chunk(id, chunk, left)?;
        let new_slots = self
            .manager
            .grow(&mut request.sequence, &request.keys, chunk);
        if new_slots.is_some() {
            request.sequence.computed += chunk;
        }
        Ok(new_slots)
    }

    /// Adds sampled tokens to a request and takes slots for as many tokens. Returns how many slots
    /// were taken, or `None` if there is not enough room; the tokens are known then but not computed
    /// ([`BlockManager::extend`] tries again).
    ///
    /// The token that an engine samples last is never computed: do not append it.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if the request is unknown, its prompt is not computed,
    /// or there is no token.
    pub fn append(&mut self, id: &Id, tokens: &[u32]) -> Result<Option<u32>> {
        let request = find_mut(&mut self.requests, id)?;
        let sequence = &mut request.sequence;
        let count = prompt_length(tokens)?;
        if sequence.computed < sequence.prompt_tokens {
            return Err(Error::invalid(format!(
                "request {id}: {} of {} prompt tokens are computed, extend it before appending",
                sequence.computed, sequence.prompt_tokens
            )));
        }
        let Some(num_tokens) = sequence.num_tokens.checked_add(count) else {
            return Err(Error::invalid(format!(
                "request {id}: more than 2^32 - 1 tokens"
            )));
        };
        sequence.num_tokens = num_tokens;
        if self.manager.config().enable_caching {
            request.tail.extend_from_slice(tokens);
            let block_size = self.manager.config().block_size as usize;
            let full = request.tail.len() - request.tail.len() % block_size;
            if full > 0 {
                let Request {
                    keys,
                    tail,
                    context,
                    ..
                } = request;
                let last = keys.last().copied();
                let parent = last.unwrap_or_else(|| self.chain.root(context));
                let first = keys.len();
                self.chain
                    .extend(parent, context, first, &tail[..full], block_size, keys);
                tail.drain(..full);
            }
        }
        let new_slots = self
            .manager
            .grow(&mut request.sequence, &request.keys, count);
        if new_slots.is_some() {
            request.sequence.computed += count;
        }
        Ok(new_slots)
    }

    /// Ends a request: its slots are free unless others use them, and stay cached.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if the request is unknown.
    pub fn free(&mut self, id: &Id) -> Result<()> {
        let Some(mut request) = self.requests.remove(id) else {
            return Err(unknown(id));
        };
        self.manager.release(&mut request.sequence);
        self.spare.push(request);
        Ok(())
    }

    /// Forgets all cached blocks; refused (`false`) while a request holds slots.
    pub fn reset(&mut self) -> bool {
        self.manager.reset()
    }

    /// Forgets the blocks in these slots, in use or not.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if a slot does not exist; then nothing has changed.
    pub fn evict(&mut self, slots: &[Slot]) -> Result<()> {
        self.manager.evict(slots)
    }

    /// The slots of a request, in order.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if the request is unknown.
    pub fn table(&self, id: &Id) -> Result<&[Slot]> {
        self.sequence(id).map(|sequence| &sequence.table[..])
    }

    /// What is known of a request.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if the request is unknown.
    pub fn sequence(&self, id: &Id) -> Result<&Sequence> {
        self.requests
            .get(id)
            .map(|request| &request.sequence)
            .ok_or_else(|| unknown(id))
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`crate::Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.manager
            .validate(self.requests.values().map(|request| &request.sequence))
    }
}

fn find_mut<'r, K, Id: Eq + Hash + std::fmt::Display>(
    requests: &'r mut HashMap<Id, Request<K>>,
    id: &Id,
) -> Result<&'r mut Request<K>> {
    requests.get_mut(id).ok_or_else(|| unknown(id))
}

fn unknown(id: &impl std::fmt::Display) -> Error {
    Error::invalid(format!("request {id} holds no blocks: allocate it first"))
}

fn prompt_length(tokens: &[u32]) -> Result<u32> {
    if tokens.is_empty() {
        return Err(Error::invalid("there are no tokens, give at least one"));
    }
    u32::try_from(tokens.len()).map_err(|_| Error::invalid("more than 2^32 - 1 tokens"))
}

fn checked_chunk(id: &impl std::fmt::Display, chunk: Option<u32>, left: u32) -> Result<u32> {
    let chunk = chunk.unwrap_or(left);
    if chunk == 0 || chunk > left {
        return Err(Error::invalid(format!(
            "request {id}: a chunk of {chunk} tokens, but {left} are left to compute"
        )));
    }
    Ok(chunk)
}
