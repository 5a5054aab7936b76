//! What a workload asks of a server, whatever its tokens are.

use crate::error::{Error, Result};

/// When each request arrives, and how long its prompt and output are, in order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requests {
    prompt_len: Vec<u32>,
    output_len: Vec<u32>,
    arrival_ns: Vec<u64>,
}

impl Requests {
    /// Copies columns of equal length: tokens of the prompts, tokens of the outputs (a request that
    /// asks for none still samples one), arrivals in nanoseconds, ascending.
    ///
    /// # Errors
    /// [`Error::Shape`] if the columns differ in length; [`Error::Range`] if arrivals descend, a prompt is empty, or
    /// prompt and output are more than 2^32 - 1 tokens together.
    pub fn new(prompt_len: &[u32], output_len: &[u32], arrival_ns: &[u64]) -> Result<Self> {
        if output_len.len() != prompt_len.len() || arrival_ns.len() != prompt_len.len() {
            return Err(Error::shape("the columns of the trace differ in length"));
        }
        if u32::try_from(prompt_len.len()).is_err() {
            return Err(Error::range("the trace has more than 2^32 - 1 requests"));
        }
        if !arrival_ns.is_sorted() {
            return Err(Error::range(
                "the timestamps are not ascending: sort the trace",
            ));
        }
        let output_len: Vec<u32> = output_len.iter().map(|&tokens| tokens.max(1)).collect();
        for (request, (&prompt, &output)) in prompt_len.iter().zip(&output_len).enumerate() {
            if prompt == 0 {
                return Err(Error::range(format!(
                    "request {request}: the prompt is empty"
                )));
            }
            if prompt.checked_add(output).is_none() {
                return Err(Error::range(format!(
                    "request {request}: {prompt} + {output} tokens are more than 2^32 - 1"
                )));
            }
        }
        Ok(Self {
            prompt_len: prompt_len.to_vec(),
            output_len,
            arrival_ns: arrival_ns.to_vec(),
        })
    }

    /// Number of requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.prompt_len.len()
    }

    /// Whether there are no requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prompt_len.is_empty()
    }

    /// All requests, in order of arrival.
    pub fn indices(&self) -> impl Iterator<Item = u32> + use<> {
        // `new` checked that they are fewer than 2^32.
        (0..u32::MAX).take(self.prompt_len.len())
    }

    /// Tokens of a prompt.
    #[must_use]
    pub fn prompt_len(&self, request: u32) -> u32 {
        self.prompt_len[request as usize]
    }

    /// Tokens a request samples; at least 1.
    #[must_use]
    pub fn output_len(&self, request: u32) -> u32 {
        self.output_len[request as usize]
    }

    /// Arrival in nanoseconds.
    #[must_use]
    pub fn arrival_ns(&self, request: u32) -> u64 {
        self.arrival_ns[request as usize]
    }
}
