//! Fleets: the class `FleetTraffic`, and what a router of Python sees.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rayon::prelude::*;

use super::arguments::Indices;
use super::forest::Forest;
use super::interrupt::interruptible;
use super::routers::{PyRouter, router_of};
use crate::fleet::{
    Cause, Columns, Decider, Disaggregated, Fleet, Outcome, Recording, Router, RouterConfig,
    Scaling, Source, TextIndex, Ties, Traffic, WithRouter, disaggregate, pooled, route, route_with,
};
use crate::stop::Stop;

/// What decides a routing besides the requests and the router; see `_core.pyi`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct FleetSettings {
    replicas: usize,
    capacity: Option<u64>,
    block_size: u32,
    seed: u64,
    ties: String,
    event_delay: u32,
    scaling: Vec<(f64, i32)>,
    seen: bool,
    index_after: Vec<u32>,
    validate: bool,
    choices: Option<Vec<u8>>,
}

impl FleetSettings {
    /// The settings of the core.
    pub fn fleet(self) -> PyResult<Fleet> {
        let ties = match (self.choices, self.ties.as_str()) {
            (Some(choices), _) => Ties::Recorded(choices),
            (None, "random") => Ties::Random,
            (None, "lowest") => Ties::Lowest,
            (None, other) => {
                let message = format!("ties is {other:?}, choose random or lowest");
                return Err(PyValueError::new_err(message));
            }
        };
        let scaling = self.scaling.into_iter();
        let mut fleet = Fleet::new(self.replicas, self.capacity, self.block_size);
        fleet.seed = self.seed;
        fleet.ties = ties;
        fleet.event_delay = self.event_delay;
        fleet.scaling = scaling
            .map(|(time, replicas)| Scaling { time, replicas })
            .collect();
        fleet.recording = Recording {
            seen: self.seen,
            index_after: self.index_after,
            validate: self.validate,
        };
        Ok(fleet)
    }
}

/// The requests of a fleet, compiled for any number of routers.
#[pyclass(frozen, module = "prefixsim._core")]
pub struct FleetTraffic(Traffic);

impl FleetTraffic {
    /// The requests of the core.
    pub fn core(&self) -> &Traffic {
        &self.0
    }
}

type Text<'py> = (Py<Forest>, Indices<'py>);

fn source(forest: &Py<Forest>, length: &Indices<'_>) -> PyResult<Source> {
    Ok(Source {
        forest: forest.get().shared(),
        length: length.as_slice()?.to_vec(),
    })
}

#[pymethods]
impl FleetTraffic {
    #[new]
    #[pyo3(signature = (forest, prompt_len, hold, timestamp, session, session_names, *,
                        characters_per_token=4, whole=None, characters=None, text_bytes=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        forest: Py<Forest>,
        prompt_len: Indices<'_>,
        hold: Indices<'_>,
        timestamp: PyReadonlyArray1<'_, f64>,
        session: Option<Indices<'_>>,
        session_names: Vec<String>,
        characters_per_token: u32,
        whole: Option<Py<Forest>>,
        characters: Option<Text<'_>>,
        text_bytes: Option<Text<'_>>,
    ) -> PyResult<Self> {
        let (session, session_names) = if let Some(session) = session {
            (session.as_slice()?.to_vec(), session_names)
        } else {
            let session = Traffic::inferred_sessions(forest.get().core());
            let count = session.iter().max().map_or(0, |&last| last + 1);
            let names = (0..count).map(|code| format!("session-{code}"));
            (session, names.collect())
        };
        let columns = Columns {
            prompt_len: prompt_len.as_slice()?.to_vec(),
            hold: hold.as_slice()?.to_vec(),
            timestamp: timestamp.as_slice()?.to_vec(),
            session,
            session_names,
        };
        let tokens = source(&forest, &prompt_len)?;
        let whole = whole.map(|whole| source(&whole, &prompt_len)).transpose()?;
        let mut traffic = Traffic::new(columns, tokens, whole, characters_per_token)?;
        if let (Some((characters, length)), Some((bytes, size))) = (characters, text_bytes) {
            traffic = traffic.text(source(&characters, &length)?, source(&bytes, &size)?)?;
        }
        Ok(Self(traffic))
    }

    /// The session of each request, as given or inferred.
    #[getter]
    fn session<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_slice(py, &self.0.columns().session)
    }

    /// Lets each router route all requests, on all cores.
    fn route<'py>(
        &self,
        py: Python<'py>,
        routers: Vec<Bound<'py, PyDict>>,
        settings: Bound<'py, PyDict>,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let routers: Vec<RouterConfig> = routers.iter().map(router_of).collect::<PyResult<_>>()?;
        let fleet = settings.extract::<FleetSettings>()?.fleet()?;
        let found = interruptible(py, |stop| {
            routers
                .par_iter()
                .with_max_len(1)
                .map(|router| route(&self.0, router, &fleet, stop))
                .collect::<crate::Result<Vec<_>>>()
        })?;
        let found = found.into_iter();
        found
            .map(|(outcome, indices)| to_dict(py, outcome, indices))
            .collect()
    }

    /// Lets an object with a method `route(request, view)` route all requests.
    fn route_by<'py>(
        &self,
        py: Python<'py>,
        router: Bound<'py, PyAny>,
        settings: Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let fleet = settings.extract::<FleetSettings>()?.fleet()?;
        let names = self.0.columns().session_names.clone();
        let mut router = PyRouter::new(&router, names);
        let stop = Stop::default();
        let done = route_with(&self.0, &mut router, &fleet, &stop);
        router.raised()?;
        let (outcome, indices) = done?;
        to_dict(py, outcome, indices)
    }

    /// Lets two routers route all requests over a prefill and a decode pool.
    ///
    /// `decider` is `always`, `isl_bounding`, or the tokens of llm-d's `nonCachedTokens`.
    fn disaggregate<'py>(
        &self,
        py: Python<'py>,
        prefill_router: Bound<'py, PyDict>,
        decode_router: Bound<'py, PyDict>,
        prefill: Bound<'py, PyDict>,
        decode: Bound<'py, PyDict>,
        decider: &str,
    ) -> PyResult<Bound<'py, PyDict>> {
        let routers = [router_of(&prefill_router)?, router_of(&decode_router)?];
        let prefill = prefill.extract::<FleetSettings>()?.fleet()?;
        let decode = decode.extract::<FleetSettings>()?.fleet()?;
        let decider = match decider {
            "always" => Decider::Always,
            "isl_bounding" => Decider::IslBounding,
            tokens => Decider::NonCachedTokens(tokens.parse().map_err(|_| {
                PyValueError::new_err(format!(
                    "decider is {tokens:?}, choose always, isl_bounding or a number of tokens"
                ))
            })?),
        };
        let done = interruptible(py, |stop| {
            let outer = PickPrefill {
                traffic: &self.0,
                routers: &routers,
                fleets: (&prefill, &decode),
                decider,
                stop,
            };
            routers[0].with(&prefill.setting(&self.0)?, outer)
        })?;
        let dict = PyDict::new(py);
        dict.set_item("prefill", to_dict(py, done.prefill, Vec::new())?)?;
        dict.set_item("decode_replica", done.decode_replica.into_pyarray(py))?;
        dict.set_item("remote", done.remote)?;
        dict.set_item("hit_tokens", done.hit_tokens.into_pyarray(py))?;
        dict.set_item("decode_computed_tokens", done.decode_computed_tokens)?;
        dict.set_item("decode_requests", done.decode_requests)?;
        Ok(dict)
    }

    /// One cache as large as all replicas together.
    fn pooled<'py>(
        &self,
        py: Python<'py>,
        settings: Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let fleet = settings.extract::<FleetSettings>()?.fleet()?;
        let outcome = interruptible(py, |stop| pooled(&self.0, &fleet, stop))?;
        to_dict(py, outcome, Vec::new())
    }
}

/// Two pools that wait for the types of their routers: first that of the prefill router.
struct PickPrefill<'a> {
    traffic: &'a Traffic,
    routers: &'a [RouterConfig; 2],
    fleets: (&'a Fleet, &'a Fleet),
    decider: Decider,
    stop: &'a Stop,
}

struct PickDecode<'a, P> {
    pools: PickPrefill<'a>,
    prefill: P,
}

impl WithRouter for PickPrefill<'_> {
    type Output = Disaggregated;

    fn run<R: Router>(self, router: R) -> crate::Result<Disaggregated> {
        let setting = self.fleets.1.setting(self.traffic)?;
        let decode = &self.routers[1];
        let pools = PickDecode {
            pools: self,
            prefill: router,
        };
        decode.with(&setting, pools)
    }
}

impl<P: Router> WithRouter for PickDecode<'_, P> {
    type Output = Disaggregated;

    fn run<R: Router>(mut self, mut router: R) -> crate::Result<Disaggregated> {
        let PickPrefill {
            traffic,
            fleets,
            decider,
            stop,
            ..
        } = self.pools;
        disaggregate(
            traffic,
            (&mut self.prefill, &mut router),
            fleets,
            decider,
            stop,
        )
    }
}

/// An outcome as columns and sums; see `_core.pyi`.
pub fn to_dict(
    py: Python<'_>,
    outcome: Outcome,
    indices: Vec<TextIndex>,
) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("replica", outcome.replica.into_pyarray(py))?;
    dict.set_item("hit_tokens", outcome.hit_tokens.into_pyarray(py))?;
    dict.set_item("best_hit_tokens", outcome.best_hit_tokens.into_pyarray(py))?;
    dict.set_item("believed_tokens", outcome.believed_tokens.into_pyarray(py))?;
    let causes = Cause::ALL.iter().map(|cause| cause.name());
    let tokens = PyDict::new(py);
    let requests = PyDict::new(py);
    for (i, cause) in causes.enumerate() {
        tokens.set_item(cause, outcome.regret_tokens_by_cause[i])?;
        requests.set_item(cause, outcome.regret_requests_by_cause[i])?;
    }
    dict.set_item("regret_tokens_by_cause", tokens)?;
    dict.set_item("regret_requests_by_cause", requests)?;
    dict.set_item("requests", outcome.requests)?;
    dict.set_item("computed_tokens", outcome.computed_tokens)?;
    dict.set_item("peak_in_flight", outcome.peak_in_flight)?;
    dict.set_item("evictions", outcome.evictions)?;
    dict.set_item("cached_blocks", outcome.cached_blocks)?;
    dict.set_item("distinct_blocks", outcome.distinct_blocks)?;
    if let Some(seen) = outcome.seen {
        dict.set_item("allowed", seen.allowed.into_pyarray(py))?;
        dict.set_item("by_load", seen.by_load)?;
        dict.set_item("believed", seen.believed.into_pyarray(py))?;
        dict.set_item("notes", seen.notes.into_pyarray(py))?;
    }
    let indices = indices.into_iter().map(|index| {
        let nodes = index.nodes.iter();
        let nodes: Vec<(u32, u32, u32, u32, u64, u32)> = nodes
            .map(|n| (n.parent, n.request, n.start, n.end, n.tenants.0, n.owner))
            .collect();
        (nodes, index.sizes)
    });
    dict.set_item("indices", indices.collect::<Vec<_>>())?;
    Ok(dict)
}
