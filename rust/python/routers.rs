//! Routers by name with their settings, and routers that are objects of Python.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::fleet::routers::{AibrixConfig, Assignment, CacheAwareConfig, DynamoConfig, LlmdConfig};
use crate::fleet::{Arrival, Decision, MOST_REPLICAS, Replicas, Router, RouterConfig, View};
use crate::index::RequestIx;

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct CacheAwareSettings {
    cache_threshold: f64,
    balance_abs_threshold: u32,
    balance_rel_threshold: f64,
    eviction_interval_secs: f64,
    max_tree_size: u64,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct DynamoSettings {
    use_kv_events: bool,
    overlap_score_credit: f64,
    overlap_score_credit_decay: f64,
    prefill_load_scale: f64,
    decode_active_request_weight: f64,
    router_temperature: f64,
    router_ttl_secs: f64,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct LlmdSettings {
    precise: bool,
    prefix_weight: f64,
    queue_weight: f64,
    running_weight: f64,
    load_aware_weight: f64,
    active_weight: f64,
    token_load_weight: f64,
    session_weight: f64,
    match_length_weight: f64,
    block_tokens: u32,
    index_capacity: u64,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct AibrixSettings {
    imbalance_abs: u32,
    stddev_factor: f64,
    block_bytes: u32,
    table_blocks: u64,
    ttl_secs: f64,
}

fn item<'py, T: FromPyObjectOwned<'py>>(spec: &Bound<'py, PyDict>, name: &str) -> PyResult<T> {
    spec.as_any()
        .get_item(name)?
        .extract::<T>()
        .map_err(Into::into)
}

/// A router of the core, from `{"rule": name, **settings}`.
pub fn router_of(spec: &Bound<'_, PyDict>) -> PyResult<RouterConfig> {
    let rule: String = item(spec, "rule")?;
    Ok(match rule.as_str() {
        "round_robin" => RouterConfig::RoundRobin,
        "random" => RouterConfig::Random,
        "least_loaded" => RouterConfig::LeastLoaded,
        "power_of_two" => RouterConfig::PowerOfTwo,
        "consistent_hash" => RouterConfig::ConsistentHash {
            urls: item(spec, "urls")?,
            points: item(spec, "points")?,
        },
        "sticky" => RouterConfig::Sticky {
            assignment: assignment(&item::<String>(spec, "assignment_mode")?)?,
            idle_s: item(spec, "idle_secs")?,
        },
        "hash_modulo" => RouterConfig::HashModulo,
        "cache_aware" => {
            let s: CacheAwareSettings = spec.extract()?;
            RouterConfig::CacheAware(CacheAwareConfig {
                cache_threshold: s.cache_threshold,
                balance_abs_threshold: s.balance_abs_threshold,
                balance_rel_threshold: s.balance_rel_threshold,
                eviction_interval_secs: s.eviction_interval_secs,
                max_tree_size: s.max_tree_size,
            })
        }
        "dynamo" => {
            let s: DynamoSettings = spec.extract()?;
            RouterConfig::Dynamo(DynamoConfig {
                use_kv_events: s.use_kv_events,
                overlap_score_credit: s.overlap_score_credit,
                overlap_score_credit_decay: s.overlap_score_credit_decay,
                prefill_load_scale: s.prefill_load_scale,
                decode_active_request_weight: s.decode_active_request_weight,
                router_temperature: s.router_temperature,
                router_ttl_secs: s.router_ttl_secs,
            })
        }
        "llmd" => {
            let s: LlmdSettings = spec.extract()?;
            RouterConfig::Llmd(LlmdConfig {
                precise: s.precise,
                prefix_weight: s.prefix_weight,
                queue_weight: s.queue_weight,
                running_weight: s.running_weight,
                load_aware_weight: s.load_aware_weight,
                active_weight: s.active_weight,
                token_load_weight: s.token_load_weight,
                session_weight: s.session_weight,
                match_length_weight: s.match_length_weight,
                block_tokens: s.block_tokens,
                index_capacity: s.index_capacity,
            })
        }
        "prefix_aware" => RouterConfig::PrefixAware {
            least_match: item(spec, "prefix_min_match_length")?,
        },
        "session_ring" => RouterConfig::SessionRing {
            urls: item(spec, "urls")?,
        },
        "aibrix" => {
            let s: AibrixSettings = spec.extract()?;
            RouterConfig::Aibrix(AibrixConfig {
                imbalance_abs: s.imbalance_abs,
                stddev_factor: s.stddev_factor,
                block_bytes: s.block_bytes,
                table_blocks: s.table_blocks,
                ttl_secs: s.ttl_secs,
            })
        }
        "greedy" => RouterConfig::Greedy,
        "work_oracle" => RouterConfig::WorkOracle,
        other => return Err(PyValueError::new_err(format!("no routing rule {other:?}"))),
    })
}

fn assignment(name: &str) -> PyResult<Assignment> {
    match name {
        "random" => Ok(Assignment::Random),
        "min_load" => Ok(Assignment::MinLoad),
        "min_group" => Ok(Assignment::MinGroup),
        other => Err(PyValueError::new_err(format!(
            "assignment_mode is {other:?}"
        ))),
    }
}

/// A request that is to be routed.
#[pyclass(frozen, get_all, module = "prefixsim._core")]
pub struct RoutedRequest {
    index: u32,
    prompt_tokens: u32,
    session: String,
    time: f64,
}

/// What can be known of the replicas when a request is routed; lists with one value per replica.
#[pyclass(frozen, get_all, module = "prefixsim._core")]
pub struct RouterView {
    available: Vec<usize>,
    loads: Vec<u32>,
    waiting: Vec<u32>,
    running: Vec<u32>,
    cached_blocks: Vec<u32>,
}

/// A router that is an object of Python.
pub struct PyRouter<'py> {
    object: Bound<'py, PyAny>,
    names: Vec<String>,
    error: Option<PyErr>,
}

impl<'py> PyRouter<'py> {
    pub fn new(object: &Bound<'py, PyAny>, names: Vec<String>) -> Self {
        Self {
            object: object.clone(),
            names,
            error: None,
        }
    }

    /// Raises what the object raised.
    pub fn raised(&mut self) -> PyResult<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    fn ask(&self, arrival: &Arrival, view: &View<'_>) -> PyResult<usize> {
        let request = RoutedRequest {
            index: arrival.request.get(),
            prompt_tokens: arrival.prompt_tokens,
            session: self.names[arrival.session as usize].clone(),
            time: arrival.time,
        };
        let view = RouterView {
            available: view.available.into_iter().collect(),
            loads: view.loads.to_vec(),
            waiting: view.waiting.to_vec(),
            running: view.running.to_vec(),
            cached_blocks: view.cached.to_vec(),
        };
        let answer = self.object.call_method1("route", (request, view))?;
        answer.extract().map_err(|_| {
            PyValueError::new_err(format!(
                "route returned {answer}, it must return the number of a replica"
            ))
        })
    }

    fn tell(&mut self, method: &str, request: RequestIx, replica: usize) {
        if self.error.is_some() {
            return;
        }
        let told = self.object.getattr_opt(method).and_then(|method| {
            method.map_or(Ok(()), |method| {
                method.call1((request.get(), replica)).map(|_| ())
            })
        });
        if let Err(error) = told {
            self.error = Some(error);
        }
    }
}

impl Router for PyRouter<'_> {
    fn route(&mut self, arrival: &Arrival, view: &View<'_>) -> Decision {
        if self.error.is_none()
            && arrival.request.get().is_multiple_of(4096)
            && let Err(error) = self.object.py().check_signals()
        {
            self.error = Some(error);
        }
        if self.error.is_none() {
            match self.ask(arrival, view) {
                Ok(replica) if replica < MOST_REPLICAS && view.available.has(replica) => {
                    return Decision::one(replica);
                }
                Ok(replica) => {
                    self.error = Some(PyValueError::new_err(format!(
                        "route returned {replica} for request {}, which is no replica that takes \
                         requests",
                        arrival.request
                    )));
                }
                Err(error) => self.error = Some(error),
            }
        }
        Decision::among(Replicas::NONE)
    }

    fn prefill_ended(&mut self, request: RequestIx, replica: usize) {
        self.tell("prefill_ended", request, replica);
    }

    fn finished(&mut self, request: RequestIx, replica: usize) {
        self.tell("finished", request, replica);
    }
}
