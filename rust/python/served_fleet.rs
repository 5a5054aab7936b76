//! Fleets whose replicas are engines.

use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::fleet::{FleetSettings, FleetTraffic, to_dict};
use super::interrupt::interruptible;
use super::routers::{PyRouter, router_of};
use crate::fleet::{Fleet, Outcome, Replica, Router, Traffic, WithRouter, serve_fleet};
use crate::serving::{RequestLog, Requests};
use crate::stop::Stop;

/// A fleet of engines that waits for its router.
struct Serve<'a, P> {
    replicas: Vec<P>,
    requests: &'a Requests,
    traffic: &'a Traffic,
    fleet: &'a Fleet,
    stop: &'a Stop,
}

impl<P: Replica> WithRouter for Serve<'_, P> {
    type Output = (Outcome, RequestLog);

    fn run<R: Router>(self, mut router: R) -> crate::Result<Self::Output> {
        let mut log = RequestLog::new(self.requests.len());
        let (outcome, _) = serve_fleet(
            self.replicas,
            self.requests,
            self.traffic,
            &mut router,
            self.fleet,
            &mut log,
            self.stop,
        )?;
        Ok((outcome, log))
    }
}

/// Where engines serve: requests, router and settings of the fleet, and by how many nanoseconds events of
/// caches are late.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct ServedFleet<'py> {
    traffic: Py<FleetTraffic>,
    router: Bound<'py, PyAny>,
    settings: Bound<'py, PyDict>,
    event_delay_ns: u64,
}

/// Lets engines, which `make` makes for a number of replicas and a delay, serve all requests; returns the
/// log of requests and what the router did.
pub fn served<'py, P: Replica>(
    py: Python<'py>,
    given: &ServedFleet<'py>,
    requests: &Requests,
    make: impl Fn(usize, u64) -> crate::Result<Vec<P>> + Sync,
) -> PyResult<Bound<'py, PyDict>> {
    let fleet = given.settings.extract::<FleetSettings>()?.fleet()?;
    let (traffic, delay) = (given.traffic.get().core(), given.event_delay_ns);
    let count = fleet.all_replicas()?;
    let (outcome, log) = if let Ok(spec) = given.router.cast::<PyDict>() {
        let router = router_of(spec)?;
        interruptible(py, |stop| {
            let serve = Serve {
                replicas: make(count, delay)?,
                requests,
                traffic,
                fleet: &fleet,
                stop,
            };
            router.with(&fleet.setting(traffic)?, serve)
        })?
    } else {
        let names = traffic.columns().session_names.clone();
        let mut router = PyRouter::new(&given.router, names);
        let (mut log, stop) = (RequestLog::new(requests.len()), Stop::default());
        let served = serve_fleet(
            make(count, delay)?,
            requests,
            traffic,
            &mut router,
            &fleet,
            &mut log,
            &stop,
        );
        router.raised()?;
        (served?.0, log)
    };
    let dict = PyDict::new(py);
    dict.set_item("fleet", to_dict(py, outcome, Vec::new())?)?;
    let requests = PyDict::new(py);
    requests.set_item("hit_tokens", log.hit_tokens.into_pyarray(py))?;
    requests.set_item("preemptions", log.preemptions.into_pyarray(py))?;
    for (name, column) in [
        ("computed_tokens", log.computed_tokens),
        ("arrival_ns", log.arrival_ns),
        ("admit_ns", log.admit_ns),
        ("first_token_ns", log.first_token_ns),
        ("finish_ns", log.finish_ns),
    ] {
        requests.set_item(name, column.into_pyarray(py))?;
    }
    dict.set_item("requests", requests)?;
    Ok(dict)
}
