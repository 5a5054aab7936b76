//! `_core.JsonlReader`.

use numpy::IntoPyArray;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::interrupt::detached;
use crate::read::{self, BadRow, Column, Field, Kind};

/// JSON Lines into columns; see `prefixsim.formats`.
#[pyclass(module = "prefixsim._core")]
pub struct JsonlReader {
    fields: Vec<Field>,
    inner: Option<read::JsonlReader>,
}

fn kind(name: &str) -> PyResult<Kind> {
    Ok(match name {
        "f64" => Kind::F64,
        "u32" => Kind::U32,
        "u32_list" => Kind::U32List,
        "u64_list" => Kind::U64List,
        "text" => Kind::Text,
        "label" => Kind::Label,
        other => {
            return Err(PyValueError::new_err(format!(
                "unknown field kind {other:?}"
            )));
        }
    })
}

#[pymethods]
impl JsonlReader {
    #[new]
    #[pyo3(signature = (fields, *, skip_bad_rows = false))]
    fn new(fields: Vec<(String, String, bool)>, skip_bad_rows: bool) -> PyResult<Self> {
        let fields = fields
            .into_iter()
            .map(|(name, kind_name, required)| {
                Ok(Field {
                    name,
                    kind: kind(&kind_name)?,
                    required,
                })
            })
            .collect::<PyResult<Vec<_>>>()?;
        let inner = Some(read::JsonlReader::new(fields.clone(), skip_bad_rows));
        Ok(Self { fields, inner })
    }

    /// Rows read so far.
    #[getter]
    fn rows(&self) -> usize {
        self.inner.as_ref().map_or(0, read::JsonlReader::rows)
    }

    /// Parses a block of the file, which may end anywhere.
    fn feed(&mut self, py: Python<'_>, block: &[u8]) -> PyResult<()> {
        let inner = self.inner.as_mut().ok_or_else(finished)?;
        detached(py, || inner.feed(block))
    }

    /// Parses the last line, which need not end in a newline.
    fn end(&mut self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner.as_mut().ok_or_else(finished)?;
        detached(py, || inner.end())
    }

    /// A dict of `columns` by field name, `lines` (1-based, of each row), `seen` (rows that had each
    /// field) and `bad` (line, field, problem, raw line of each row skipped).
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let inner = self.inner.take().ok_or_else(finished)?;
        let rows = inner.finish();
        let columns = PyDict::new(py);
        let seen = PyDict::new(py);
        for ((field, column), count) in self.fields.iter().zip(rows.columns).zip(rows.seen) {
            set_column(&columns, &field.name, column)?;
            seen.set_item(&field.name, count)?;
        }
        let bad: Vec<_> = rows
            .bad
            .into_iter()
            .map(
                |BadRow {
                     line,
                     field,
                     problem,
                     raw,
                 }| (line, field, problem, PyBytes::new(py, &raw)),
            )
            .collect();
        let answer = PyDict::new(py);
        answer.set_item("columns", columns)?;
        answer.set_item("lines", rows.line_of_row.into_pyarray(py))?;
        answer.set_item("seen", seen)?;
        answer.set_item("bad", bad)?;
        Ok(answer)
    }
}

fn finished() -> PyErr {
    PyRuntimeError::new_err("this reader has finished; make a new one")
}

fn offsets(ends: Vec<u64>) -> Vec<u64> {
    let mut offsets = ends;
    offsets.insert(0, 0);
    offsets
}

fn set_column(by_name: &Bound<'_, PyDict>, name: &str, column: Column) -> PyResult<()> {
    let py = by_name.py();
    match column {
        Column::F64(values) => by_name.set_item(name, values.into_pyarray(py)),
        Column::U32(values) => by_name.set_item(name, values.into_pyarray(py)),
        Column::U32List(lists) => by_name.set_item(
            name,
            (
                offsets(lists.ends).into_pyarray(py),
                lists.values.into_pyarray(py),
            ),
        ),
        Column::U64List(lists) => by_name.set_item(
            name,
            (
                offsets(lists.ends).into_pyarray(py),
                lists.values.into_pyarray(py),
            ),
        ),
        Column::Text(strings) => by_name.set_item(
            name,
            (
                offsets(strings.ends).into_pyarray(py),
                strings.bytes.into_pyarray(py),
            ),
        ),
        Column::Label(labels) => {
            let names: Vec<&str> = labels.names.iter().map(AsRef::as_ref).collect();
            by_name.set_item(name, (labels.codes.into_pyarray(py), names))
        }
    }
}
