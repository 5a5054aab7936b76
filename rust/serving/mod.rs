//! What every simulated server shares, whatever its rules: a clock, arrivals, the price of a step,
//! and what is written down.
//!
//! An engine implements [`Instance`], one server on a clock, and [`serve`] feeds it the requests of
//! a trace. Its memory is a [`KvCache`]. Nothing in here knows the rules of a particular server.
//!
//! * [`Requests`]: when each request arrives, and how long its prompt and output are.
//! * [`Arrivals`]: when requests enter the waiting queue; [`Turns`]: of clients who wait for answers.
//! * [`Clock`]: simulated nanoseconds, which cannot overflow unseen.
//! * [`Latency`]: what a step costs, given its [`StepWork`].
//! * [`RequestLog`], [`StepLog`], [`EventLog`], [`InstanceLog`]: what is recorded.
//! * [`Ages`]: how long evicted blocks had been cached.

mod ages;
mod arrivals;
mod clock;
mod instance;
mod kv_cache;
mod latency;
mod log;
mod requests;
mod turns;

pub use ages::Ages;
pub use arrivals::{Arrivals, serve};
pub use clock::Clock;
pub use instance::{Instance, Load};
pub use kv_cache::{
    CacheEvent, CacheSnapshot, CacheUsage, Demand, Hit, HitLimits, KvCache, NoRoom, Progress, TIERS,
};
pub use latency::{Latency, Linear, StepWork};
pub use log::{
    CacheStats, DraftStats, EventLog, InstanceLog, LimitLog, Readmission, RequestLog, StepLog,
    StepRow, StepState, Totals,
};
pub use requests::Requests;
pub use turns::{FIRST, Turns};
