//! A trace compiled for the scheduler: every full block as a dense id, derived once.

use super::block_names::BlockNames;
use super::replay::{Ids, Prompts};
use crate::error::{Error, Result};
use crate::index::to_usize;
use crate::room::reserved;
use crate::serving::Requests;
use crate::stop::Stop;

/// Requests between two looks at the stop flag.
const STOP_INTERVAL: usize = 1024;
/// Tokens of a request beyond which it is taken for a mistake: more than any model's context. Every
/// block has an id, so a length that is only claimed would cost memory.
const LONGEST: u32 = 1 << 24;

/// What a server has room for, per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Slots, the null block included; `None` if there is no limit.
    pub num_blocks: Option<u32>,
    /// Tokens of a prompt and its output together, at which sampling ends.
    pub max_model_len: u32,
}

impl Room {
    /// No limits.
    pub const UNBOUNDED: Self = Self {
        num_blocks: None,
        max_model_len: u32::MAX,
    };

    /// Tokens of a request that are computed: the last one never is.
    fn tokens(self, requests: &Requests, request: u32) -> u32 {
        let all = requests.prompt_len(request) + requests.output_len(request);
        all.min(self.max_model_len).saturating_sub(1)
    }

    /// # Errors
    /// [`Error::NeverFits`] naming the first request that can never be served.
    pub(super) fn check(self, requests: &Requests, block_size: u32) -> Result<()> {
        let slots = self.num_blocks.map(|blocks| blocks.saturating_sub(1));
        for request in requests.indices() {
            let prompt = requests.prompt_len(request);
            if prompt >= self.max_model_len {
                return Err(Error::never_fits(format!(
                    "request {request}: a prompt of {prompt} tokens leaves no token to sample \
                     within max_model_len {}, give more or leave the request out",
                    self.max_model_len
                )));
            }
            let tokens = self.tokens(requests, request);
            let blocks = tokens.div_ceil(block_size);
            if let Some(slots) = slots
                && blocks > slots
            {
                return Err(Error::never_fits(format!(
                    "request {request}: {tokens} tokens need {blocks} blocks of {block_size} \
                     tokens and can never fit {slots} (the null block not counted), give more blocks",
                )));
            }
        }
        Ok(())
    }

    /// Full blocks of all requests.
    fn blocks(self, requests: &Requests, block_size: u32) -> Result<u64> {
        let mut blocks = 0;
        for request in requests.indices() {
            let tokens = self.tokens(requests, request);
            if tokens >= LONGEST {
                return Err(Error::range(format!(
                    "request {request}: {} prompt and {} output tokens are more than {LONGEST}, \
                     give max_model_len to end it earlier, or leave the request out",
                    requests.prompt_len(request),
                    requests.output_len(request)
                )));
            }
            blocks += u64::from(tokens / block_size);
        }
        Ok(blocks)
    }
}

/// Requests in the order of their arrival, with the ids of their full blocks.
///
/// Two blocks have the same id if and only if they hold the same tokens after the same prefix under
/// the same salt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    block_size: u32,
    lookahead: bool,
    max_model_len: u32,
    requests: Requests,
    key_offsets: Vec<u64>,
    keys: Vec<u32>,
    num_keys: u32,
}

impl Workload {
    /// Compiles a trace. `output_len` in tokens; a request that asks for none still samples one, as
    /// the server does. `arrival_ns` in nanoseconds, ascending.
    ///
    /// Output tokens that `prompts` does not have are taken to be unlike any others. Lengths are checked
    /// against `room` before anything is made of them; blocks behind its `max_model_len` are left out.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if columns do not fit together, a prompt is empty, a request
    /// has 2^24 tokens or more, or there are more than 2^32 - 1 distinct blocks; [`Error::NeverFits`]
    /// if a request does not fit `room`; [`Error::Memory`]; [`Error::Interrupted`].
    pub fn compile(
        prompts: &Prompts<'_>,
        output_len: &[u32],
        arrival_ns: &[u64],
        block_size: u32,
        room: Room,
        stop: &Stop,
    ) -> Result<Self> {
        let lookahead = false;
        Self::compile_keys(
            prompts, output_len, arrival_ns, block_size, room, lookahead, stop,
        )
    }

    /// The same, with keys that also cover the token after their block: two blocks have the same id if and
    /// only if that is equal too.
    ///
    /// # Errors
    /// Those of [`Self::compile`]; [`Error::Range`] if the prompts are not token ids.
    pub fn compile_with_lookahead(
        prompts: &Prompts<'_>,
        output_len: &[u32],
        arrival_ns: &[u64],
        block_size: u32,
        room: Room,
        stop: &Stop,
    ) -> Result<Self> {
        if matches!(prompts.ids, Ids::Hashes(..)) {
            return Err(Error::range(
                "hashes that cover the next token need token ids: give eagle_hits drop or nodrop",
            ));
        }
        Self::compile_keys(
            prompts, output_len, arrival_ns, block_size, room, true, stop,
        )
    }

    fn compile_keys(
        prompts: &Prompts<'_>,
        output_len: &[u32],
        arrival_ns: &[u64],
        block_size: u32,
        room: Room,
        lookahead: bool,
        stop: &Stop,
    ) -> Result<Self> {
        prompts.validate(block_size)?;
        let requests = Requests::new(prompts.prompt_len, output_len, arrival_ns)?;
        room.check(&requests, block_size)?;
        let mut names = BlockNames::new(lookahead);
        let mut workload = Self {
            block_size,
            lookahead,
            max_model_len: room.max_model_len,
            key_offsets: Vec::with_capacity(requests.len() + 1),
            keys: reserved(room.blocks(&requests, block_size)?)?,
            requests,
            num_keys: 0,
        };
        workload.key_offsets.push(0);
        for request in workload.requests.indices() {
            let row = request as usize;
            if row.is_multiple_of(STOP_INTERVAL) {
                stop.check()?;
            }
            let blocks = (room.tokens(&workload.requests, request) / block_size) as usize;
            names.request(prompts, row, block_size, blocks, &mut workload.keys)?;
            workload.key_offsets.push(workload.keys.len() as u64);
        }
        workload.num_keys = names.len();
        Ok(workload)
    }

    /// The requests, without their tokens.
    #[must_use]
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Tokens per block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Whether ids also cover the token after their block.
    #[must_use]
    pub fn lookahead(&self) -> bool {
        self.lookahead
    }

    /// The length at which the ids of a request end.
    #[must_use]
    pub fn max_model_len(&self) -> u32 {
        self.max_model_len
    }

    /// Ids of the full blocks of a request's prompt and output, without the last token.
    #[must_use]
    pub fn keys(&self, request: u32) -> &[u32] {
        let request = request as usize;
        &self.keys[to_usize(self.key_offsets[request])..to_usize(self.key_offsets[request + 1])]
    }

    /// Number of distinct blocks.
    #[must_use]
    pub fn num_keys(&self) -> u32 {
        self.num_keys
    }

    /// Where each block occurs first.
    #[must_use]
    pub fn origins(&self) -> Origins {
        let blocks = self.num_keys as usize;
        let mut origins = Origins {
            request: vec![0; blocks],
            position: vec![0; blocks],
        };
        let mut requests: Vec<u32> = self.requests.indices().collect();
        // Last to first, so that the first one stays.
        requests.reverse();
        for request in requests {
            for (position, &key) in (0..).zip(self.keys(request)) {
                origins.request[key as usize] = request;
                origins.position[key as usize] = position;
            }
        }
        origins
    }
}

/// Where blocks occur first, one entry per block id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// The first request that has the block.
    pub request: Vec<u32>,
    /// Its position in that request, in blocks.
    pub position: Vec<u32>,
}
