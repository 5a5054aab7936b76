//! What an admission to a `BlockManager` gives.

use numpy::PyArray1;
use pyo3::prelude::*;

/// What a successful :meth:`BlockManager.allocate` gives.
///
/// Attributes
/// ----------
/// hit_tokens : int
///     Prompt tokens found in the cache.
/// slots : ndarray of uint32
///     Slots newly taken, in order; :meth:`BlockManager.table` has all.
///
/// Examples
/// --------
/// >>> cache = BlockManager(8, block_size=4)
/// >>> allocation = cache.allocate("a", range(6))
/// >>> allocation.hit_tokens, len(allocation.slots)
/// (0, 2)
#[pyclass(frozen, get_all, module = "prefixsim._core")]
pub struct Allocation {
    pub hit_tokens: u32,
    pub slots: Py<PyArray1<u32>>,
}

#[pymethods]
impl Allocation {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let slots = self.slots.bind(py).len()?;
        Ok(format!(
            "Allocation(hit_tokens={}, slots=<{slots}>)",
            self.hit_tokens
        ))
    }
}
