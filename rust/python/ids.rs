//! Id columns of either width, and the calls that take them whole.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::arguments::Ids;
use super::interrupt::detached;
use crate::transform;
use crate::write;

/// Runs a generic call on whichever slice is there, with the GIL released.
macro_rules! on_ids {
    ($py:expr, $ids:expr, |$slice:ident| $call:expr) => {
        match &$ids {
            Ids::Tokens(values) => {
                let $slice = values.as_slice()?;
                detached($py, || $call)
            }
            Ids::Hashes(values) => {
                let $slice = values.as_slice()?;
                detached($py, || $call)
            }
        }
    };
}

/// Each list of a CSR column as JSON text.
#[pyfunction]
pub fn json_lists<'py>(
    py: Python<'py>,
    offsets: PyReadonlyArray1<'py, u64>,
    values: Ids<'py>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let offsets = offsets.as_slice()?;
    let lists = on_ids!(py, values, |ids| write::json_lists(offsets, ids))?;
    Ok(lists.iter().map(|list| PyBytes::new(py, list)).collect())
}

type Csr<'py> = (Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<u64>>);

/// Chained keyed hashes, one per `chunk` ids; see `prefixsim.transform.anonymize`.
#[pyfunction]
pub fn keyed_hashes<'py>(
    py: Python<'py>,
    offsets: PyReadonlyArray1<'py, u64>,
    values: Ids<'py>,
    chunk: usize,
    key: &[u8],
) -> PyResult<Csr<'py>> {
    let offsets = offsets.as_slice()?;
    let (ends, ids) = on_ids!(py, values, |ids| transform::keyed_hashes(
        offsets, ids, chunk, key
    ))?;
    Ok((ends.into_pyarray(py), ids.into_pyarray(py)))
}

/// The sharing tree of each request; see `prefixsim.transform.sample_trees`.
#[pyfunction]
#[pyo3(signature = (offsets, values, head, seed, salt=None))]
pub fn tree_numbers<'py>(
    py: Python<'py>,
    offsets: PyReadonlyArray1<'py, u64>,
    values: Ids<'py>,
    head: usize,
    seed: u64,
    salt: Option<PyReadonlyArray1<'py, u32>>,
) -> PyResult<Bound<'py, PyArray1<u32>>> {
    let offsets = offsets.as_slice()?;
    let salt = salt.as_ref().map(|salt| salt.as_slice()).transpose()?;
    let numbers = on_ids!(py, values, |ids| transform::tree_numbers(
        offsets, ids, head, seed, salt
    ))?;
    Ok(numbers.into_pyarray(py))
}
