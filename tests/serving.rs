//! Servers on one clock: what the traits of `serving` promise, shown with vLLM's server.

#![allow(clippy::cast_possible_truncation)] // Numbers are small.

mod common;

use common::{BLOCK_SIZE, Request, checked_steps, compiled, scheduler};
use prefixsim::Stop;
use prefixsim::engine::vllm::{DenseIndex, Manager, ManagerConfig, Server, Workload};
use prefixsim::serving::{
    Arrivals, FIRST, Instance, InstanceLog, Latency, Linear, RequestLog, Requests, Turns, serve,
};
use proptest::prelude::*;

/// A request: which of a few common beginnings it has and how much of it, its output, and the time
/// since the one before.
type Row = (u32, u32, u32, u64);

/// The rows of `chosen` requests as a workload.
fn workload(rows: &[Row], chosen: impl Fn(usize) -> bool) -> Workload {
    let mut requests = Vec::new();
    let mut clock = 0;
    for (i, &(family, prompt, output, gap)) in rows.iter().enumerate() {
        clock += gap;
        if chosen(i) {
            requests.push(Request {
                prompt: (0..prompt)
                    .map(|position| 100 * family + position)
                    .collect(),
                output_len: output,
                arrival_ns: clock,
            });
        }
    }
    compiled(&requests)
}

type VllmServer<'w> = Server<'w, Manager<DenseIndex>>;

fn server(workload: &Workload, num_blocks: u32, latency: Latency) -> VllmServer<'_> {
    let config = ManagerConfig::new(BLOCK_SIZE);
    let index = DenseIndex::new(workload.num_keys() as usize);
    let manager = Manager::new(num_blocks, config, index).unwrap();
    Server::new(workload, scheduler(24), manager, latency, checked_steps()).unwrap()
}

/// The row of a request, and what it says. Steps count from the start of its instance.
fn row(log: &RequestLog, request: usize) -> [u64; 11] {
    [
        u64::from(log.hit_tokens[request]),
        log.computed_tokens[request],
        log.scheduled_tokens[request],
        log.admit_step[request],
        log.first_token_step[request],
        log.finish_step[request],
        log.arrival_ns[request],
        log.admit_ns[request],
        log.first_token_ns[request],
        log.finish_ns[request],
        u64::from(log.preemptions[request]),
    ]
}

/// Routes each request of `requests` to one of the `fleet` when it arrives; returns where to.
fn route<I: Instance>(
    fleet: &mut [I],
    requests: &Requests,
    mut router: impl FnMut(&[I], u32) -> usize,
    log: &mut RequestLog,
) -> Vec<usize> {
    let mut replicas = Vec::new();
    let advance = |fleet: &mut [I], to, log: &mut RequestLog| {
        // One clock: always the instance whose event is next.
        while let Some((time, next)) = (0..fleet.len())
            .filter_map(|i| Some((fleet[i].next_event()?, i)))
            .min()
            && time < to
        {
            fleet[next].advance(to, log).unwrap();
        }
    };
    for request in requests.indices() {
        let now = requests.arrival_ns(request);
        advance(fleet, now, log);
        let replica = router(fleet, request);
        log.arrival_ns[request as usize] = now;
        fleet[replica].enqueue(request, now);
        replicas.push(replica);
    }
    advance(fleet, u64::MAX, log);
    replicas
}

fn alone(
    rows: &[Row],
    share: &[usize],
    num_blocks: u32,
    latency: Latency,
) -> (RequestLog, InstanceLog) {
    let workload = workload(rows, |i| share.contains(&i));
    let mut server = server(&workload, num_blocks, latency);
    let mut log = RequestLog::new(share.len());
    let requests = workload.requests();
    serve(
        &mut server,
        requests,
        &Arrivals::Trace,
        &mut log,
        &Stop::default(),
    )
    .unwrap();
    (log, server.finish().0)
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((0_u32..3, 1_u32..40, 1_u32..20, 0_u64..60), 1..25)
}

fn latencies() -> impl Strategy<Value = Latency> {
    let linear = Linear {
        base: 3.0,
        prefill_tokens: 0.5,
        decodes: 0.25,
        ..Linear::default()
    };
    prop_oneof![
        (0_u64..20).prop_map(Latency::Fixed),
        Just(Latency::Linear(linear)),
    ]
}

proptest! {
    /// Two servers on one clock do what each does alone with its own share of the trace, whether the
    /// router looks at them (to the emptier one) or not (taking turns).
    #[test]
    fn a_fleet_is_its_instances(
        rows in rows(),
        blocks in (16_u32..40, 16_u32..40),
        latency in latencies(),
        by_load in any::<bool>(),
    ) {
        let workload = workload(&rows, |_| true);
        let sizes = [blocks.0, blocks.1];
        let mut fleet = sizes.map(|size| server(&workload, size, latency));
        let mut log = RequestLog::new(rows.len());
        let replicas = route(
            &mut fleet,
            workload.requests(),
            |fleet, request| {
                let busy = |i: usize| {
                    let load = fleet[i].load();
                    load.running + load.waiting
                };
                if by_load { usize::from(busy(1) < busy(0)) } else { request as usize % 2 }
            },
            &mut log,
        );
        for (replica, server) in fleet.into_iter().enumerate() {
            let share: Vec<usize> = (0..rows.len()).filter(|&i| replicas[i] == replica).collect();
            let finished = server.load().finished;
            prop_assert_eq!(finished as usize, share.len());
            let (expected, expected_instance) = alone(&rows, &share, sizes[replica], latency);
            for (own, &request) in share.iter().enumerate() {
                prop_assert_eq!(row(&log, request), row(&expected, own));
            }
            let instance = server.finish().0;
            prop_assert_eq!(instance.steps, expected_instance.steps);
            prop_assert_eq!(instance.totals, expected_instance.totals);
            let order: Vec<u32> =
                expected_instance.finish_order.iter().map(|&own| share[own as usize] as u32).collect();
            prop_assert_eq!(instance.finish_order, order);
        }
    }

    /// However the caller cuts time into pieces, the server does the same.
    #[test]
    fn advancing_in_pieces_is_advancing(rows in rows(), latency in latencies(), piece in 1_u64..50) {
        let workload = workload(&rows, |_| true);
        let requests = workload.requests();
        let mut expected = RequestLog::new(rows.len());
        let mut whole = server(&workload, 30, latency);
        serve(&mut whole, requests, &Arrivals::Trace, &mut expected, &Stop::default()).unwrap();

        let mut log = RequestLog::new(rows.len());
        let mut server = server(&workload, 30, latency);
        let mut to = 0;
        for request in requests.indices() {
            let now = requests.arrival_ns(request);
            while to < now {
                to = now.min(to + piece);
                while server.next_event().is_some_and(|time| time < to) {
                    server.advance(to, &mut log).unwrap();
                }
            }
            log.arrival_ns[request as usize] = now;
            server.enqueue(request, now);
        }
        while let Some(time) = server.next_event() {
            server.advance(time + 1, &mut log).unwrap();
        }
        prop_assert_eq!(&log, &expected);
        prop_assert_eq!(server.finish().0, whole.finish().0);
    }
}

#[test]
fn a_closed_loop_keeps_so_many_in_flight() {
    let rows: Vec<Row> = (0..20).map(|i| (i % 3, 10 + i, 1 + i % 5, 1_000)).collect();
    let workload = workload(&rows, |_| true);
    let requests = workload.requests();
    let mut log = RequestLog::new(rows.len());
    let mut server = server(&workload, 40, Latency::Fixed(7));
    serve(
        &mut server,
        requests,
        &Arrivals::Closed(2),
        &mut log,
        &Stop::default(),
    )
    .unwrap();
    // A request arrives when the one but one before it, in order of finishing, has finished.
    let mut finished = log.finish_ns.clone();
    finished.sort_unstable();
    assert_eq!(log.arrival_ns[..2], [0, 0]);
    assert_eq!(log.arrival_ns[2..], finished[..18]);
    let stop = Stop::default();
    let none = serve(&mut server, requests, &Arrivals::Closed(0), &mut log, &stop);
    assert!(none.unwrap_err().to_string().contains("at least 1"));
}

/// Turns of two sessions: 0, 2, 4... and 1, 3, 5....
fn two_sessions(requests: usize, think_ns: u64, clients: Option<u32>) -> Turns {
    let before = |request: u32| if request < 2 { FIRST } else { request - 2 };
    let count = u32::try_from(requests).unwrap();
    Turns {
        after: (0..count).map(before).collect(),
        think_ns: vec![think_ns; requests],
        not_before_ns: vec![0; requests],
        clients,
    }
}

#[test]
fn a_turn_is_sent_after_the_answer_to_the_one_before() {
    let rows: Vec<Row> = (0..20).map(|i| (i % 3, 10 + i, 1 + i % 5, 1_000)).collect();
    let workload = workload(&rows, |_| true);
    for think in [0, 5, 1_000_000] {
        let mut log = RequestLog::new(rows.len());
        let mut server = server(&workload, 40, Latency::Fixed(7));
        let arrivals = Arrivals::Clients(two_sessions(rows.len(), think, None));
        serve(
            &mut server,
            workload.requests(),
            &arrivals,
            &mut log,
            &Stop::default(),
        )
        .unwrap();
        assert_eq!(log.arrival_ns[..2], [0, 0]);
        for turn in 2..rows.len() {
            assert_eq!(log.arrival_ns[turn], log.finish_ns[turn - 2] + think);
        }
    }
    let mut late = two_sessions(rows.len(), 5, None);
    late.not_before_ns[4] = 1_000_000_000;
    let mut log = RequestLog::new(rows.len());
    let mut server = server(&workload, 40, Latency::Fixed(7));
    let arrivals = Arrivals::Clients(late);
    serve(
        &mut server,
        workload.requests(),
        &arrivals,
        &mut log,
        &Stop::default(),
    )
    .unwrap();
    assert_eq!(log.arrival_ns[4], 1_000_000_000);
}

#[test]
fn clients_of_a_closed_loop_think_and_wait_for_answers() {
    let rows: Vec<Row> = (0..20).map(|i| (i % 3, 10 + i, 1 + i % 5, 1_000)).collect();
    let workload = workload(&rows, |_| true);
    let mut log = RequestLog::new(rows.len());
    let mut server = server(&workload, 40, Latency::Fixed(7));
    let arrivals = Arrivals::Clients(two_sessions(rows.len(), 11, Some(3)));
    serve(
        &mut server,
        workload.requests(),
        &arrivals,
        &mut log,
        &Stop::default(),
    )
    .unwrap();
    for turn in 2..rows.len() {
        assert!(log.arrival_ns[turn] >= log.finish_ns[turn - 2]);
        let in_flight = (0..turn).filter(|&other| log.finish_ns[other] > log.arrival_ns[turn]);
        assert!(in_flight.count() < 3);
    }
    let mut wrong = two_sessions(rows.len(), 0, None);
    wrong.after[3] = 3;
    let stop = Stop::default();
    let told = serve(
        &mut server,
        workload.requests(),
        &Arrivals::Clients(wrong),
        &mut log,
        &stop,
    );
    assert!(
        told.unwrap_err()
            .to_string()
            .contains("does not come before it")
    );
}
