//! What requests go by.

use std::fmt;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};

/// Requests go by `int` or `str`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
    Int(i64),
    Str(String),
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(id) => id.fmt(f),
            Self::Str(id) => write!(f, "{id:?}"),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for RequestId {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let bad = || PyValueError::new_err("request_id: give a str, or an int within 64 bits");
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(Self::Str(text.to_str()?.to_owned()));
        }
        if object.is_instance_of::<PyInt>() {
            return object.extract().map(Self::Int).map_err(|_| bad());
        }
        Err(bad())
    }
}

impl<'py> IntoPyObject<'py> for RequestId {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        Ok(match self {
            Self::Int(id) => id.into_pyobject(py)?.into_any(),
            Self::Str(id) => id.into_pyobject(py)?.into_any(),
        })
    }
}
