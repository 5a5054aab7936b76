//! What a step costs.

use crate::error::{Error, Result};
use crate::index::to_f64;

/// What a step computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepWork {
    /// Prompt tokens computed (and tokens recomputed after a preemption).
    pub prefill_tokens: u64,
    /// For each of these, the tokens it attends to, itself included.
    pub prefill_pairs: u64,
    /// Tokens whose KV these chunks read, themselves included: once per chunk.
    pub prefill_context: u64,
    /// Requests that compute the token they sampled last.
    pub decodes: u64,
    /// Tokens whose KV they read, themselves included.
    pub decode_context: u64,
}

impl StepWork {
    /// Adds a chunk of `tokens` tokens after `computed` ones.
    pub fn add_prefill(&mut self, computed: u32, tokens: u32) {
        let (computed, tokens) = (u64::from(computed), u64::from(tokens));
        self.prefill_tokens += tokens;
        self.prefill_pairs += tokens * computed + tokens * (tokens + 1) / 2;
        self.prefill_context += computed + tokens;
    }

    /// Adds `count` decodes that have `computed` tokens together.
    pub fn add_decodes(&mut self, count: u64, computed: u64) {
        self.decodes += count;
        self.decode_context += computed + count;
    }
}

/// A cost that is linear in the work of a step, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Linear {
    /// Per step.
    pub base: f64,
    /// Per unit of [`StepWork::prefill_tokens`].
    pub prefill_tokens: f64,
    /// Per unit of [`StepWork::prefill_pairs`].
    pub prefill_pairs: f64,
    /// Per unit of [`StepWork::prefill_context`].
    pub prefill_context: f64,
    /// Per unit of [`StepWork::decodes`].
    pub decodes: f64,
    /// Per unit of [`StepWork::decode_context`].
    pub decode_context: f64,
}

impl Linear {
    fn of(&self, work: &StepWork) -> f64 {
        self.base
            + self.prefill_tokens * to_f64(work.prefill_tokens)
            + self.prefill_pairs * to_f64(work.prefill_pairs)
            + self.prefill_context * to_f64(work.prefill_context)
            + self.decodes * to_f64(work.decodes)
            + self.decode_context * to_f64(work.decode_context)
    }

    fn coefficients(&self) -> [f64; 6] {
        [
            self.base,
            self.prefill_tokens,
            self.prefill_pairs,
            self.prefill_context,
            self.decodes,
            self.decode_context,
        ]
    }
}

/// How long a step takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Latency {
    /// Always so many nanoseconds.
    Fixed(u64),
    /// A linear cost.
    Linear(Linear),
    /// `overhead` nanoseconds, and the larger of computing and moving data.
    Roofline {
        /// Per step, in nanoseconds.
        overhead: f64,
        /// Arithmetic.
        compute: Linear,
        /// Memory traffic.
        memory: Linear,
    },
}

impl Latency {
    /// # Errors
    /// [`Error::Range`] if a coefficient is negative or not finite.
    pub fn validate(&self) -> Result<()> {
        let mut coefficients = Vec::new();
        match self {
            Self::Fixed(_) => {}
            Self::Linear(linear) => coefficients.extend(linear.coefficients()),
            Self::Roofline {
                overhead,
                compute,
                memory,
            } => {
                coefficients.push(*overhead);
                coefficients.extend(compute.coefficients());
                coefficients.extend(memory.coefficients());
            }
        }
        match coefficients.iter().find(|c| !c.is_finite() || **c < 0.0) {
            Some(bad) => Err(Error::range(format!(
                "latency: a coefficient is {bad}, it must be finite and not negative"
            ))),
            None => Ok(()),
        }
    }

    /// Duration of a step in nanoseconds, rounded to the nearest.
    ///
    /// # Errors
    /// [`Error::Range`] if it is too large to be a time.
    pub fn of(&self, work: &StepWork) -> Result<u64> {
        let ns = match self {
            Self::Fixed(ns) => return Ok(*ns),
            Self::Linear(linear) => linear.of(work),
            Self::Roofline {
                overhead,
                compute,
                memory,
            } => overhead + compute.of(work).max(memory.of(work)),
        };
        // A step of more than 30 years is a mistake in the coefficients.
        if !ns.is_finite() || ns > 1e18 {
            return Err(Error::range(format!(
                "latency: a step of {} prefill tokens and {} decodes takes {ns} ns, check the model",
                work.prefill_tokens, work.decodes
            )));
        }
        // Not negative, and below 10^18.
        #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]
        Ok(ns.round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_adds_up() {
        let mut chunks = StepWork::default();
        chunks.add_prefill(0, 3);
        chunks.add_prefill(3, 4);
        let mut whole = StepWork::default();
        whole.add_prefill(0, 7);
        assert_eq!(chunks.prefill_tokens, whole.prefill_tokens);
        assert_eq!(chunks.prefill_pairs, whole.prefill_pairs);
        assert_eq!(whole.prefill_pairs, 28); // 1 + 2 + ... + 7
        whole.add_decodes(2, 10);
        assert_eq!((whole.decodes, whole.decode_context), (2, 12));
    }

    #[test]
    fn a_roofline_is_the_larger_of_its_sides() {
        let compute = Linear {
            prefill_tokens: 10.0,
            ..Linear::default()
        };
        let memory = Linear {
            base: 50.0,
            ..Linear::default()
        };
        let latency = Latency::Roofline {
            overhead: 1.0,
            compute,
            memory,
        };
        let mut work = StepWork::default();
        work.add_prefill(0, 2);
        assert_eq!(latency.of(&work), Ok(51));
        work.add_prefill(0, 20);
        assert_eq!(latency.of(&work), Ok(221));
    }

    #[test]
    fn nonsense_is_an_error() {
        let bad = |base| {
            Latency::Linear(Linear {
                base,
                ..Linear::default()
            })
        };
        assert!(bad(f64::NAN).validate().is_err());
        assert!(bad(-1.0).validate().is_err());
        assert!(bad(1e300).validate().is_ok());
        assert!(bad(1e300).of(&StepWork::default()).is_err());
    }
}
