//! `compile_forest` and the class `Forest`.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::arguments::{Ids, Indices};
use super::interrupt::{detached, interruptible};
use super::profile::Profile;

use crate::forest::{Forest as Core, Head};
use crate::trace::{Csr, Id, Trace};

/// Radix forest of the sequences of a trace.
#[pyclass(frozen, module = "prefixsim._core")]
pub struct Forest(Arc<Core>);

impl Forest {
    /// The forest of the core.
    pub(super) fn core(&self) -> &Core {
        &self.0
    }

    /// The same, shared.
    pub(super) fn shared(&self) -> Arc<Core> {
        Arc::clone(&self.0)
    }
}

/// Compiles the columns of a trace; ids are token ids (`uint32`) or chained hash ids (`uint64`).
#[pyfunction]
#[pyo3(signature = (offsets, ids, prompt_len, *, tokens_per_id=1, salt=None, session=None,
                    output_offsets=None, output_ids=None, partial_blocks=false))]
#[allow(clippy::too_many_arguments)]
pub fn compile_forest(
    py: Python<'_>,
    offsets: PyReadonlyArray1<'_, u64>,
    ids: Ids<'_>,
    prompt_len: Indices<'_>,
    tokens_per_id: u32,
    salt: Option<Indices<'_>>,
    session: Option<Indices<'_>>,
    output_offsets: Option<PyReadonlyArray1<'_, u64>>,
    output_ids: Option<Indices<'_>>,
    partial_blocks: bool,
) -> PyResult<Forest> {
    let columns = Columns {
        offsets: offsets.as_slice()?,
        tokens_per_id,
        prompt_len: prompt_len.as_slice()?,
        partial_blocks,
        salt: salt.as_ref().map(|s| s.as_slice()).transpose()?,
        session: session.as_ref().map(|s| s.as_slice()).transpose()?,
    };
    let forest = match &ids {
        Ids::Tokens(tokens) => {
            let trace = with_outputs(
                columns.trace(tokens.as_slice()?)?,
                output_offsets.as_ref(),
                output_ids.as_ref(),
            )?;
            interruptible(py, |stop| Core::compile(&trace, stop))?
        }
        Ids::Hashes(_) if output_ids.is_some() => return Err(outputs_need_tokens()),
        Ids::Hashes(hashes) => {
            let trace = columns.trace(hashes.as_slice()?)?;
            interruptible(py, |stop| Core::compile(&trace, stop))?
        }
    };
    Ok(Forest(Arc::new(forest)))
}

/// Reads what `Forest.to_bytes` made for the trace of these columns and this digest.
#[pyfunction]
#[pyo3(signature = (data, digest, offsets, ids, prompt_len, *, tokens_per_id=1, salt=None,
                    output_offsets=None, output_ids=None, partial_blocks=false))]
#[allow(clippy::too_many_arguments)]
pub fn load_forest(
    py: Python<'_>,
    data: &[u8],
    digest: &str,
    offsets: PyReadonlyArray1<'_, u64>,
    ids: Ids<'_>,
    prompt_len: Indices<'_>,
    tokens_per_id: u32,
    salt: Option<Indices<'_>>,
    output_offsets: Option<PyReadonlyArray1<'_, u64>>,
    output_ids: Option<Indices<'_>>,
    partial_blocks: bool,
) -> PyResult<Forest> {
    let columns = Columns {
        offsets: offsets.as_slice()?,
        tokens_per_id,
        prompt_len: prompt_len.as_slice()?,
        partial_blocks,
        salt: salt.as_ref().map(|s| s.as_slice()).transpose()?,
        session: None,
    };
    let digest = digest_bytes(digest)?;
    let forest = match &ids {
        Ids::Tokens(tokens) => {
            let trace = with_outputs(
                columns.trace(tokens.as_slice()?)?,
                output_offsets.as_ref(),
                output_ids.as_ref(),
            )?;
            interruptible(py, |_| Core::from_bytes(data, digest, &trace))?
        }
        Ids::Hashes(_) if output_ids.is_some() => return Err(outputs_need_tokens()),
        Ids::Hashes(hashes) => {
            let trace = columns.trace(hashes.as_slice()?)?;
            interruptible(py, |_| Core::from_bytes(data, digest, &trace))?
        }
    };
    Ok(Forest(Arc::new(forest)))
}

/// Whether a stored forest keeps partial blocks, and whether it goes on with outputs.
#[pyfunction]
pub fn forest_options(data: &[u8]) -> PyResult<(bool, bool)> {
    let head = Head::read(data)?;
    Ok((head.partial_blocks, head.outputs))
}

fn digest_bytes(digits: &str) -> PyResult<[u8; 16]> {
    u128::from_str_radix(digits, 16)
        .map(u128::to_be_bytes)
        .map_err(|_| PyValueError::new_err("digest: expected 32 hexadecimal digits"))
}

fn outputs_need_tokens() -> PyErr {
    PyValueError::new_err("output_ids: outputs need prompts of token ids (uint32)")
}

fn with_outputs<'a>(
    trace: Trace<'a, u32>,
    offsets: Option<&'a PyReadonlyArray1<'_, u64>>,
    ids: Option<&'a Indices<'_>>,
) -> PyResult<Trace<'a, u32>> {
    match (offsets, ids) {
        (Some(offsets), Some(ids)) => {
            Ok(trace.outputs(Csr::new(offsets.as_slice()?, ids.as_slice()?)?)?)
        }
        _ => Ok(trace),
    }
}

/// The columns of a trace that do not depend on the width of its ids.
pub struct Columns<'a> {
    pub offsets: &'a [u64],
    pub tokens_per_id: u32,
    pub prompt_len: &'a [u32],
    pub partial_blocks: bool,
    pub salt: Option<&'a [u32]>,
    pub session: Option<&'a [u32]>,
}

impl<'a> Columns<'a> {
    /// The trace of these prompts.
    pub fn trace<T: Id>(&self, ids: &'a [T]) -> crate::Result<Trace<'a, T>> {
        let prompts = Csr::new(self.offsets, ids)?;
        let mut trace = Trace::new(prompts).prompt_len(self.tokens_per_id, self.prompt_len)?;
        if self.partial_blocks {
            trace = trace.keep_partial_blocks();
        }
        if let Some(codes) = self.salt {
            trace = trace.salt(codes)?;
        }
        if let Some(codes) = self.session {
            trace = trace.session(codes)?;
        }
        Ok(trace)
    }
}

#[pymethods]
impl Forest {
    /// The forest as bytes, with the digest of its trace in hexadecimal digits.
    fn to_bytes<'py>(&self, py: Python<'py>, digest: &str) -> PyResult<Bound<'py, PyBytes>> {
        let digest = digest_bytes(digest)?;
        let bytes = detached(py, || Ok(self.0.to_bytes(digest)))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The columns of the forest.
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let parts = PyDict::new(py);
        parts.set_item("parent", PyArray1::from_slice(py, self.0.parent()))?;
        parts.set_item("end", PyArray1::from_slice(py, self.0.end()))?;
        let representative = PyArray1::from_slice(py, self.0.representative());
        parts.set_item("representative", representative)?;
        let prompt_node = PyArray1::from_slice(py, self.0.prompt_node());
        parts.set_item("prompt_node", prompt_node)?;
        if let Some(output_node) = self.0.output_node() {
            parts.set_item("output_node", PyArray1::from_slice(py, output_node))?;
        }
        Ok(parts)
    }

    #[getter]
    fn tokens_per_id(&self) -> u32 {
        self.0.tokens_per_id()
    }

    #[getter]
    fn partial_blocks(&self) -> bool {
        self.0.partial_blocks()
    }

    #[getter]
    fn outputs(&self) -> bool {
        self.0.output_node().is_some()
    }

    #[getter]
    fn requests(&self) -> usize {
        self.0.requests()
    }

    #[getter]
    fn nodes(&self) -> usize {
        self.0.nodes()
    }

    #[getter]
    fn heavy_paths(&self) -> usize {
        self.0.heavy_paths()
    }

    #[getter]
    fn depth(&self) -> u32 {
        self.0.depth()
    }

    #[getter]
    fn height(&self) -> u32 {
        self.0.height()
    }

    /// Distinct full blocks of a size.
    fn unique_blocks(&self, block_size: u32) -> PyResult<u64> {
        Ok(self.0.unique_blocks(block_size)?)
    }

    /// Ids of each prompt that an earlier request of its session had.
    fn session_depth<'py>(
        &self,
        py: Python<'py>,
        session: Indices<'py>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let session = session.as_slice()?;
        let depth = interruptible(py, |stop| self.0.session_depth(session, stop))?;
        Ok(depth.into_pyarray(py))
    }

    /// Lengths in ids, requests and first request of the prefixes that save most.
    #[allow(clippy::type_complexity)]
    fn shared_prefixes<'py>(
        &self,
        py: Python<'py>,
        count: usize,
    ) -> PyResult<(
        Bound<'py, PyArray1<u32>>,
        Bound<'py, PyArray1<u32>>,
        Bound<'py, PyArray1<u32>>,
    )> {
        let shared = detached(py, || Ok(self.0.shared_prefixes(count)))?;
        Ok((
            shared.ids.into_pyarray(py),
            shared.requests.into_pyarray(py),
            shared.first.into_pyarray(py),
        ))
    }

    /// Hash ids that follow more than one prefix, ascending.
    fn unchained_ids<'py>(
        &self,
        py: Python<'py>,
        offsets: PyReadonlyArray1<'py, u64>,
        ids: PyReadonlyArray1<'py, u64>,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let prompts = Csr::new(offsets.as_slice()?, ids.as_slice()?)?;
        let unchained = interruptible(py, |stop| self.0.unchained_ids(&prompts, stop))?;
        Ok(unchained.into_pyarray(py))
    }

    /// Stretches of prompts added up over segments, the largest sums first: start, end, tokens,
    /// requests, example.
    fn segment_losses<'py>(
        &self,
        py: Python<'py>,
        start: Indices<'py>,
        end: Indices<'py>,
        count: usize,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (start, end) = (start.as_slice()?, end.as_slice()?);
        let losses = detached(py, || self.0.segment_losses(start, end, count))?;
        let dict = PyDict::new(py);
        dict.set_item("start", losses.start.into_pyarray(py))?;
        dict.set_item("end", losses.end.into_pyarray(py))?;
        dict.set_item("tokens", losses.tokens.into_pyarray(py))?;
        dict.set_item("requests", losses.requests.into_pyarray(py))?;
        dict.set_item("example", losses.example.into_pyarray(py))?;
        Ok(dict)
    }

    /// The forest at a block size.
    #[pyo3(signature = (block_size, prompt_len, timestamp, category=None))]
    fn profile(
        &self,
        py: Python<'_>,
        block_size: u32,
        prompt_len: Indices<'_>,
        timestamp: Py<PyArray1<f64>>,
        category: Option<Py<PyArray1<u32>>>,
    ) -> PyResult<Profile> {
        let prompt_len = prompt_len.as_slice()?;
        let forest = Arc::clone(&self.0);
        let profile = interruptible(py, |stop| {
            crate::Profile::new(forest, block_size, prompt_len, stop)
        })?;
        Ok(Profile::new(profile, timestamp, category))
    }

    /// Checks every invariant.
    fn validate(&self) -> PyResult<()> {
        Ok(self.0.validate()?)
    }
}
