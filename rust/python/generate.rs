//! Generated columns.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::generate::{Content, expand};
use crate::python::interrupt::interruptible;

/// The ids of many ranges, one after the other: positions, or 63-bit hashes of them.
#[pyfunction]
pub fn expand_ids<'py>(
    py: Python<'py>,
    starts: PyReadonlyArray1<'_, u64>,
    lengths: PyReadonlyArray1<'_, u64>,
    hashed: bool,
) -> PyResult<Bound<'py, PyArray1<u64>>> {
    let (starts, lengths) = (starts.as_slice()?, lengths.as_slice()?);
    let content = if hashed {
        Content::Hash
    } else {
        Content::Position
    };
    let values = interruptible(py, |stop| expand(starts, lengths, content, stop))?;
    Ok(values.into_pyarray(py))
}

/// The tokens of many ranges, one after the other: each below `vocabulary`.
#[pyfunction]
pub fn expand_tokens<'py>(
    py: Python<'py>,
    starts: PyReadonlyArray1<'_, u64>,
    lengths: PyReadonlyArray1<'_, u64>,
    vocabulary: u32,
) -> PyResult<Bound<'py, PyArray1<u32>>> {
    let (starts, lengths) = (starts.as_slice()?, lengths.as_slice()?);
    let content = Content::Token(vocabulary);
    let values = interruptible(py, |stop| expand(starts, lengths, content, stop))?;
    Ok(values.into_pyarray(py))
}
