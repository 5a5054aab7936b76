//! The class `Profile`, `sweep` and `weighted_summary`.

use numpy::{IntoPyArray, PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::any_policy::{AnyPolicy, PolicyArgument};
use super::arguments::{Indices, cache, set_residency};
use super::curve::{Curve, TtlCurve};
use super::interrupt::{detached, interruptible};
use crate::policy::{Facts, Policy};
use crate::replay::{Evicted, Job, Outcome};

/// A forest at one block size.
#[pyclass(frozen, module = "prefixsim._core")]
pub struct Profile {
    core: crate::Profile,
    timestamp: Py<PyArray1<f64>>,
    category: Option<Py<PyArray1<u32>>>,
}

/// Distinct values, and how often each occurs.
type Counts<'py> = (Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<u64>>);
/// Request, request before, blocks.
type Gaps<'py> = (
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<u64>>,
);

/// Columns of a trace that policies look at.
struct Known<'py> {
    timestamp: PyReadonlyArray1<'py, f64>,
    category: Option<PyReadonlyArray1<'py, u32>>,
}

impl Known<'_> {
    fn facts(&self) -> PyResult<Facts<'_>> {
        let category = self.category.as_ref();
        Ok(Facts {
            timestamp: self.timestamp.as_slice()?,
            category: category.map(|category| category.as_slice()).transpose()?,
        })
    }
}

fn outcome(py: Python<'_>, outcome: Outcome) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("hit_blocks", outcome.hit_blocks.into_pyarray(py))?;
    dict.set_item("evictions", outcome.evictions)?;
    set_residency(&dict, outcome.residency)?;
    Ok(dict)
}

impl Profile {
    pub fn new(
        core: crate::Profile,
        timestamp: Py<PyArray1<f64>>,
        category: Option<Py<PyArray1<u32>>>,
    ) -> Self {
        Self {
            core,
            timestamp,
            category,
        }
    }

    /// What is known of the requests, borrowed for as long as a call takes.
    fn known<'py>(&self, py: Python<'py>) -> Known<'py> {
        let category = self.category.as_ref();
        Known {
            timestamp: self.timestamp.bind(py).readonly(),
            category: category.map(|category| category.bind(py).readonly()),
        }
    }

    pub fn core(&self) -> &crate::Profile {
        &self.core
    }
}

#[pymethods]
impl Profile {
    #[getter]
    fn block_size(&self) -> u32 {
        self.core.block_size()
    }

    #[getter]
    fn requests(&self) -> usize {
        self.core.requests()
    }

    #[getter]
    fn reuse_intervals(&self) -> usize {
        self.core.reuse_intervals()
    }

    #[getter]
    fn full_blocks<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_slice(py, self.core.full_blocks())
    }

    #[getter]
    fn unique_blocks(&self) -> u64 {
        self.core.unique_blocks()
    }

    #[getter]
    fn reusable_blocks<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        self.core.reusable_blocks().into_pyarray(py)
    }

    /// Replay under a policy of :func:`policies`, or an object of :class:`prefixsim.Policy`.
    #[pyo3(signature = (policy=PolicyArgument::lru(), capacity=None, *, last_token_rule=true, residency=false))]
    fn replay<'py>(
        &self,
        py: Python<'py>,
        policy: PolicyArgument,
        capacity: Option<u64>,
        last_token_rule: bool,
        residency: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let policy = policy.source(py)?;
        let cache = cache(capacity, last_token_rule);
        let known = self.known(py);
        let facts = known.facts()?;
        let result = interruptible(py, |stop| {
            policy.while_asked(|| {
                if residency {
                    self.core.replay_timed(&policy, cache, facts, stop)
                } else {
                    self.core.replay(&policy, cache, facts, stop)
                }
            })
        });
        outcome(py, policy.settled(result)?)
    }

    /// LRU at every capacity.
    fn curve(&self, py: Python<'_>) -> PyResult<Curve> {
        Ok(Curve(interruptible(py, |stop| self.core.curve(stop))?))
    }

    /// An unlimited cache at every time to live, renewed on use.
    fn ttl_curve(&self, py: Python<'_>) -> PyResult<TtlCurve> {
        let known = self.known(py);
        let timestamp = known.timestamp.as_slice()?;
        let curve = interruptible(py, |stop| self.core.ttl_curve(timestamp, stop))?;
        Ok(TtlCurve(curve))
    }

    /// For any engine's hits, who had the blocks before.
    fn gaps<'py>(&self, py: Python<'py>, hit_blocks: Indices<'py>) -> PyResult<Gaps<'py>> {
        let hit_blocks = hit_blocks.as_slice()?;
        let gaps = detached(py, || self.core.gaps(hit_blocks))?;
        Ok((
            gaps.request.into_pyarray(py),
            gaps.previous.into_pyarray(py),
            gaps.blocks.into_pyarray(py),
        ))
    }

    /// Requests whose prompt contains a block: distinct counts, and how many blocks have each.
    fn block_hit_counts<'py>(&self, py: Python<'py>) -> PyResult<Counts<'py>> {
        let counts = detached(py, || self.core.block_counts(self.core.full_blocks()))?;
        Ok((counts.0.into_pyarray(py), counts.1.into_pyarray(py)))
    }

    /// For any engine's hits, how often blocks were hit: distinct counts, and how many blocks.
    fn hit_counts<'py>(&self, py: Python<'py>, hit_blocks: Indices<'py>) -> PyResult<Counts<'py>> {
        let hit_blocks = hit_blocks.as_slice()?;
        let counts = detached(py, || self.core.block_counts(hit_blocks))?;
        Ok((counts.0.into_pyarray(py), counts.1.into_pyarray(py)))
    }

    /// Distinct blocks touched in windows of requests.
    fn working_set<'py>(
        &self,
        py: Python<'py>,
        bounds: Indices<'py>,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let bounds = bounds.as_slice()?;
        let blocks = detached(py, || self.core.working_set(bounds))?;
        Ok(blocks.into_pyarray(py))
    }

    /// When blocks last used by some requests left an LRU cache: `owner`, `start` and `end` on its
    /// path in blocks, and the request `at` which they went.
    fn lru_evictions<'py>(
        &self,
        py: Python<'py>,
        capacity: u64,
        owners: Indices<'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let owners = owners.as_slice()?;
        let all = interruptible(py, |stop| self.core.lru_evictions(capacity, owners, stop))?;
        let column = |field: fn(&Evicted) -> u32| -> Bound<'py, PyArray1<u32>> {
            all.iter().map(field).collect::<Vec<_>>().into_pyarray(py)
        };
        let dict = PyDict::new(py);
        dict.set_item("owner", column(|e| e.owner.get()))?;
        dict.set_item("start", column(|e| e.blocks.start))?;
        dict.set_item("end", column(|e| e.blocks.end))?;
        dict.set_item("at", column(|e| e.at.get()))?;
        Ok(dict)
    }

    /// Checks every invariant.
    fn validate(&self) -> PyResult<()> {
        Ok(self.core.validate()?)
    }
}

/// Replays configurations on all cores: (index of the profile, policy, capacity) each.
///
/// Returns (hit blocks, hit tokens, requests with a hit, evictions) of each.
#[pyfunction]
#[pyo3(signature = (profiles, jobs, prompt_len, *, last_token_rule=true))]
pub fn sweep(
    py: Python<'_>,
    profiles: Vec<Py<Profile>>,
    jobs: Vec<(usize, PolicyArgument, Option<u64>)>,
    prompt_len: Indices<'_>,
    last_token_rule: bool,
) -> PyResult<Vec<(u64, u64, u64, u64)>> {
    let prompt_len = prompt_len.as_slice()?;
    let jobs = jobs
        .into_iter()
        .map(|(profile, policy, capacity)| {
            let profile = profiles.get(profile).ok_or_else(|| {
                PyValueError::new_err(format!("profile {profile}: only {} given", profiles.len()))
            })?;
            Ok(Job {
                profile: &profile.get().core,
                policy: policy.source(py)?,
                cache: cache(capacity, last_token_rule),
            })
        })
        .collect::<PyResult<Vec<_>>>()?;
    let known = profiles.first().map(|profile| profile.get().known(py));
    let facts = known.as_ref().map(Known::facts).transpose()?;
    let facts = facts.unwrap_or_default();
    // Those in Python run one after the other: they would only wait for each other's GIL.
    let (own, ours): (Vec<_>, Vec<_>) = jobs.iter().partition(|job| job.policy.is_own());
    let at_once: Vec<_> = ours.iter().map(|job| job.by_reference()).collect();
    let found = interruptible(py, |stop| {
        let ours = crate::replay::sweep(&at_once, facts, prompt_len, stop)?;
        let run = |job: &&Job<'_, AnyPolicy>| {
            let work = || job.run(facts, prompt_len, stop);
            job.policy.while_asked(work)
        };
        let own = own.iter().map(run).collect::<Result<Vec<_>, _>>()?;
        Ok((own.into_iter(), ours.into_iter()))
    });
    let settle = |found, job: &Job<'_, AnyPolicy>| job.policy.settled(found);
    let (mut own, mut ours) = jobs.iter().fold(found, settle)?;
    Ok(jobs
        .iter()
        .filter_map(|job| {
            let of_its_kind = if job.policy.is_own() {
                own.next()
            } else {
                ours.next()
            };
            of_its_kind.map(|t| (t.hit_blocks, t.hit_tokens, t.requests_with_hit, t.evictions))
        })
        .collect())
}

/// Names of the policies, as `Profile.replay` and `sweep` take them.
#[pyfunction]
pub fn policies() -> Vec<&'static str> {
    Policy::ALL.iter().map(|policy| policy.name()).collect()
}

/// The parameters of a policy: name, default and help of each.
#[pyfunction]
pub fn policy_parameters(policy: &str) -> PyResult<Vec<(&'static str, String, &'static str)>> {
    let policy: Policy = policy.parse()?;
    let parameters = policy.parameters().into_iter();
    Ok(parameters
        .map(|parameter| (parameter.name, parameter.default, parameter.help))
        .collect())
}

/// A policy as text that says no more than it must: defaults are left out.
#[pyfunction]
pub fn policy_name(policy: &str) -> PyResult<String> {
    let policy: Policy = policy.parse()?;
    Ok(policy.to_string())
}

/// Whether a policy tells which blocks it drops, so that their age can be measured.
#[pyfunction]
pub fn policy_has_ages(policy: &str) -> PyResult<bool> {
    let policy: Policy = policy.parse()?;
    Ok(policy.reports_evictions())
}

/// Summary of values, each counted as often as its weight says; all `None` if there is nothing.
#[pyfunction]
pub fn weighted_summary<'py>(
    py: Python<'py>,
    values: PyReadonlyArray1<'py, f64>,
    weights: PyReadonlyArray1<'py, u64>,
) -> PyResult<Bound<'py, PyDict>> {
    let (values, weights) = (values.as_slice()?, weights.as_slice()?);
    if values.len() != weights.len() {
        return Err(PyValueError::new_err(format!(
            "{} values but {} weights",
            values.len(),
            weights.len()
        )));
    }
    let summary = detached(py, || {
        let pairs: Vec<(f64, u64)> = values
            .iter()
            .copied()
            .zip(weights.iter().copied())
            .collect();
        Ok(crate::stats::weighted_summary(&pairs))
    })?;
    let dict = PyDict::new(py);
    dict.set_item("mean", summary.map(|s| s.mean))?;
    dict.set_item("median", summary.map(|s| s.median))?;
    dict.set_item("min", summary.map(|s| s.min))?;
    dict.set_item("max", summary.map(|s| s.max))?;
    dict.set_item("p90", summary.map(|s| s.p90))?;
    dict.set_item("p99", summary.map(|s| s.p99))?;
    Ok(dict)
}
