//! The requests of a fleet: their trees, sessions, times, and how long they stay.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::tree::{BlockTree, Measure};
use crate::error::{Error, Result};
use crate::forest::Forest;
use crate::index::{Ix, RequestIx, to_u32};

/// What a router counts prompts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Tokens.
    Tokens,
    /// Characters (Unicode code points) of the text.
    Characters,
    /// Bytes of the text in UTF-8.
    Bytes,
}

/// The blocks that a tree is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blocks {
    /// What they are counted in.
    pub unit: Unit,
    /// Units of a block.
    pub size: u32,
    /// Whether a last block of fewer units is one.
    pub partial: bool,
    /// Units of a prompt behind which nothing is looked at.
    pub most: Option<u32>,
}

impl Blocks {
    /// Full blocks only, of whole prompts.
    #[must_use]
    pub const fn full(unit: Unit, size: u32) -> Self {
        Self {
            unit,
            size,
            partial: false,
            most: None,
        }
    }

    /// The same with a last block of fewer units.
    #[must_use]
    pub const fn with_partial(self) -> Self {
        Self {
            partial: true,
            ..self
        }
    }

    /// The same, of the first `most` units of each prompt.
    #[must_use]
    pub const fn within(self, most: u32) -> Self {
        Self {
            most: Some(most),
            ..self
        }
    }
}

/// A forest, and the length of each prompt in what its ids stand for.
#[derive(Debug, Clone)]
pub struct Source {
    /// All prompts.
    pub forest: Arc<Forest>,
    /// Tokens, characters or bytes of each prompt.
    pub length: Vec<u32>,
}

/// The columns of a fleet's requests, one row each.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// Tokens of each prompt.
    pub prompt_len: Vec<u32>,
    /// Requests that arrive while each one is in flight.
    pub hold: Vec<u32>,
    /// Arrivals in seconds, ascending.
    pub timestamp: Vec<f64>,
    /// Session of each request.
    pub session: Vec<u32>,
    /// Name of each session, as routers hash it.
    pub session_names: Vec<String>,
}

/// The requests of a fleet.
///
/// *Load model*: requests arrive one after the other. Request i with hold h is in flight while the
/// requests i+1 ..= i+h arrive, and in prefill while i+1 ..= i+h/4 do.
#[derive(Debug)]
pub struct Traffic {
    columns: Columns,
    tokens: Source,
    /// Of hash ids: the same with partial last ids, which routers of text see.
    whole: Source,
    characters: Option<Source>,
    bytes: Option<Source>,
    characters_per_token: u32,
    prefill_ends: Due,
    finishes: Due,
    trees: Mutex<HashMap<Blocks, Arc<BlockTree>>>,
}

/// Requests by the arrival before which something happens to them.
#[derive(Debug, Clone, Default)]
struct Due {
    offsets: Vec<u32>,
    requests: Vec<u32>,
}

impl Due {
    /// `after` arrivals more after each request's own.
    fn new(after: impl Iterator<Item = u32> + Clone, requests: usize) -> Self {
        let due = |(request, after): (usize, u32)| (request + 1 + after as usize).min(requests);
        let mut offsets = vec![0_u32; requests + 2];
        for place in after.clone().enumerate().map(due) {
            offsets[place + 1] += 1;
        }
        for place in 1..offsets.len() {
            offsets[place] += offsets[place - 1];
        }
        let mut next = offsets.clone();
        let mut list = vec![0; requests];
        for (request, place) in after.enumerate().map(due).enumerate() {
            list[next[place] as usize] = to_u32(request);
            next[place] += 1;
        }
        Self {
            offsets,
            requests: list,
        }
    }

    fn before(&self, request: RequestIx) -> &[u32] {
        let at = request.usize();
        &self.requests[self.offsets[at] as usize..self.offsets[at + 1] as usize]
    }
}

impl Traffic {
    /// Requests with these columns and prompts.
    ///
    /// `whole` is the forest of hash ids with partial last ids kept; token ids need none.
    /// `characters_per_token` stands in where there is no text.
    ///
    /// # Errors
    /// [`Error::Shape`] if columns differ in length; [`Error::Range`] if times descend, a session has
    /// no name, or `characters_per_token` is 0.
    pub fn new(
        columns: Columns,
        tokens: Source,
        whole: Option<Source>,
        characters_per_token: u32,
    ) -> Result<Self> {
        let requests = columns.prompt_len.len();
        Error::check_rows("prompts", tokens.forest.requests(), requests)?;
        Error::check_rows("hold", columns.hold.len(), requests)?;
        Error::check_rows("timestamp", columns.timestamp.len(), requests)?;
        Error::check_rows("session", columns.session.len(), requests)?;
        if !columns.timestamp.is_sorted() {
            return Err(Error::range(
                "the timestamps are not ascending: sort the trace",
            ));
        }
        let names = columns.session_names.len();
        if columns.session.iter().any(|&code| code as usize >= names) {
            return Err(Error::range("a session has no name"));
        }
        if characters_per_token == 0 {
            return Err(Error::range("0 characters a token, give 1 or more"));
        }
        let hold = columns.hold.iter().copied();
        Ok(Self {
            prefill_ends: Due::new(hold.clone().map(|hold| hold / 4), requests),
            finishes: Due::new(hold, requests),
            whole: whole.unwrap_or_else(|| tokens.clone()),
            tokens,
            columns,
            characters: None,
            bytes: None,
            characters_per_token,
            trees: Mutex::default(),
        })
    }

    /// Gives the prompts' text, as forests of code points and of bytes.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one prompt per request.
    pub fn text(mut self, characters: Source, bytes: Source) -> Result<Self> {
        for source in [&characters, &bytes] {
            Error::check_rows("texts", source.forest.requests(), self.requests())?;
        }
        (self.characters, self.bytes) = (Some(characters), Some(bytes));
        Ok(self)
    }

    /// Number of requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.columns.prompt_len.len()
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Requests whose prompt is computed before `request` arrives, and was not before the one before.
    #[must_use]
    pub fn prefill_ends(&self, request: RequestIx) -> &[u32] {
        self.prefill_ends.before(request)
    }

    /// Requests that have ended before `request` arrives, and had not before the one before.
    #[must_use]
    pub fn finishes(&self, request: RequestIx) -> &[u32] {
        self.finishes.before(request)
    }

    /// The prompts in blocks of some units; made once, then kept.
    ///
    /// # Errors
    /// As [`BlockTree::new`]; [`Error::Range`] if blocks of tokens cut ids.
    pub fn tree(&self, blocks: Blocks) -> Result<Arc<BlockTree>> {
        let mut trees = match self.trees.lock() {
            Ok(trees) => trees,
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some(tree) = trees.get(&blocks) {
            return Ok(Arc::clone(tree));
        }
        let (source, scale) = match blocks.unit {
            Unit::Tokens if blocks.partial => (&self.whole, 1),
            Unit::Tokens => (&self.tokens, 1),
            Unit::Characters => match &self.characters {
                Some(source) => (source, 1),
                None => (&self.whole, self.characters_per_token),
            },
            Unit::Bytes => match &self.bytes {
                Some(source) => (source, 1),
                None => (&self.whole, self.characters_per_token),
            },
        };
        let measure = Measure {
            units_per_id: u64::from(source.forest.tokens_per_id()) * u64::from(scale),
            length: &source.length,
            scale,
            most: blocks.most,
        };
        let (size, partial) = (blocks.size, blocks.partial);
        let tree = Arc::new(BlockTree::new(&source.forest, measure, size, partial)?);
        trees.insert(blocks, Arc::clone(&tree));
        Ok(tree)
    }

    /// Where no session is known: a request belongs to that of the latest one whose whole prompt it goes
    /// on with, unless another one has gone on with that before, as from a prompt that many share.
    /// Returns a number per request, new ones ascending.
    #[must_use]
    pub fn inferred_sessions(forest: &Forest) -> Vec<u32> {
        let mut ended: Vec<Option<u32>> = vec![None; forest.nodes()];
        let mut next = 0;
        let mut sessions = Vec::with_capacity(forest.requests());
        for &node in forest.prompt_node() {
            let mut at = node as usize;
            let session = loop {
                let above = forest.parent()[at] as usize;
                if above == at {
                    next += 1;
                    break next - 1;
                }
                if let Some(session) = ended[at].take() {
                    break session;
                }
                at = above;
            };
            ended[node as usize] = Some(session);
            sessions.push(session);
        }
        sessions
    }
}
