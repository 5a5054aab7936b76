//! `_core.json_lists`.

use numpy::PyReadonlyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::write::json_lists as format_lists;

/// Either kind of id column: token ids or hash ids.
#[derive(FromPyObject)]
pub enum Ids<'py> {
    #[pyo3(transparent)]
    Tokens(PyReadonlyArray1<'py, u32>),
    #[pyo3(transparent)]
    Hashes(PyReadonlyArray1<'py, u64>),
}

/// Each list of a CSR column as JSON text.
#[pyfunction]
pub fn json_lists<'py>(
    py: Python<'py>,
    offsets: PyReadonlyArray1<'py, u64>,
    values: Ids<'py>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let offsets = offsets.as_slice()?;
    let text = match &values {
        Ids::Tokens(values) => {
            let values = values.as_slice()?;
            py.detach(|| format_lists(offsets, values))
        }
        Ids::Hashes(values) => {
            let values = values.as_slice()?;
            py.detach(|| format_lists(offsets, values))
        }
    };
    let lists = text.map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(lists.iter().map(|list| PyBytes::new(py, list)).collect())
}
