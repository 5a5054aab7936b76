//! Policies as arguments: names, and objects of `prefixsim.Policy`.

use std::sync::{Mutex, PoisonError};

use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet};

use crate::error::{Error, Result};
use crate::index::RequestIx;
use crate::policy::block_wise::{BlockWise, Hooks};
use crate::policy::keyed::{Asked, Keyed, Keys, Segment};
use crate::policy::{Policy, PolicySource, Setting, WithPolicy};

/// A policy as Python gives it.
#[derive(FromPyObject)]
pub enum PolicyArgument {
    /// `name:key=value`.
    #[pyo3(transparent)]
    Name(String),
    /// A `prefixsim.Policy`.
    #[pyo3(transparent)]
    Own(Py<PyAny>),
}

impl PolicyArgument {
    /// Least recently used.
    pub fn lru() -> Self {
        Self::Name(Policy::LRU.to_string())
    }

    /// What makes the policy.
    pub fn source(self, py: Python<'_>) -> PyResult<AnyPolicy> {
        Ok(match self {
            Self::Name(name) => AnyPolicy::Named(name.parse()?),
            Self::Own(object) => {
                let name = object.bind(py).str()?.to_string();
                AnyPolicy::Own(OwnPolicy {
                    object,
                    name,
                    failure: Mutex::new(None),
                })
            }
        })
    }
}

/// What makes policies: ours, or a user's.
pub enum AnyPolicy {
    /// One of ours.
    Named(Policy),
    /// A user's.
    Own(OwnPolicy),
}

/// A user's policy, and the exception that ended a replay of it.
pub struct OwnPolicy {
    object: Py<PyAny>,
    name: String,
    failure: Mutex<Option<PyErr>>,
}

impl OwnPolicy {
    /// Keeps an exception for the caller, and ends the replay.
    fn keep<T>(&self, outcome: PyResult<T>) -> Result<T> {
        outcome.map_err(|error| {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error);
            Error::Interrupted
        })
    }

    /// A copy that has seen nothing yet, as the adapter that hears of a replay.
    fn begin(&self, py: Python<'_>, setting: &Setting<'_>) -> PyResult<Py<PyAny>> {
        let facts = setting.facts;
        let given = PyDict::new(py);
        given.set_item("block_size", setting.profile.block_size())?;
        given.set_item("capacity", setting.capacity)?;
        given.set_item("timestamp", PyArray1::from_slice(py, facts.timestamp))?;
        let category = facts.category.map(|codes| PyArray1::from_slice(py, codes));
        given.set_item("category", category)?;
        let begun = self.object.bind(py).call_method("_begin", (), Some(&given));
        Ok(begun?.unbind())
    }
}

impl AnyPolicy {
    /// Whether it runs Python.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Does work that asks this policy. The thread keeps what Python knows of it from one question to
    /// the next: making it anew takes longer than an answer.
    pub fn while_asked<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        if self.is_own() {
            Python::attach(|py| py.detach(work))
        } else {
            work()
        }
    }

    /// What came of a replay, or the exception that ended it.
    pub fn settled<T>(&self, outcome: PyResult<T>) -> PyResult<T> {
        if let Self::Own(own) = self {
            let mut failure = own.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(error) = failure.take() {
                return Err(error);
            }
        }
        outcome
    }
}

impl PolicySource for AnyPolicy {
    fn with<W: WithPolicy>(&self, setting: Setting<'_>, what: W) -> Result<W::Output> {
        let own = match self {
            Self::Named(policy) => return policy.with(setting, what),
            Self::Own(own) => own,
        };
        let (adapter, kind) = own.keep(Python::attach(|py| {
            let adapter = own.begin(py, &setting)?;
            let kind: String = adapter.getattr(py, "kind")?.extract(py)?;
            Ok((adapter, kind))
        }))?;
        Ok(match kind.as_str() {
            "blocks" => {
                let hooks = own.keep(Python::attach(|py| ObjectHooks::new(py, own, adapter)))?;
                what.run(BlockWise::new(&setting, hooks)?)
            }
            kind => {
                let asked = if kind == "always" {
                    Asked::Always
                } else {
                    Asked::AfterUse
                };
                what.run(Keyed::new(&setting, asked, ObjectKeys { own, adapter }))
            }
        })
    }

    fn name(&self) -> &str {
        match self {
            Self::Named(policy) => policy.name(),
            Self::Own(own) => &own.name,
        }
    }

    fn reports_evictions(&self) -> bool {
        match self {
            Self::Named(policy) => policy.reports_evictions(),
            Self::Own(_) => true,
        }
    }

    fn owners_used_last(&self) -> bool {
        match self {
            Self::Named(policy) => policy.owners_used_last(),
            Self::Own(_) => false,
        }
    }
}

/// Keys of a user's policy. The GIL is taken for each call and let go after it.
struct ObjectKeys<'a> {
    own: &'a OwnPolicy,
    adapter: Py<PyAny>,
}

/// Columns of segments, as `prefixsim.Segments` reads them.
fn columns(segments: &[Segment]) -> Array2<i64> {
    let request = |request: RequestIx| i64::from(request.get());
    let fields: [fn(&Segment) -> Option<RequestIx>; 3] = [
        |segment| Some(segment.last_use),
        |segment| segment.previous_use,
        |segment| Some(segment.first_use),
    ];
    let counts: [fn(&Segment) -> u32; 3] = [
        |segment| segment.uses,
        |segment| segment.depth,
        |segment| segment.size,
    ];
    let mut values = Vec::with_capacity(6 * segments.len());
    for field in fields {
        values.extend(segments.iter().map(|s| field(s).map_or(-1, request)));
    }
    for count in counts {
        values.extend(segments.iter().map(|s| i64::from(count(s))));
    }
    Array2::from_shape_vec((6, segments.len()), values).expect("six columns")
}

impl ObjectKeys<'_> {
    fn ask(
        &self,
        py: Python<'_>,
        request: RequestIx,
        segments: &[Segment],
        keys: &mut Vec<f64>,
    ) -> PyResult<()> {
        let adapter = self.adapter.bind(py);
        let columns = columns(segments).into_pyarray(py);
        let found = adapter.call_method1(pyo3::intern!(py, "keys"), (request.get(), columns))?;
        let found = found.cast_into::<PyArray1<f64>>()?.readonly();
        keys.extend(found.as_array().iter());
        if let Some(place) = keys.iter().position(|key| key.is_nan()) {
            adapter.call_method1("refuse_nan", (request.get(), place))?;
        }
        Ok(())
    }
}

impl Keys for ObjectKeys<'_> {
    fn keys(
        &mut self,
        request: RequestIx,
        segments: &[Segment],
        keys: &mut Vec<f64>,
    ) -> Result<()> {
        let found = Python::attach(|py| self.ask(py, request, segments, keys));
        self.own.keep(found)
    }
}

/// Hooks of a user's policy.
struct ObjectHooks<'a> {
    own: &'a OwnPolicy,
    adapter: Py<PyAny>,
    leaves: Py<PySet>,
}

impl<'a> ObjectHooks<'a> {
    fn new(py: Python<'_>, own: &'a OwnPolicy, adapter: Py<PyAny>) -> PyResult<Self> {
        let leaves = adapter
            .getattr(py, "leaves")?
            .cast_bound::<PySet>(py)?
            .clone();
        Ok(Self {
            own,
            adapter,
            leaves: leaves.unbind(),
        })
    }

    fn tell(&self, hook: &str, request: RequestIx, blocks: &[u32]) -> Result<()> {
        self.own.keep(Python::attach(|py| {
            let blocks: Vec<i64> = blocks.iter().map(|&block| block.into()).collect();
            let told = (request.get(), blocks.into_pyarray(py));
            self.adapter.call_method1(py, hook, told).map(|_| ())
        }))
    }
}

impl Hooks for ObjectHooks<'_> {
    fn hit(&mut self, request: RequestIx, blocks: &[u32]) -> Result<()> {
        self.tell("hit", request, blocks)
    }

    fn inserted(&mut self, request: RequestIx, blocks: &[u32]) -> Result<()> {
        self.tell("inserted", request, blocks)
    }

    fn leaf(&mut self, block: u32, may_go: bool) -> Result<()> {
        self.own.keep(Python::attach(|py| {
            let leaves = self.leaves.bind(py);
            if may_go {
                return leaves.add(block);
            }
            leaves.discard(block).map(|_| ())
        }))
    }

    fn victim(&mut self, request: RequestIx) -> Result<u32> {
        self.own.keep(Python::attach(|py| {
            let found = self.adapter.call_method1(py, "victim", (request.get(),))?;
            found.extract(py)
        }))
    }

    fn dropped(&mut self, request: RequestIx, block: u32) -> Result<()> {
        self.own.keep(Python::attach(|py| {
            let told = self
                .adapter
                .call_method1(py, "dropped", (request.get(), block));
            told.map(|_| ())
        }))
    }
}
