//! The classes `Curve` and `TtlCurve`.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

/// LRU hits and evictions at every capacity.
#[pyclass(frozen, module = "prefixsim._core")]
pub struct Curve(pub(super) crate::Curve);

#[pymethods]
impl Curve {
    #[getter]
    fn unique_blocks(&self) -> u64 {
        self.0.unique_blocks()
    }

    /// Hit blocks at capacities.
    #[pyo3(signature = (capacities, *, last_token_rule=true))]
    fn hit_blocks<'py>(
        &self,
        py: Python<'py>,
        capacities: PyReadonlyArray1<'py, u64>,
        last_token_rule: bool,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let hits = capacities.as_slice()?.iter();
        Ok(hits
            .map(|&c| self.0.hit_blocks(c, last_token_rule))
            .collect::<Vec<_>>()
            .into_pyarray(py))
    }

    /// Evictions at capacities.
    fn evictions<'py>(
        &self,
        py: Python<'py>,
        capacities: PyReadonlyArray1<'py, u64>,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let evictions = capacities.as_slice()?.iter().map(|&c| self.0.evictions(c));
        Ok(evictions.collect::<Vec<_>>().into_pyarray(py))
    }

    /// Hit blocks of an infinite cache.
    #[pyo3(signature = (*, last_token_rule=true))]
    fn ceiling(&self, last_token_rule: bool) -> u64 {
        self.0.ceiling(last_token_rule)
    }

    /// Smallest capacity with as many hit blocks.
    #[pyo3(signature = (hit_blocks, *, last_token_rule=true))]
    fn capacity_for(&self, hit_blocks: u64, last_token_rule: bool) -> Option<u64> {
        self.0.capacity_for(hit_blocks, last_token_rule)
    }

    /// Capacities between which hits are straight lines.
    fn corners<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        PyArray1::from_slice(py, self.0.corners())
    }
}

/// Hits and mean size of an unlimited cache at every time to live, renewed on use.
#[pyclass(frozen, module = "prefixsim._core")]
pub struct TtlCurve(pub(super) crate::TtlCurve);

#[pymethods]
impl TtlCurve {
    /// Hit blocks at times to live, in seconds.
    #[pyo3(signature = (seconds, *, last_token_rule=true))]
    fn hit_blocks<'py>(
        &self,
        py: Python<'py>,
        seconds: PyReadonlyArray1<'py, f64>,
        last_token_rule: bool,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let hits = seconds.as_slice()?.iter();
        Ok(hits
            .map(|&s| self.0.hit_blocks(s, last_token_rule))
            .collect::<Vec<_>>()
            .into_pyarray(py))
    }

    /// Shortest time to live, in seconds, with as many hit blocks.
    #[pyo3(signature = (hit_blocks, *, last_token_rule=true))]
    fn seconds_for(&self, hit_blocks: u64, last_token_rule: bool) -> Option<f64> {
        self.0.seconds_for(hit_blocks, last_token_rule)
    }

    /// Times to live at which the hits step up.
    #[pyo3(signature = (*, last_token_rule=true))]
    fn steps<'py>(&self, py: Python<'py>, last_token_rule: bool) -> Bound<'py, PyArray1<f64>> {
        self.0.steps(last_token_rule).into_pyarray(py)
    }

    /// What the cache holds from the first request to the last, in block-seconds.
    fn block_seconds(&self, seconds: f64) -> f64 {
        self.0.block_seconds(seconds)
    }

    /// Checks every invariant.
    fn validate(&self) -> PyResult<()> {
        Ok(self.0.validate()?)
    }
}
