//! The sequences of a trace, and what sets them apart.

use super::{Csr, Id, common_prefix};
use crate::error::{Error, Result};

/// A trace: for each request its prompt, and where they are given its output, salt and session.
///
/// Made from the prompts; what else there is, is added. Every step checks what it adds.
///
/// ```
/// use prefixsim::trace::{Csr, Trace};
///
/// let prompts = Csr::new(&[0, 3, 7], &[1_u32, 2, 3, 1, 2, 3, 4])?;
/// let trace = Trace::new(prompts).salt(&[0, 0])?.session(&[5, 5])?;
/// assert_eq!((trace.requests(), trace.len(1)), (2, 4));
/// # Ok::<(), prefixsim::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Trace<'a, T> {
    prompts: Csr<'a, T>,
    outputs: Option<Csr<'a, T>>,
    prompt_len: Option<&'a [u32]>,
    tokens_per_id: u32,
    partial_blocks: bool,
    /// Last tokens of an output that are left out: 1 or 0.
    left_out: usize,
    salt: Option<&'a [u32]>,
    session: Option<&'a [u32]>,
}

fn outputs_need_tokens() -> Error {
    Error::range("outputs need token ids: hash ids of several tokens cannot be continued")
}

impl<'a, T: Id> Trace<'a, T> {
    /// Requests with these prompts, one token per id.
    #[must_use]
    pub fn new(prompts: Csr<'a, T>) -> Self {
        Self {
            prompts,
            outputs: None,
            prompt_len: None,
            tokens_per_id: 1,
            partial_blocks: false,
            left_out: 1,
            salt: None,
            session: None,
        }
    }

    /// Gives the prompts' lengths in tokens, of which every id stands for `tokens_per_id`.
    ///
    /// A last id that stands for fewer, as the length tells, is no part of the sequence unless
    /// [`Trace::keep_partial_blocks`] asks for it.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one length per request, or with one token per id a length
    /// is not the number of ids; [`Error::Range`] if `tokens_per_id` is 0.
    pub fn prompt_len(mut self, tokens_per_id: u32, prompt_len: &'a [u32]) -> Result<Self> {
        if tokens_per_id == 0 {
            return Err(Error::range("ids of 0 tokens, give 1 or more per id"));
        }
        self.check_rows("prompt_len", prompt_len.len())?;
        if tokens_per_id == 1
            && let Some(i) = (0..self.requests())
                .find(|&i| self.prompts.list(i).len() as u64 != u64::from(prompt_len[i]))
        {
            return Err(Error::shape(format!(
                "request {i}: {} token ids, but a prompt length of {}",
                self.prompts.list(i).len(),
                prompt_len[i]
            )));
        }
        if tokens_per_id != 1 && self.outputs.is_some() {
            return Err(outputs_need_tokens());
        }
        self.tokens_per_id = tokens_per_id;
        self.prompt_len = Some(prompt_len);
        Ok(self)
    }

    /// Continues the sequences with what was generated. Of an output the last token is left out: it
    /// is never fed to the model, so nothing is cached for it.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one output per request; [`Error::Range`] if ids stand for
    /// several tokens, or a prompt and its output have 2^32 tokens or more.
    pub fn outputs(mut self, outputs: Csr<'a, T>) -> Result<Self> {
        if self.tokens_per_id != 1 {
            return Err(outputs_need_tokens());
        }
        self.check_rows("outputs", outputs.len())?;
        if let Some(i) = (0..self.requests()).find(|&i| {
            let tokens = self.prompts.list(i).len() as u64 + outputs.list(i).len() as u64;
            tokens >= u64::from(u32::MAX)
        }) {
            return Err(Error::range(format!(
                "request {i}: prompt and output have 2^32 tokens or more together"
            )));
        }
        self.outputs = Some(outputs);
        Ok(self)
    }

    /// Keeps a last id that stands for fewer tokens than the others.
    #[must_use]
    pub fn keep_partial_blocks(mut self) -> Self {
        self.partial_blocks = true;
        self
    }

    /// Keeps the last token of outputs, which some servers compute.
    #[must_use]
    pub fn keep_last_output_token(mut self) -> Self {
        self.left_out = 0;
        self
    }

    /// Isolates: sequences under different codes share nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one code per request.
    pub fn salt(mut self, codes: &'a [u32]) -> Result<Self> {
        self.check_rows("salt", codes.len())?;
        self.salt = Some(codes);
        Ok(self)
    }

    /// Tells which requests are turns of one conversation. Makes compiling faster, and never changes
    /// what is shared.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one code per request.
    pub fn session(mut self, codes: &'a [u32]) -> Result<Self> {
        self.check_rows("session", codes.len())?;
        self.session = Some(codes);
        Ok(self)
    }

    fn check_rows(&self, name: &str, rows: usize) -> Result<()> {
        if rows == self.requests() {
            return Ok(());
        }
        Err(Error::shape(format!(
            "{name}: {rows} rows, but {} prompts",
            self.requests()
        )))
    }

    /// Number of requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.prompts.len()
    }

    /// Tokens that an id stands for.
    #[must_use]
    pub fn tokens_per_id(&self) -> u32 {
        self.tokens_per_id
    }

    /// Whether sequences go on with the outputs.
    #[must_use]
    pub fn has_outputs(&self) -> bool {
        self.outputs.is_some()
    }

    /// Whether a last id of fewer tokens is kept.
    #[must_use]
    pub fn partial_blocks(&self) -> bool {
        self.partial_blocks
    }

    /// Isolation codes, one per request.
    #[must_use]
    pub fn salts(&self) -> Option<&'a [u32]> {
        self.salt
    }

    /// Conversation codes, one per request.
    #[must_use]
    pub fn sessions(&self) -> Option<&'a [u32]> {
        self.session
    }

    /// The prompt of request `i`, in ids.
    #[must_use]
    pub fn prompt(&self, i: usize) -> &'a [T] {
        let list = self.prompts.list(i);
        match self.prompt_len {
            Some(tokens) if self.tokens_per_id > 1 && !self.partial_blocks => {
                let whole = (tokens[i] / self.tokens_per_id) as usize;
                &list[..list.len().min(whole)]
            }
            _ => list,
        }
    }

    /// What follows the prompt of request `i`: its output, without the last token unless that is kept.
    #[must_use]
    pub fn tail(&self, i: usize) -> &'a [T] {
        self.outputs.map_or(&[], |outputs| {
            let list = outputs.list(i);
            &list[..list.len().saturating_sub(self.left_out)]
        })
    }

    /// Length of the sequence of request `i`, in ids.
    #[must_use]
    pub fn len(&self, i: usize) -> usize {
        self.prompt(i).len() + self.tail(i).len()
    }

    /// Id number `at` of the sequence of request `i`.
    #[must_use]
    pub fn id(&self, i: usize, at: usize) -> T {
        let prompt = self.prompt(i);
        if at < prompt.len() {
            prompt[at]
        } else {
            self.tail(i)[at - prompt.len()]
        }
    }

    /// Length of what the sequences of requests `i` and `j` have in common from the start, given
    /// that their first `from` ids are equal.
    #[must_use]
    pub fn common(&self, i: usize, j: usize, from: usize) -> usize {
        let mut at = from;
        loop {
            let (a, b) = (self.rest(i, at), self.rest(j, at));
            let step = common_prefix(a, b);
            at += step;
            if step == 0 || step < a.len().min(b.len()) {
                return at;
            }
        }
    }

    /// The contiguous ids of request `i` that start at `at`.
    fn rest(&self, i: usize, at: usize) -> &'a [T] {
        let prompt = self.prompt(i);
        if at < prompt.len() {
            &prompt[at..]
        } else {
            let tail = self.tail(i);
            &tail[(at - prompt.len()).min(tail.len())..]
        }
    }
}
