//! What the steps of a server cost.

use pyo3::prelude::*;

use crate::serving::{Latency, Linear};

/// Nanoseconds; coefficients in the order of `Linear`.
#[derive(FromPyObject)]
pub enum LatencySettings {
    Fixed(u64),
    Linear([f64; 6]),
    Roofline(f64, [f64; 6], [f64; 6]),
}

fn linear(c: [f64; 6]) -> Linear {
    Linear {
        base: c[0],
        prefill_tokens: c[1],
        prefill_pairs: c[2],
        prefill_context: c[3],
        decodes: c[4],
        decode_context: c[5],
    }
}

impl From<LatencySettings> for Latency {
    fn from(settings: LatencySettings) -> Self {
        match settings {
            LatencySettings::Fixed(ns) => Self::Fixed(ns),
            LatencySettings::Linear(c) => Self::Linear(linear(c)),
            LatencySettings::Roofline(overhead, compute, memory) => Self::Roofline {
                overhead,
                compute: linear(compute),
                memory: linear(memory),
            },
        }
    }
}
