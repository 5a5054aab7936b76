//! The memory of a server: blocks for running requests, and hits for new ones.

use crate::error::Result;

/// Tiers of memory that are told apart: the device, host memory, disk.
pub const TIERS: usize = 3;

/// What a lookup found, in tokens per tier, nearest first. The tiers' parts of the prompt follow
/// each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hit {
    /// Tokens found in each tier.
    pub tiers: [u32; TIERS],
}

impl Hit {
    /// A hit on the device.
    #[must_use]
    pub fn on_device(tokens: u32) -> Self {
        Self {
            tiers: [tokens, 0, 0],
        }
    }

    /// Tokens found, in any tier.
    #[must_use]
    pub fn tokens(self) -> u32 {
        self.tiers.iter().sum()
    }
}

/// How far a request is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Known tokens: the prompt and what was sampled so far.
    pub num_tokens: u32,
    /// Tokens whose KV exists.
    pub computed: u32,
}

impl Progress {
    /// A request of which nothing is computed.
    #[must_use]
    pub fn new(prompt_tokens: u32) -> Self {
        Self {
            prompt_tokens,
            num_tokens: prompt_tokens,
            computed: 0,
        }
    }
}

/// What an admission asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// A name for events.
    pub name: u64,
    /// Tokens to be computed next, after those that were found.
    pub new_tokens: u32,
    /// Whether all known tokens have to fit, not only the `new_tokens`.
    pub must_fit: bool,
    /// Whether other requests run, for which the cache may want to keep a reserve.
    pub beside_others: bool,
}

/// There is not enough room for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// [`KvCache::version`] before which asking for the same again has the same result.
    pub until: u64,
    /// Whether that holds however many tokens are asked for.
    pub whatever_chunk: bool,
}

/// Something that happened to the cached blocks, as servers publish it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheEvent<K> {
    /// Blocks of one request were cached together (vLLM's `BlockStored`).
    Stored {
        /// Their keys, in the order of the request.
        keys: Vec<K>,
        /// Their position in the request, in blocks, each.
        blocks: Vec<u32>,
        /// The request, as its [`Demand`] named it.
        name: u64,
    },
    /// A slot lost its block (`BlockRemoved`).
    Removed {
        /// The slot.
        slot: u32,
        /// The block's key.
        key: K,
    },
    /// All blocks were forgotten (`AllBlocksCleared`).
    Cleared,
}

/// How full a cache is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheUsage {
    /// Blocks that requests can use.
    pub usable: u32,
    /// Those nobody uses, cached or not.
    pub free: u32,
    /// Distinct blocks cached.
    pub cached: u64,
    /// Blocks dropped since the start because room was needed.
    pub evictions: u64,
}

impl CacheUsage {
    /// Blocks in use.
    #[must_use]
    pub fn used(self) -> u32 {
        self.usable - self.free
    }
}

/// Blocks for running requests, and hits for new ones: vLLM's manager, or several tiers.
///
/// The caller owns each request's [`Progress`], the keys of its full blocks and its lease, which says
/// what the cache holds for it. The life of a lease is `lookup`, `admit`, any number of `extend`,
/// `release`.
///
/// # What the caller guarantees
/// * `keys` are the keys of the request's full blocks, at least of those that are known; equal keys
///   mean equal tokens after equal tokens.
/// * Between the [`lookup`](Self::lookup) of a request and its [`admit`](Self::admit) the cache is not
///   changed, though several refused admissions may follow one lookup. `admit` is given a lease that
///   holds nothing and a progress with nothing computed. The caller then sets `computed` to the tokens
///   found, and adds what it computes.
/// * An [`extend`](Self::extend) never asks for more than the known tokens.
/// * Every admitted lease is released once.
///
/// # What the implementor must do
/// * `lookup` finds whole blocks from the start, at most `num_tokens - 1` tokens, and changes nothing
///   that a caller can see.
/// * A refused `admit` changes nothing. A refused `extend` may release what the request itself no
///   longer needs, and nothing else. Both are refused for want of room only.
/// * What a lease holds is not given to others before `release`; what was cached may stay.
/// * [`version`](Self::version) grows with every change that could turn a refusal into an admission;
///   a [`NoRoom`] holds until the version it names.
/// * [`quiet_tokens`](Self::quiet_tokens) is never too high: a scheduler skips the `extend` calls of
///   that many decoded tokens.
pub trait KvCache {
    /// What a full block is found by.
    type Key: Copy;
    /// What is held for one request.
    type Lease: Default + std::fmt::Debug;

    /// Finds the longest usable prefix of a request with `num_tokens` known tokens.
    fn lookup(&mut self, keys: &[Self::Key], num_tokens: u32) -> Hit;

    /// Takes the blocks that the last lookup found, and room for the tokens after them. Returns how
    /// many blocks were newly taken.
    ///
    /// # Errors
    /// [`NoRoom`].
    fn admit(
        &mut self,
        lease: &mut Self::Lease,
        keys: &[Self::Key],
        progress: &Progress,
        demand: Demand,
    ) -> std::result::Result<u32, NoRoom>;

    /// Takes room for the next `new_tokens` after the computed ones. Returns how many blocks were
    /// newly taken.
    ///
    /// # Errors
    /// [`NoRoom`].
    fn extend(
        &mut self,
        lease: &mut Self::Lease,
        keys: &[Self::Key],
        progress: &Progress,
        new_tokens: u32,
    ) -> std::result::Result<u32, NoRoom>;

    /// Gives everything back; the lease can be used for another request.
    fn release(&mut self, lease: &mut Self::Lease);

    /// How many tokens a request can decode, one by one, before an [`extend`](Self::extend) does
    /// anything.
    fn quiet_tokens(&self, lease: &Self::Lease, progress: &Progress) -> u32;

    /// Counts changes.
    fn version(&self) -> u64;

    /// Whether anything is ever found.
    fn enable_caching(&self) -> bool;

    /// Tokens beyond which no request gets room.
    fn max_model_len(&self) -> u32;

    /// Tokens per block.
    fn block_size(&self) -> u32;

    /// How full it is.
    fn usage(&self) -> CacheUsage;

    /// Blocks held for a request, places of blocks that it no longer needs included.
    fn held_blocks(&self, lease: &Self::Lease) -> u32;

    /// Appends the slots of a request in order, 0 where it no longer needs the block.
    fn copy_table(&self, lease: &Self::Lease, table: &mut Vec<u32>);

    /// The slots nobody uses, next to be taken first.
    fn free_queue(&self) -> Vec<u32>;

    /// The events since the last call; empty if they are not recorded.
    fn take_events(&mut self) -> Vec<CacheEvent<Self::Key>>;

    /// Checks every invariant, and that the leases given, all that hold something, account for
    /// everything in use.
    ///
    /// # Errors
    /// [`Error::Bug`](crate::Error::Bug) naming the first one that does not hold.
    fn validate<'l>(
        &self,
        leases: impl IntoIterator<Item = (&'l Self::Lease, &'l Progress)>,
    ) -> Result<()>
    where
        Self::Lease: 'l;
}
