//! What callers give, checked, and what they get.

use crate::error::{Error, Result};

/// What a successful [`BlockManager::allocate`](super::BlockManager::allocate) gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// Prompt tokens found in the cache.
    pub hit_tokens: u32,
    /// Slots newly taken: the last ones of the table.
    pub new_slots: u32,
}

/// How [`BlockManager::allocate`](super::BlockManager::allocate) admits a request. By default its whole prompt has to fit, and is
/// computed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Tokens to compute first, after those that were found; `None`: all the rest.
    pub chunk: Option<u32>,
    /// Whether there has to be room for all tokens, as vLLM 0.33 wants it, or only for the chunk.
    pub must_fit: bool,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            chunk: None,
            must_fit: true,
        }
    }
}

pub(super) fn unknown(id: &impl std::fmt::Display) -> Error {
    Error::range(format!("request {id} holds no blocks: allocate it first"))
}

pub(super) fn prompt_length(tokens: &[u32]) -> Result<u32> {
    if tokens.is_empty() {
        return Err(Error::range("there are no tokens, give at least one"));
    }
    u32::try_from(tokens.len()).map_err(|_| Error::range("more than 2^32 - 1 tokens"))
}

/// No slot is ever taken for tokens beyond `max_model_len`, so no request can have them.
pub(super) fn checked_length(
    id: &impl std::fmt::Display,
    tokens: u64,
    max_model_len: u32,
) -> Result<u32> {
    match u32::try_from(tokens) {
        Ok(tokens) if tokens <= max_model_len => Ok(tokens),
        _ => Err(Error::range(format!(
            "request {id}: {tokens} tokens are more than max_model_len {max_model_len}, give fewer \
             or a larger limit"
        ))),
    }
}

pub(super) fn checked_chunk(
    id: &impl std::fmt::Display,
    chunk: Option<u32>,
    left: u32,
) -> Result<u32> {
    let chunk = chunk.unwrap_or(left);
    if chunk == 0 || chunk > left {
        return Err(Error::range(format!(
            "request {id}: a chunk of {chunk} tokens, but {left} are left to compute"
        )));
    }
    Ok(chunk)
}
