//! Content digests.

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use xxhash_rust::xxh3::Xxh3;

use super::interrupt::detached;

/// XXH3-128 over byte columns, each preceded by its length, as 32 hex digits.
#[pyfunction]
pub fn digest_columns(py: Python<'_>, columns: Vec<PyReadonlyArray1<'_, u8>>) -> PyResult<String> {
    let slices = columns
        .iter()
        .map(|column| column.as_slice())
        .collect::<Result<Vec<_>, _>>()?;
    detached(py, || {
        let mut hasher = Xxh3::new();
        for slice in slices {
            hasher.update(&(slice.len() as u64).to_le_bytes());
            hasher.update(slice);
        }
        Ok(format!("{:032x}", hasher.digest128()))
    })
}
