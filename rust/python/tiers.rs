//! Compiled traces through a hierarchy of tiers.

use numpy::IntoPyArray;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::interrupt::interruptible;
use super::profile::Profile;
use crate::engine::tiers::{Sees, TierConfig, Write, replay};

/// One tier, as Python gives it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct TierArguments {
    capacity: Option<u64>,
    policy: String,
    exclusive: bool,
    write: String,
    min_uses: u32,
    sees: String,
    head_first: bool,
    latency: f64,
    seconds_per_block: f64,
}

impl TryFrom<TierArguments> for TierConfig {
    type Error = PyErr;

    fn try_from(given: TierArguments) -> PyResult<Self> {
        let unknown = |what: &str, name: &str| PyValueError::new_err(format!("{what} {name:?}"));
        Ok(Self {
            capacity: given.capacity,
            policy: given.policy.parse()?,
            exclusive: given.exclusive,
            write: match given.write.as_str() {
                "through" => Write::Through,
                "back" => Write::Back,
                other => return Err(unknown("write", other)),
            },
            min_uses: given.min_uses,
            sees: match given.sees.as_str() {
                "all" => Sees::All,
                "from-loads" => Sees::FromLoads,
                "misses" => Sees::Misses,
                other => return Err(unknown("sees", other)),
            },
            head_first: given.head_first,
            latency: given.latency,
            seconds_per_block: given.seconds_per_block,
        })
    }
}

/// Replay a forest at one block size through tiers, the fastest first.
///
/// Returns blocks per request: `hits`, `written` and `gone` are lists of columns, one for each tier;
/// `too_rare`, `stranded`, `slow` and `evictions` are columns.
#[pyfunction]
#[pyo3(signature = (profile, tiers, *, compute=None, last_token_rule=true))]
pub fn replay_tiers<'py>(
    py: Python<'py>,
    profile: &Profile,
    tiers: Vec<TierArguments>,
    compute: Option<f64>,
    last_token_rule: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let configs = tiers
        .into_iter()
        .map(TierConfig::try_from)
        .collect::<PyResult<Vec<_>>>()?;
    let core = profile.core();
    let outcome = interruptible(py, |stop| {
        replay(core, &configs, compute, last_token_rule, stop)
    })?;
    let dict = PyDict::new(py);
    for (name, columns) in [
        ("hits", outcome.hits),
        ("written", outcome.written),
        ("gone", outcome.gone),
    ] {
        let columns = columns.into_iter().map(|column| column.into_pyarray(py));
        dict.set_item(name, PyList::new(py, columns)?)?;
    }
    dict.set_item("too_rare", outcome.too_rare.into_pyarray(py))?;
    dict.set_item("stranded", outcome.stranded.into_pyarray(py))?;
    dict.set_item("slow", outcome.slow.into_pyarray(py))?;
    dict.set_item("evictions", outcome.evictions.into_pyarray(py))?;
    Ok(dict)
}
