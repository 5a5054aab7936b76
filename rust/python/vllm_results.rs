//! What a run of the vLLM engine gives to Python: dictionaries of columns, typed in `_core.pyi`.

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;

use crate::engine::vllm::Simulation;
use crate::serving::{CacheStats, EventLog, LimitLog, RequestLog, StepLog, StepState, Totals};

type Column<'py, T> = Bound<'py, PyArray1<T>>;

/// Request and position of each block.
pub type Origins<'py> = (Column<'py, u32>, Column<'py, u32>);

/// Declares a dictionary of columns: its keys, and how it is made from the core's record of the same
/// names.
macro_rules! columns {
    ($(#[$doc:meta])* $name:ident from $record:ident { $($field:ident: $value:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(IntoPyObject)]
        pub struct $name<'py> {
            $($field: Column<'py, $value>,)*
        }

        impl<'py> $name<'py> {
            fn new(py: Python<'py>, record: $record) -> Self {
                Self {
                    $($field: record.$field.into_pyarray(py),)*
                }
            }
        }
    };
}

columns! {
    /// One entry per request.
    Requests from RequestLog {
        hit_tokens: u32,
        computed_tokens: u64,
        scheduled_tokens: u64,
        admit_step: u64,
        first_token_step: u64,
        finish_step: u64,
        arrival_ns: u64,
        admit_ns: u64,
        first_token_ns: u64,
        finish_ns: u64,
        preemptions: u32,
        num_blocks: u32,
    }
}

columns! {
    /// One entry per step, if recorded.
    Steps from StepLog {
        clock_ns: u64,
        requests: u32,
        tokens: u64,
        running: u32,
        waiting: u32,
        free: u32,
    }
}

columns! {
    /// One entry per KV event, if recorded; `keys` and `blocks` by `offsets`.
    Events from EventLog {
        step: u64,
        group: u32,
        stored: bool,
        subject: u32,
        offsets: u64,
        keys: u32,
        blocks: u32,
    }
}

columns! {
    /// What limited the hit of each request, if recorded.
    Limits from LimitLog {
        full: u32,
        window: u32,
        state: u32,
        aligned: u32,
    }
}

/// Requests, queries and hits.
type Counters = (u64, u64, u64);

/// Sums.
#[derive(IntoPyObject)]
pub struct Sums {
    steps: u64,
    final_clock_ns: u64,
    stats: Counters,
    stats_preempted: Counters,
    preemptions: u64,
    evictions: u64,
    scheduled_tokens: u64,
    peak_used: u32,
    used_steps: f64,
    used_ns: f64,
    busy_ns: u64,
    cached_end: u64,
    /// Steps, guesses verified and guesses that were right.
    drafts: Counters,
}

impl From<Totals> for Sums {
    fn from(totals: Totals) -> Self {
        let counters = |stats: CacheStats| (stats.requests, stats.queries, stats.hits);
        Self {
            steps: totals.steps,
            final_clock_ns: totals.final_clock_ns,
            stats: counters(totals.stats),
            stats_preempted: counters(totals.stats_preempted),
            preemptions: totals.preemptions,
            evictions: totals.evictions,
            scheduled_tokens: totals.scheduled_tokens,
            peak_used: totals.peak_used,
            used_steps: totals.used_steps,
            used_ns: totals.used_ns,
            busy_ns: totals.busy_ns,
            cached_end: totals.cached_end,
            drafts: (
                totals.drafts.steps,
                totals.drafts.drafts,
                totals.drafts.accepted,
            ),
        }
    }
}

/// The whole state in one step.
#[derive(IntoPyObject)]
struct State {
    clock_ns: u64,
    scheduled: Vec<(u32, u32)>,
    running: Vec<u32>,
    waiting: Vec<u32>,
    /// One list per running request, of one list per group.
    tables: Vec<Vec<Vec<u32>>>,
    free: Vec<u32>,
    refs: Vec<(u32, u32)>,
    /// Group, key and slots.
    cached: Vec<(u32, u32, Vec<u32>)>,
}

impl From<StepState> for State {
    fn from(state: StepState) -> Self {
        Self {
            clock_ns: state.clock_ns,
            scheduled: state.scheduled,
            running: state.running,
            waiting: state.waiting,
            tables: state.tables,
            free: state.cache.free,
            refs: state.cache.refs,
            cached: state.cache.cached,
        }
    }
}

/// All of it.
#[derive(IntoPyObject)]
pub struct Run<'py> {
    requests: Requests<'py>,
    /// Tokens at which siblings were known to part; no entries if nowhere.
    junction: Column<'py, u32>,
    limits: Limits<'py>,
    /// Request, step and hit tokens of each admission after a preemption.
    resumes: Vec<(u32, u64, u32)>,
    finish_order: Column<'py, u32>,
    tables: Column<'py, u32>,
    /// Lengths of the tables, a row per finished request, a column per group.
    group_blocks: Column<'py, u32>,
    steps: Steps<'py>,
    events: Events<'py>,
    totals: Sums,
    free_queue: Column<'py, u32>,
    states: Vec<State>,
}

impl<'py> Run<'py> {
    /// Moves the columns to Python; nothing is copied.
    pub fn new(py: Python<'py>, simulation: Simulation) -> Self {
        let server = simulation.server;
        let mut log = simulation.requests;
        let junction = std::mem::take(&mut log.junction);
        let limits = std::mem::take(&mut log.limits);
        let resumes = server.readmissions.iter();
        Self {
            requests: Requests::new(py, log),
            junction: junction.into_pyarray(py),
            limits: Limits::new(py, limits),
            resumes: resumes
                .map(|again| (again.request, again.step, again.hit_tokens))
                .collect(),
            finish_order: server.finish_order.into_pyarray(py),
            tables: server.tables.into_pyarray(py),
            group_blocks: server.group_blocks.into_pyarray(py),
            steps: Steps::new(py, server.steps),
            events: Events::new(py, server.events),
            totals: server.totals.into(),
            free_queue: server.free_queue.into_pyarray(py),
            states: server.states.into_iter().map(State::from).collect(),
        }
    }
}
