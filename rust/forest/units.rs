//! What a forest is built over: one sequence of units per request, borrowed from the trace.

use crate::error::{Error, Result};

/// Elements compared by one call of the C library's vectorised comparison.
const LARGE: usize = 256;
/// Elements compared at once to find the place inside a large piece that differs.
const SMALL: usize = 8;

/// A unit of a sequence: a token id, or a hash id that stands for several tokens.
pub trait Unit: Copy + Eq + Send + Sync + 'static {
    /// Whether [`Unit::fold`] tells any two units apart.
    const FOLD_IS_EXACT: bool;

    /// 32 bits of the unit, to look up children by.
    fn fold(self) -> u32;
}

impl Unit for u32 {
    const FOLD_IS_EXACT: bool = true;

    fn fold(self) -> u32 {
        self
    }
}

impl Unit for u64 {
    const FOLD_IS_EXACT: bool = false;

    fn fold(self) -> u32 {
        (self ^ (self >> 32)) as u32
    }
}

/// One list of units per request, in CSR layout: list `i` is `values[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a, T> {
    offsets: &'a [u64],
    values: &'a [T],
}

impl<'a, T> Column<'a, T> {
    /// Borrows a column.
    ///
    /// # Errors
    /// [`Error::Shape`] if `offsets` is empty, descends, or points behind `values`, or if a list
    /// has 2^32 or more units.
    pub fn new(offsets: &'a [u64], values: &'a [T]) -> Result<Self> {
        let Some(&last) = offsets.last() else {
            return Err(Error::shape(
                "offsets: empty, one more than requests needed",
            ));
        };
        if last > values.len() as u64 {
            return Err(Error::shape(format!(
                "offsets: the last is {last}, but there are {} values",
                values.len()
            )));
        }
        for (i, pair) in offsets.windows(2).enumerate() {
            if pair[1] < pair[0] || pair[1] - pair[0] >= u64::from(u32::MAX) {
                return Err(Error::shape(format!(
                    "offsets: list {i} runs from {} to {}, which is no length below 2^32",
                    pair[0], pair[1]
                )));
            }
        }
        Ok(Self { offsets, values })
    }

    /// Number of lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// List `i`.
    #[must_use]
    pub fn list(&self, i: usize) -> &'a [T] {
        &self.values[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
}

/// The sequences of a trace: prompts, and optionally what was generated after them.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a, T> {
    prompts: Column<'a, T>,
    outputs: Option<Column<'a, T>>,
    prompt_len: &'a [u32],
    unit: u32,
    partial_blocks: bool,
}

impl<'a, T: Unit> Sequences<'a, T> {
    /// Borrows the columns of a trace.
    ///
    /// `unit` is the number of tokens of a unit. A last unit that stands for fewer tokens (as the
    /// prompt length in tokens tells) is left out, unless `partial_blocks` asks to keep it.
    /// Of an output the last token is left out: it is never fed to the model, nothing is cached
    /// for it.
    ///
    /// # Errors
    /// [`Error::Shape`] if columns have different lengths or a prompt length is not the number of
    /// token ids; [`Error::Range`] if `unit` is 0, or outputs come with units of more than one
    /// token.
    pub fn new(
        prompts: Column<'a, T>,
        outputs: Option<Column<'a, T>>,
        prompt_len: &'a [u32],
        unit: u32,
        partial_blocks: bool,
    ) -> Result<Self> {
        if unit == 0 {
            return Err(Error::range("a unit of 0 tokens, give 1 or more"));
        }
        if outputs.is_some() && unit != 1 {
            return Err(Error::range(
                "outputs need token ids: hash ids of several tokens cannot be continued",
            ));
        }
        for (name, rows) in [
            ("prompt_len", prompt_len.len()),
            ("outputs", outputs.map_or(prompts.len(), |o| o.len())),
        ] {
            if rows != prompts.len() {
                return Err(Error::shape(format!(
                    "{name}: {rows} rows, but {} prompts",
                    prompts.len()
                )));
            }
        }
        if unit == 1
            && let Some(i) =
                (0..prompts.len()).find(|&i| prompts.list(i).len() != prompt_len[i] as usize)
        {
            return Err(Error::shape(format!(
                "request {i}: {} token ids, but a prompt length of {}",
                prompts.list(i).len(),
                prompt_len[i]
            )));
        }
        Ok(Self {
            prompts,
            outputs,
            prompt_len,
            unit,
            partial_blocks,
        })
    }

    /// Number of requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.prompts.len()
    }

    /// Tokens of a unit.
    #[must_use]
    pub fn unit(&self) -> u32 {
        self.unit
    }

    /// Whether sequences go on with the outputs.
    #[must_use]
    pub fn has_outputs(&self) -> bool {
        self.outputs.is_some()
    }

    /// Whether a last unit of fewer tokens is kept.
    #[must_use]
    pub fn partial_blocks(&self) -> bool {
        self.partial_blocks
    }

    /// The prompt of request `i`, in units.
    #[must_use]
    pub fn prompt(&self, i: usize) -> &'a [T] {
        let list = self.prompts.list(i);
        if self.partial_blocks || self.unit == 1 {
            return list;
        }
        let whole = (self.prompt_len[i] / self.unit) as usize;
        &list[..list.len().min(whole)]
    }

    /// What follows the prompt of request `i`, in units: its output without the last token.
    #[must_use]
    pub fn tail(&self, i: usize) -> &'a [T] {
        self.outputs.map_or(&[], |outputs| {
            let list = outputs.list(i);
            &list[..list.len().saturating_sub(1)]
        })
    }

    /// Length of the sequence of request `i`, in units.
    #[must_use]
    pub fn len(&self, i: usize) -> usize {
        self.prompt(i).len() + self.tail(i).len()
    }

    /// Unit `at` of the sequence of request `i`.
    #[must_use]
    pub fn get(&self, i: usize, at: usize) -> T {
        let prompt = self.prompt(i);
        if at < prompt.len() {
            prompt[at]
        } else {
            self.tail(i)[at - prompt.len()]
        }
    }

    /// Length of what the sequences of requests `i` and `j` have in common from the start, given
    /// that their first `from` units are equal.
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

    /// The contiguous units of request `i` that start at `at`.
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

/// Number of leading elements that two slices have in common.
///
/// Large pieces are compared as slices, which is the C library's vectorised `memcmp`.
///
/// ```
/// use prefixsim::forest::common_prefix;
/// assert_eq!(common_prefix(&[1, 2, 3], &[1, 2, 4, 5]), 2);
/// ```
#[must_use]
pub fn common_prefix<T: Copy + Eq>(a: &[T], b: &[T]) -> usize {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let mut at = 0;
    for size in [LARGE, SMALL] {
        while at + size <= length && a[at..at + size] == b[at..at + size] {
            at += size;
        }
    }
    while at < length && a[at] == b[at] {
        at += 1;
    }
    at
}
