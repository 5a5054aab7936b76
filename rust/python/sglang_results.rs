//! What SGLang's scheduler did, for Python.

use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::engine::sglang::{EvictionLog, Simulation, StepLog, Totals};
use crate::serving::RequestLog;

/// The result of a simulation as `prefixsim._core._SglangRun` describes it.
pub fn to_dict(py: Python<'_>, simulation: Simulation) -> PyResult<Bound<'_, PyDict>> {
    let result = PyDict::new(py);
    result.set_item("requests", requests(py, simulation.requests)?)?;
    let readmissions: Vec<_> = simulation
        .readmissions
        .iter()
        .map(|row| (row.request, row.step, row.hit_tokens))
        .collect();
    result.set_item("readmissions", readmissions)?;
    result.set_item("aborted", simulation.aborted)?;
    result.set_item("steps", steps(py, simulation.steps)?)?;
    result.set_item("evictions", evictions(py, simulation.evictions)?)?;
    result.set_item("tree", simulation.tree)?;
    result.set_item("totals", totals(py, &simulation.totals)?)?;
    Ok(result)
}

fn requests(py: Python<'_>, log: RequestLog) -> PyResult<Bound<'_, PyDict>> {
    let columns = PyDict::new(py);
    columns.set_item("hit_tokens", log.hit_tokens.into_pyarray(py))?;
    columns.set_item("preemptions", log.preemptions.into_pyarray(py))?;
    for (name, column) in [
        ("computed_tokens", log.computed_tokens),
        ("scheduled_tokens", log.scheduled_tokens),
        ("admit_step", log.admit_step),
        ("first_token_step", log.first_token_step),
        ("finish_step", log.finish_step),
        ("arrival_ns", log.arrival_ns),
        ("admit_ns", log.admit_ns),
        ("first_token_ns", log.first_token_ns),
        ("finish_ns", log.finish_ns),
    ] {
        columns.set_item(name, column.into_pyarray(py))?;
    }
    Ok(columns)
}

fn steps(py: Python<'_>, log: StepLog) -> PyResult<Bound<'_, PyDict>> {
    let columns = PyDict::new(py);
    for (name, column) in [
        ("clock_ns", log.clock_ns),
        ("tokens", log.tokens),
        ("free", log.free),
        ("evictable", log.evictable),
    ] {
        columns.set_item(name, column.into_pyarray(py))?;
    }
    for (name, column) in [
        ("requests", log.requests),
        ("running", log.running),
        ("waiting", log.waiting),
    ] {
        columns.set_item(name, column.into_pyarray(py))?;
    }
    columns.set_item("kind", log.kind.into_pyarray(py))?;
    Ok(columns)
}

fn evictions(py: Python<'_>, log: EvictionLog) -> PyResult<Bound<'_, PyDict>> {
    let columns = PyDict::new(py);
    columns.set_item("at", log.at.into_pyarray(py))?;
    columns.set_item("requested", log.requested.into_pyarray(py))?;
    columns.set_item("ends", log.ends.into_pyarray(py))?;
    columns.set_item("lengths", log.lengths.into_pyarray(py))?;
    Ok(columns)
}

fn totals<'py>(py: Python<'py>, sums: &Totals) -> PyResult<Bound<'py, PyDict>> {
    let figures = PyDict::new(py);
    for (name, value) in [
        ("steps", sums.steps),
        ("final_clock_ns", sums.final_clock_ns),
        ("busy_ns", sums.busy_ns),
        ("preemptions", sums.preemptions),
        ("scheduled_tokens", sums.scheduled_tokens),
        ("evict_calls", sums.evicted.calls),
        ("evicted_nodes", sums.evicted.nodes),
        ("evicted_tokens", sums.evicted.tokens),
        ("free_end", sums.free_end),
        ("evictable_end", sums.evictable_end),
        ("peak_held", sums.peak_held),
    ] {
        figures.set_item(name, value)?;
    }
    figures.set_item("held_steps", sums.held_steps)?;
    figures.set_item("held_ns", sums.held_ns)?;
    Ok(figures)
}
