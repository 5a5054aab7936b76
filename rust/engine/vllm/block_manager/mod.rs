//! vLLM's manager for callers who run requests themselves: requests by name, tokens in, slots out.

mod arguments;

use std::collections::HashMap;
use std::hash::Hash;

pub use arguments::{Admission, Allocation};
use arguments::{checked_chunk, checked_length, prompt_length, unknown};

use super::{KeyIndex, Lease, Manager, ManagerConfig, Slot, TableIndex};
use crate::error::{Error, Result};
use crate::hash::{Chain, Context};
use crate::index::to_u32;
use crate::serving::{CacheEvent, CacheStats, Demand, KvCache, Progress};

/// Slots of a cache without a limit: the first free slot is one never taken, unless there is one
/// that holds nothing worth keeping, so nothing is ever evicted.
pub(super) const UNBOUNDED: u32 = u32::MAX - 1;

/// Keys are computed this many blocks at a time while a lookup still hits.
const LOOKUP_STRIDE: usize = 256;

#[derive(Debug, Clone)]
struct Request<K> {
    progress: Progress,
    lease: Lease,
    keys: Vec<K>,
    /// Tokens after the last full block.
    tail: Vec<u32>,
    context: Context,
}

/// The KV-cache manager of vLLM 0.33, one call at a time.
///
/// ```
/// use prefixsim::engine::vllm::{Admission, BlockManager, ManagerConfig};
/// use prefixsim::hash::{Context, Xxh3Chain};
/// let plain = Context::default();
/// let config = ManagerConfig::new(2);
/// let mut cache = BlockManager::<_, &str>::new(Some(10), config, Xxh3Chain)?;
/// cache.allocate("a", &[1, 2, 3, 4, 5], &plain, Admission::default())?.unwrap();
/// cache.free(&"a")?;
/// let second = cache.allocate("b", &[1, 2, 3, 4, 9], &plain, Admission::default())?.unwrap();
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
    /// [`Error::Range`] if the configuration is not usable.
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
    pub fn take_events(&mut self) -> Vec<CacheEvent<C::Key>> {
        self.manager.take_events()
    }

    /// Names of the requests that hold slots.
    pub fn requests(&self) -> impl Iterator<Item = &Id> {
        self.requests.keys()
    }

    /// Prompt tokens that [`BlockManager::allocate`] would find in the cache.
    ///
    /// # Errors
    /// [`Error::Range`] if there are no tokens.
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
            let known = to_u32((num_tokens as usize - start).min(part.len() + 1));
            let found = self.manager.lookup(&self.keys, known).tokens();
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

    /// Admits a request: finds the longest cached prefix of `tokens` and takes slots for what is to
    /// be computed first. `None` is returned if there is not enough room; then nothing has changed
    /// and the request is unknown.
    ///
    /// # Errors
    /// [`Error::Range`] if the id is taken, there are no tokens or more than `max_model_len`, or the
    /// chunk is empty or more than what the cache does not have; then nothing has changed.
    pub fn allocate(
        &mut self,
        id: Id,
        tokens: &[u32],
        context: &Context,
        admission: Admission,
    ) -> Result<Option<Allocation>> {
        let num_tokens = prompt_length(tokens)?;
        if self.requests.contains_key(&id) {
            return Err(Error::range(format!(
                "request {id} holds blocks already: free it first, or use another id"
            )));
        }
        let limit = self.manager.config().max_model_len;
        checked_length(&id, u64::from(num_tokens), limit)?;
        let mut request = self.start(tokens, context);
        let hit_tokens = self.manager.lookup(&request.keys, num_tokens).tokens();
        let chunk = match checked_chunk(&id, admission.chunk, num_tokens - hit_tokens) {
            Ok(chunk) => chunk,
            Err(error) => {
                self.spare.push(request);
                return Err(error);
            }
        };
        request.progress = Progress::new(num_tokens);
        let demand = Demand {
            name: self.admitted,
            new_tokens: chunk,
            must_fit: admission.must_fit,
            beside_others: false,
        };
        let Request {
            lease,
            progress,
            keys,
            ..
        } = &mut request;
        let Ok(new_slots) = self.manager.admit(lease, keys, progress, demand) else {
            self.spare.push(request);
            return Ok(None);
        };
        progress.computed = hit_tokens + chunk;
        self.admitted += 1;
        if self.manager.config().enable_caching {
            self.stats
                .count(u64::from(num_tokens), u64::from(hit_tokens), 1);
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
            progress: Progress::default(),
            lease: Lease::default(),
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
    /// [`Error::Range`] if the request is unknown, or the chunk is empty or more than what is left.
    pub fn extend(&mut self, id: &Id, chunk: Option<u32>) -> Result<Option<u32>> {
        let request = find_mut(&mut self.requests, id)?;
        let left = request.progress.num_tokens - request.progress.computed;
        let chunk = checked_chunk(id, chunk, left)?;
        Ok(take(&mut self.manager, request, chunk))
    }

    /// Adds sampled tokens to a request and takes slots for as many tokens. Returns how many slots
    /// were taken, or `None` if there is not enough room; the tokens are known then but not computed
    /// ([`BlockManager::extend`] tries again).
    ///
    /// The token that an engine samples last is never computed: do not append it.
    ///
    /// # Errors
    /// [`Error::Range`] if the request is unknown, its prompt is not computed, there is no token, or
    /// there would be more than `max_model_len`; then nothing has changed.
    pub fn append(&mut self, id: &Id, tokens: &[u32]) -> Result<Option<u32>> {
        let request = find_mut(&mut self.requests, id)?;
        let progress = &mut request.progress;
        let count = prompt_length(tokens)?;
        if progress.computed < progress.prompt_tokens {
            return Err(Error::range(format!(
                "request {id}: {} of {} prompt tokens are computed, extend it before appending",
                progress.computed, progress.prompt_tokens
            )));
        }
        let num_tokens = checked_length(
            id,
            u64::from(progress.num_tokens) + u64::from(count),
            self.manager.config().max_model_len,
        )?;
        progress.num_tokens = num_tokens;
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
        Ok(take(&mut self.manager, request, count))
    }

    /// Ends a request: its slots are free unless others use them, and stay cached.
    ///
    /// # Errors
    /// [`Error::Range`] if the request is unknown.
    pub fn free(&mut self, id: &Id) -> Result<()> {
        let Some(mut request) = self.requests.remove(id) else {
            return Err(unknown(id));
        };
        self.manager.release(&mut request.lease);
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
    /// [`Error::Range`] if a slot does not exist; then nothing has changed.
    pub fn evict(&mut self, slots: &[Slot]) -> Result<()> {
        self.manager.evict(slots)
    }

    /// The slots of a request, in order.
    ///
    /// # Errors
    /// [`Error::Range`] if the request is unknown.
    pub fn table(&self, id: &Id) -> Result<&[Slot]> {
        self.request(id).map(|request| &request.lease.table[..])
    }

    /// How far a request is.
    ///
    /// # Errors
    /// [`Error::Range`] if the request is unknown.
    pub fn progress(&self, id: &Id) -> Result<Progress> {
        self.request(id).map(|request| request.progress)
    }

    fn request(&self, id: &Id) -> Result<&Request<C::Key>> {
        self.requests.get(id).ok_or_else(|| unknown(id))
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`](crate::Error::Bug) naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        let requests = self.requests.values();
        self.manager
            .validate(requests.map(|request| (&request.lease, &request.progress)))
    }
}

/// Takes slots for further tokens of a request and counts them as computed; `None` if there is not
/// enough room.
fn take<I: KeyIndex>(
    manager: &mut Manager<I>,
    request: &mut Request<I::Key>,
    tokens: u32,
) -> Option<u32> {
    let Request {
        lease,
        progress,
        keys,
        ..
    } = request;
    let new_slots = manager.extend(lease, keys, progress, tokens).ok()?;
    progress.computed += tokens;
    Some(new_slots)
}

fn find_mut<'r, K, Id: Eq + Hash + std::fmt::Display>(
    requests: &'r mut HashMap<Id, Request<K>>,
    id: &Id,
) -> Result<&'r mut Request<K>> {
    requests.get_mut(id).ok_or_else(|| unknown(id))
}
