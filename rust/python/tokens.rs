//! Token ids from Python: `NumPy` arrays without a copy, any other integer sequence with one.

use std::borrow::Cow;

use numpy::{PyArrayDescrMethods, PyReadonlyArray1, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

const EXPECTED: &str = "token ids are a one-dimensional sequence of integers from 0 to 2^32 - 1";

/// Token ids, borrowed from an array or converted.
pub enum Tokens<'py> {
    Borrowed(PyReadonlyArray1<'py, u32>),
    Owned(Vec<u32>),
}

impl Tokens<'_> {
    /// The ids. Copied only if the array has gaps.
    pub fn as_slice(&self) -> Cow<'_, [u32]> {
        match self {
            Self::Borrowed(array) => match array.as_slice() {
                Ok(slice) => Cow::Borrowed(slice),
                Err(_) => Cow::Owned(array.as_array().to_vec()),
            },
            Self::Owned(tokens) => Cow::Borrowed(tokens),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Tokens<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(array) = object.extract::<PyReadonlyArray1<'py, u32>>() {
            return Ok(Self::Borrowed(array));
        }
        if let Ok(array) = object.cast::<PyUntypedArray>() {
            return from_array(&array).map(Self::Owned);
        }
        let items = object.try_iter().map_err(|_| bad("not a sequence"))?;
        items
            .enumerate()
            .map(|(i, item)| {
                let item = item?;
                item.extract::<u32>().map_err(|_| bad_item(i, &item))
            })
            .collect::<PyResult<Vec<u32>>>()
            .map(Self::Owned)
    }
}

/// An integer array of another type, or one that is empty.
fn from_array(array: &Bound<'_, PyUntypedArray>) -> PyResult<Vec<u32>> {
    if array.ndim() != 1 {
        return Err(bad(&format!("got {} dimensions", array.ndim())));
    }
    if array.is_empty() {
        return Ok(Vec::new());
    }
    let kind = array.dtype().kind();
    if kind == b'u' && array.dtype().itemsize() == 8 {
        let wide: PyReadonlyArray1<'_, u64> = array.extract()?;
        return narrow(wide.as_array().iter().copied());
    }
    if kind != b'u' && kind != b'i' {
        return Err(bad(&format!("got an array of {}", array.dtype())));
    }
    let signed = array.call_method1("astype", ("int64",))?;
    let wide: PyReadonlyArray1<'_, i64> = signed.extract()?;
    narrow(wide.as_array().iter().copied())
}

fn narrow<T: Copy + TryInto<u32> + std::fmt::Display>(
    items: impl Iterator<Item = T>,
) -> PyResult<Vec<u32>> {
    let convert = |(i, item): (usize, T)| {
        item.try_into()
            .map_err(|_| bad(&format!("item {i} is {item}")))
    };
    items.enumerate().map(convert).collect()
}

fn bad_item(i: usize, item: &Bound<'_, PyAny>) -> PyErr {
    let shown = item
        .repr()
        .map_or_else(|_| "?".into(), |repr| repr.to_string());
    let shown: String = shown.chars().take(60).collect();
    bad(&format!("item {i} is {shown}"))
}

fn bad(got: &str) -> PyErr {
    PyValueError::new_err(format!("{EXPECTED}: {got}"))
}
