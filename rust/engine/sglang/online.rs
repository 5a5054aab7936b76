//! The online cache: requests by name, tokens in, hits out.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;

use super::cache::{CacheConfig, EvictionLog, EvictionTotals, RadixCache};
use super::lease::Lease;
use super::namespace::{Namespace, Prompt};
use super::sequences::{Sequences, TokenBuffers};
use super::tree::Insertion;
use super::trie::NodeId;
use crate::error::{Error, Result};
use crate::index::to_u32;

/// A node of the online cache, as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView<'c> {
    /// Its handle; [`OnlineCache::lock`] takes it.
    pub handle: u64,
    /// The handle of its parent; `None` below the root.
    pub parent: Option<u64>,
    /// Its tokens.
    pub tokens: &'c [u32],
    /// What it is cached under.
    pub namespace: &'c Namespace,
    /// Requests that hold it or a node below.
    pub lock: u32,
    /// Uses, as the version counts them.
    pub hits: u32,
    /// The highest priority it was inserted with.
    pub priority: i64,
    /// When it was used last; only the order means something.
    pub accessed: u64,
    /// When it was made; only the order means something.
    pub created: u64,
}

/// SGLang's radix cache, one call at a time.
///
/// ```
/// use prefixsim::engine::sglang::{CacheConfig, OnlineCache, Policy, Prompt, Version};
/// let config = CacheConfig {
///     version: Version::Unified0523,
///     page_size: 1,
///     capacity_tokens: Some(100),
///     policy: Policy::Lru,
///     disabled: false,
/// };
/// let mut cache = OnlineCache::new(&config)?;
/// let prompt = Prompt { tokens: &[1, 2, 3, 4, 5], ..Prompt::default() };
/// assert_eq!(cache.admit("a", prompt, 0)?, 0);
/// assert!(cache.extend(&"a", None)?);
/// cache.finish(&"a")?;
/// assert_eq!(cache.admit("b", prompt, 0)?, 4);
/// # Ok::<(), prefixsim::Error>(())
/// ```
#[derive(Debug)]
pub struct OnlineCache<Id> {
    cache: RadixCache<TokenBuffers>,
    joins_namespace: bool,
    namespaces: HashMap<Namespace, u32>,
    names: Vec<Namespace>,
    requests: HashMap<Id, Lease>,
    /// Locks taken by [`OnlineCache::lock`].
    locks: HashMap<NodeId, u32>,
}

impl<Id: Clone + Display + Eq + Hash> OnlineCache<Id> {
    /// An empty cache.
    ///
    /// # Errors
    /// As [`CacheConfig::validate`].
    pub fn new(config: &CacheConfig) -> Result<Self> {
        Ok(Self {
            cache: RadixCache::new(config, TokenBuffers::default())?,
            joins_namespace: config.version.joins_namespace(),
            namespaces: HashMap::new(),
            names: Vec::new(),
            requests: HashMap::new(),
            locks: HashMap::new(),
        })
    }

    /// The cache itself.
    #[must_use]
    pub fn cache(&self) -> &RadixCache<TokenBuffers> {
        &self.cache
    }

    /// Starts to keep what [`OnlineCache::take_evictions`] returns.
    pub fn record_evictions(&mut self) {
        self.cache.record_evictions();
    }

    /// The evictions since the last call; empty if they are not recorded.
    pub fn take_evictions(&mut self) -> EvictionLog {
        self.cache.take_log()
    }

    /// Sums of evictions.
    #[must_use]
    pub fn evicted(&self) -> EvictionTotals {
        self.cache.evicted()
    }

    /// The longest prefix of a prompt in the cache. Nothing is held, but the nodes on the way become
    /// more recent, and a node that the prompt leaves half-way is split.
    ///
    /// # Errors
    /// [`Error::Range`] if the prompt has 2^32 tokens or more.
    pub fn find(&mut self, prompt: Prompt<'_>) -> Result<(u32, u64)> {
        let (sequence, len) = self.sequence(prompt)?;
        let found = self.cache.tree_mut().find(sequence, len);
        self.cache.tree_mut().sequences_mut().release(sequence);
        Ok((found.tokens, self.handle(found.node)))
    }

    /// Puts the whole pages of a prompt into the cache, which evicts others if there is not enough
    /// room. Returns how many tokens were there already and the node where they end; `None` without
    /// any change if there is no room.
    ///
    /// # Errors
    /// As [`OnlineCache::find`].
    pub fn insert(
        &mut self,
        prompt: Prompt<'_>,
        insertion: &Insertion,
    ) -> Result<Option<(u32, u64)>> {
        let (sequence, len) = self.sequence(prompt)?;
        let found = self.cache.insert(sequence, len, insertion);
        self.cache.tree_mut().sequences_mut().release(sequence);
        Ok(found.map(|found| (found.tokens, self.handle(found.node))))
    }

    /// Evicts leaves until at least so many tokens are gone or none is left; returns how many went.
    pub fn evict(&mut self, tokens: u64) -> u64 {
        self.cache.evict(tokens)
    }

    /// Keeps a node and all above it from eviction.
    ///
    /// # Errors
    /// [`Error::Range`] if there is no such node.
    pub fn lock(&mut self, handle: u64) -> Result<()> {
        let node = self.node(handle)?;
        self.cache.tree_mut().lock(node);
        *self.locks.entry(node).or_default() += 1;
        Ok(())
    }

    /// Takes one [`OnlineCache::lock`] back.
    ///
    /// # Errors
    /// [`Error::Range`] if there is no such node or it is not locked.
    pub fn unlock(&mut self, handle: u64) -> Result<()> {
        let node = self.node(handle)?;
        let Some(locks) = self.locks.get_mut(&node) else {
            return Err(Error::range("unlock: the node was not locked by lock()"));
        };
        *locks -= 1;
        if *locks == 0 {
            self.locks.remove(&node);
        }
        self.cache.tree_mut().unlock(node);
        Ok(())
    }

    /// Admits a request: finds its longest cached prefix and holds it. Returns its tokens, at most
    /// one less than the prompt has.
    ///
    /// # Errors
    /// [`Error::Range`] if the request is there already, or its prompt is empty or too long.
    pub fn admit(&mut self, id: Id, prompt: Prompt<'_>, priority: i64) -> Result<u32> {
        if self.requests.contains_key(&id) {
            return Err(Error::range(format!(
                "request {id}: it was admitted already, end it first"
            )));
        }
        if prompt.tokens.is_empty() {
            return Err(Error::range(format!("request {id}: the prompt is empty")));
        }
        let (sequence, len) = self.sequence(prompt)?;
        let mut lease = Lease::new(sequence, len, priority);
        let hit = self.cache.admit(&mut lease, len);
        self.requests.insert(id, lease);
        Ok(hit)
    }

    /// Computes the prompt up to `upto` tokens (default: all of it) and publishes its whole pages.
    /// Returns `false` without any change if there is no room.
    ///
    /// # Errors
    /// [`Error::Range`] if the request is not there, or `upto` is no position in what is left.
    pub fn extend(&mut self, id: &Id, upto: Option<u32>) -> Result<bool> {
        let lease = lease(&mut self.requests, id)?;
        let sequences = self.cache.tree().trie().sequences();
        let known = to_u32(sequences.tokens(lease.sequence).len());
        let upto = upto.unwrap_or(known);
        if upto <= lease.allocated || upto > known {
            return Err(Error::range(format!(
                "request {id}: cannot compute up to token {upto}, it has {known} tokens of which {} \
                 are computed",
                lease.allocated
            )));
        }
        if !self.cache.grow(lease, upto, upto - lease.allocated) {
            return Ok(false);
        }
        self.cache.checkpoint(lease, upto, upto < known);
        Ok(true)
    }

    /// Adds sampled tokens that are fed to the model. Returns `false` without any change if there is
    /// no room.
    ///
    /// # Errors
    /// [`Error::Range`] if the request is not there, or its prompt is not computed yet.
    pub fn append(&mut self, id: &Id, tokens: &[u32]) -> Result<bool> {
        let lease = lease(&mut self.requests, id)?;
        let known = self
            .cache
            .tree()
            .trie()
            .sequences()
            .tokens(lease.sequence)
            .len();
        if lease.allocated as usize != known {
            return Err(Error::range(format!(
                "request {id}: {} of {known} tokens are computed, extend it before appending",
                lease.allocated
            )));
        }
        if u32::try_from(known + tokens.len()).is_err() {
            return Err(too_long());
        }
        let more = self.cache.ceil(lease.allocated + to_u32(tokens.len()));
        if more - self.cache.ceil(lease.allocated) > self.cache.available() {
            return Ok(false);
        }
        for token in tokens {
            self.cache.grow(lease, lease.allocated + 1, 0);
            let sequences = self.cache.tree_mut().sequences_mut();
            sequences.extend(lease.sequence, &[*token]);
        }
        Ok(true)
    }

    /// Ends a request: what is computed stays cached in whole pages.
    ///
    /// # Errors
    /// [`Error::Range`] if the request is not there.
    pub fn finish(&mut self, id: &Id) -> Result<()> {
        let mut lease = self.remove(id)?;
        let upto = lease.allocated;
        self.cache.finish(&mut lease, upto);
        self.cache
            .tree_mut()
            .sequences_mut()
            .release(lease.sequence);
        Ok(())
    }

    /// Takes everything back from a request that it did not publish, as a retraction does, and forgets
    /// it.
    ///
    /// # Errors
    /// [`Error::Range`] if the request is not there.
    pub fn retract(&mut self, id: &Id) -> Result<()> {
        let mut lease = self.remove(id)?;
        self.cache.drop_lease(&mut lease);
        self.cache
            .tree_mut()
            .sequences_mut()
            .release(lease.sequence);
        Ok(())
    }

    /// Empties the cache. Refused while something is held.
    pub fn reset(&mut self) -> bool {
        self.requests.is_empty() && self.cache.reset()
    }

    /// Ids of the requests that hold something.
    pub fn requests(&self) -> impl Iterator<Item = &Id> {
        self.requests.keys()
    }

    /// All nodes but the root, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        let trie = self.cache.tree().trie();
        trie.ids().map(move |id| {
            let node = trie.node(id);
            let tokens = trie.sequences().tokens(node.sequence);
            NodeView {
                handle: self.handle(id),
                parent: (node.parent != NodeId::ROOT).then(|| self.handle(node.parent)),
                tokens: &tokens[node.start as usize..node.end as usize],
                namespace: &self.names[trie.sequences().namespace(node.sequence) as usize],
                lock: node.lock,
                hits: node.hits,
                priority: node.priority,
                accessed: node.accessed,
                created: node.created,
            }
        })
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] about the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.cache.validate(self.requests.values())?;
        let trie = self.cache.tree().trie();
        let mut held: Vec<u32> = trie.ids().map(|id| trie.node(id).sequence).collect();
        held.extend(self.requests.values().map(|lease| lease.sequence));
        held.sort_unstable();
        held.dedup();
        if held.len() != trie.sequences().held() {
            return Err(Error::bug(format!(
                "{} sequences are kept, {} are referred to",
                trie.sequences().held(),
                held.len()
            )));
        }
        Ok(())
    }

    fn remove(&mut self, id: &Id) -> Result<Lease> {
        self.requests.remove(id).ok_or_else(|| unknown(id))
    }

    fn sequence(&mut self, prompt: Prompt<'_>) -> Result<(u32, u32)> {
        let len = u32::try_from(prompt.tokens.len()).map_err(|_| too_long())?;
        let namespace = Namespace::of(prompt.extra_key, prompt.cache_salt, self.joins_namespace);
        let number = if let Some(&number) = self.namespaces.get(&namespace) {
            number
        } else {
            self.names.push(namespace.clone());
            let number = to_u32(self.names.len()) - 1;
            self.namespaces.insert(namespace, number);
            number
        };
        let sequences = self.cache.tree_mut().sequences_mut();
        Ok((sequences.add(prompt.tokens, number), len))
    }

    fn handle(&self, node: NodeId) -> u64 {
        let incarnation = self.cache.tree().trie().incarnation(node);
        (u64::from(incarnation) << 32) | node.index() as u64
    }

    fn node(&self, handle: u64) -> Result<NodeId> {
        let node = NodeId(to_u32(handle & u64::from(u32::MAX)));
        let trie = self.cache.tree().trie();
        if trie.is_alive(node) && self.handle(node) == handle {
            return Ok(node);
        }
        Err(Error::range("the node is gone: it was evicted"))
    }
}

fn lease<'r, Id: Display + Eq + Hash>(
    requests: &'r mut HashMap<Id, Lease>,
    id: &Id,
) -> Result<&'r mut Lease> {
    requests.get_mut(id).ok_or_else(|| unknown(id))
}

fn unknown<Id: Display>(id: &Id) -> Error {
    Error::range(format!("request {id}: not here, admit it first"))
}

fn too_long() -> Error {
    Error::range("a sequence of 2^32 tokens or more")
}
