//! When requests arrive: a mode by name, or the turns of clients who wait for answers.

use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arguments::positive;
use crate::serving::{Arrivals, Turns};

/// Whom each request follows, think time and earliest time.
type Columns = (Py<PyArray1<u32>>, Py<PyArray1<u64>>, Py<PyArray1<u64>>);

/// A mode, or the columns of [`Turns`]: whom each request follows, think time and earliest time.
#[derive(FromPyObject)]
pub enum ArrivalSetting {
    Mode(String),
    Turns(Columns),
}

impl ArrivalSetting {
    /// Its arrivals; `in_flight` is the number of clients of a closed loop, 0 for open turns.
    /// `None` if the mode is none of a scheduler's.
    pub fn read(&self, py: Python<'_>, in_flight: i64) -> PyResult<Option<Arrivals>> {
        Ok(Some(match self {
            Self::Mode(mode) => match mode.as_str() {
                "trace" => Arrivals::Trace,
                "start" => Arrivals::Start,
                "closed" => Arrivals::Closed(positive("in_flight", in_flight)?),
                _ => return Ok(None),
            },
            Self::Turns((after, think_ns, not_before_ns)) => Arrivals::Clients(Turns {
                after: after.bind(py).to_vec()?,
                think_ns: think_ns.bind(py).to_vec()?,
                not_before_ns: not_before_ns.bind(py).to_vec()?,
                clients: match in_flight {
                    0 => None,
                    number => Some(positive("in_flight", number)?),
                },
            }),
        }))
    }

    /// The name of the mode.
    pub fn name(&self) -> &str {
        match self {
            Self::Mode(mode) => mode,
            Self::Turns(_) => "clients",
        }
    }

    /// The error of a mode that is none of `choices`.
    pub fn unknown(&self, choices: &str) -> PyErr {
        PyValueError::new_err(format!("arrivals {:?}: choose {choices}", self.name()))
    }
}
