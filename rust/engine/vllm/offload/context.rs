//! What the host tier remembers of one request.

use std::cmp::Reverse;
use std::hash::Hash;

use std::collections::HashMap;

/// One request, as the host tier sees it: where its chunks are in its sequence, and what it did with
/// each.
#[derive(Debug, Clone)]
pub struct Context<K> {
    pub(super) facts: HashMap<K, Facts>,
    /// Keys that an access observed, in the order of their first one.
    pub(super) seen: Vec<K>,
    /// The rank of its chunks in the order of the LRU policy, once it has one.
    pub(super) rank: Option<u64>,
    finished: bool,
}

/// What a request did with a chunk.
#[allow(clippy::struct_excessive_bools)] // Independent of each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Tokens of the sequence up to the end of the chunk.
    pub position: Option<u32>,
    pub seen: bool,
    pub inserted: bool,
    pub reused: bool,
    pub missed: bool,
}

impl<K> Default for Context<K> {
    fn default() -> Self {
        Self {
            facts: HashMap::new(),
            seen: Vec::new(),
            rank: None,
            finished: false,
        }
    }
}

impl<K: Copy + Eq + Hash> Context<K> {
    /// A request of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that a chunk ends after so many tokens of the request.
    pub fn know(&mut self, key: K, position: u32) {
        self.facts.entry(key).or_default().position = Some(position);
    }

    /// Starts anew, as after a reset of the tier: only the positions stay.
    pub fn restart(&mut self) {
        for facts in self.facts.values_mut() {
            *facts = Facts {
                position: facts.position,
                ..Facts::default()
            };
        }
        self.seen.clear();
        self.rank = None;
        self.finished = false;
    }

    pub(super) fn position(&self, key: &K) -> Option<u32> {
        self.facts.get(key)?.position
    }

    pub(super) fn facts_mut(&mut self, key: K) -> &mut Facts {
        self.facts.entry(key).or_default()
    }

    /// Its keys, in the order of their positions if all have one, for the policy to hear of its end;
    /// `None` if it heard of it already.
    pub(super) fn finish(&mut self) -> Option<Vec<K>> {
        if self.finished {
            return None;
        }
        self.finished = true;
        let mut keys = self.seen.clone();
        if keys.iter().all(|key| self.position(key).is_some()) {
            keys.sort_by_key(|key| self.position(key));
        }
        Some(keys)
    }
}

/// A place in the order of the LRU policy; the smallest goes first. Chunks of one request have one
/// time, and the end of the request goes before its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub time: u64,
    pub position: Reverse<u32>,
}
