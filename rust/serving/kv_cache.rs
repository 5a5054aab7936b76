//! The memory of a server: blocks for running requests, and hits for new ones.

use crate::error::Result;
use crate::index::to_u32;

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

/// How long a hit would be, in tokens, with more and more constraints: lengths that never ascend. The
/// hit itself, which is not longer than the last, also keeps the rules of the drafter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HitLimits {
    /// What full attention alone has.
    pub full: u32,
    /// What it agrees on with layers that have a window.
    pub window: u32,
    /// What they agree on with layers that have a state.
    pub state: u32,
    /// The same, at a length that all block sizes allow.
    pub aligned: u32,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Known tokens: the prompt and what was sampled so far.
    pub num_tokens: u32,
    /// Tokens whose KV exists, or will once the steps in flight have run.
    pub computed: u32,
    /// Those of them that steps in flight compute; 0 where a step ends before the next is scheduled.
    pub in_flight: u32,
}

impl Progress {
    /// A request of which nothing is computed.
    #[must_use]
    pub fn new(prompt_tokens: u32) -> Self {
        Self {
            prompt_tokens,
            num_tokens: prompt_tokens,
            computed: 0,
            in_flight: 0,
        }
    }

    /// Tokens whose KV exists now.
    #[must_use]
    pub fn settled(&self) -> u32 {
        self.computed - self.in_flight
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
    /// [`KvCache::version`] before which asking for the same again has the same result. That of now: the
    /// next step may have another one though nothing changes.
    pub until: u64,
    /// Whether that holds however many tokens are asked for.
    pub whatever_chunk: bool,
}

/// Something that happened to the cached blocks, as servers publish it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheEvent<K> {
    /// Blocks of one request were cached together (vLLM's `BlockStored`).
    Stored {
        /// The group of layers whose blocks these are; 0 if there is one.
        group: u32,
        /// Their keys, in the order of the request.
        keys: Vec<K>,
        /// Their position in the request, in blocks, each.
        blocks: Vec<u32>,
        /// The request, as its [`Demand`] named it.
        name: u64,
    },
    /// A slot lost its block (`BlockRemoved`).
    Removed {
        /// The group of layers whose block it was; 0 if there is one.
        group: u32,
        /// The slot.
        slot: u32,
        /// The block's key.
        key: K,
    },
    /// All blocks were forgotten (`AllBlocksCleared`).
    Cleared,
}

/// The state of a cache as a whole, for comparisons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheSnapshot<K> {
    /// The slots nobody uses, next to be taken first.
    pub free: Vec<u32>,
    /// Slots in use, and by how many.
    pub refs: Vec<(u32, u32)>,
    /// Group and key of what is cached, and the slots that hold it, oldest first.
    pub cached: Vec<(u32, K, Vec<u32>)>,
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
/// * An [`extend`](Self::extend) asks for more than the known tokens only where steps are in flight, or
///   drafts are verified.
/// * What a step does comes between [`begin_step`](Self::begin_step) and [`end_step`](Self::end_step);
///   steps in which no method is called may be left out.
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

    /// Where siblings of the request that was just looked up are known to part from it, in tokens: some
    /// layers have more of its prefix than all of them can go on from. 0 if nowhere.
    fn junction(&self) -> u32 {
        0
    }

    /// How long the hit that was just found would be without some of the constraints on it.
    fn hit_limits(&self, _keys: &[Self::Key], _num_tokens: u32) -> HitLimits {
        HitLimits::default()
    }

    /// How many of `tokens` tokens after the computed ones a step computes: fewer where the cache wants
    /// a step to end. Without a lease the request was just looked up, and `progress.computed` is what
    /// was found.
    fn chunk(&self, _lease: Option<&Self::Lease>, _progress: &Progress, tokens: u32) -> u32 {
        tokens
    }

    /// Caches what is known and settled, after the output of a step.
    fn settle(&mut self, lease: &mut Self::Lease, keys: &[Self::Key], progress: &Progress);

    /// A step of the scheduler begins.
    fn begin_step(&mut self) {}

    /// A step has scheduled all it schedules.
    fn end_step(&mut self) {}

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

    /// Groups of layers, each with a table of its own per request.
    fn num_groups(&self) -> u32 {
        1
    }

    /// The slots of a request in one group, in order, 0 where it no longer needs the block.
    fn table<'l>(&self, lease: &'l Self::Lease, group: u32) -> &'l [u32];

    /// Blocks held for a request, places of blocks that it no longer needs included.
    fn held_blocks(&self, lease: &Self::Lease) -> u32 {
        let groups = 0..self.num_groups();
        groups
            .map(|group| to_u32(self.table(lease, group).len()))
            .sum()
    }

    /// The slots in use and what is cached, as a whole.
    fn snapshot(&self) -> CacheSnapshot<Self::Key>;

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
