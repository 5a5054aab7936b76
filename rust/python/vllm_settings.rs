//! The settings of the vLLM engine: a dictionary of declared names, typed in `_core.pyi`.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arguments::{num_slots, positive, window};
use super::latency::LatencySettings;
use crate::engine::vllm::{
    ManagerConfig, Recording, SchedulerConfig, SimulationConfig, UncachedFirst,
};
use crate::serving::Arrivals;

/// Declares the settings: a struct that is read from a dictionary in which every name is there and
/// no other.
macro_rules! settings {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $value:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(FromPyObject)]
        #[pyo3(from_item_all)]
        struct $name {
            $($field: $value,)*
        }

        impl $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];

            fn read(given: &Bound<'_, PyDict>) -> PyResult<Self> {
                for name in Self::NAMES {
                    if !given.contains(name)? {
                        return Err(PyTypeError::new_err(format!("{name}: it is missing")));
                    }
                }
                if given.len() == Self::NAMES.len() {
                    return given.extract();
                }
                for name in given.keys() {
                    let name: String = name.extract()?;
                    if !Self::NAMES.contains(&name.as_str()) {
                        return Err(PyTypeError::new_err(format!("{name}: no such setting")));
                    }
                }
                unreachable!("as many names as there are keys, or one that is not a name")
            }
        }
    };
}

settings! {
    /// As `prefixsim.engines.vllm.settings` gives them; names are vLLM's where it has them.
    Settings {
        num_blocks: i64,
        enable_caching: bool,
        max_model_len: Option<i64>,
        watermark: f64,
        sliding_window: Option<i64>,
        window_cap: bool,
        retention_interval: Option<i64>,
        uncached_first: UncachedFirstSetting,
        max_num_seqs: i64,
        max_num_batched_tokens: i64,
        enable_chunked_prefill: bool,
        pass_over: bool,
        long_prefill_token_threshold: u64,
        long_prefill_token_threshold_adaptive: bool,
        lone_threshold: bool,
        reserve_full_isl: bool,
        stats_at_lookup: bool,
        stats_preempted_apart: bool,
        arrivals: String,
        in_flight: i64,
        latency: LatencySettings,
        record_steps: bool,
        record_events: bool,
        record_tables: bool,
        validate: bool,
    }
}

/// On, off, or a rule in words.
#[derive(FromPyObject)]
enum UncachedFirstSetting {
    Switch(bool),
    Rule(String),
}

impl UncachedFirstSetting {
    fn rule(&self) -> PyResult<UncachedFirst> {
        match self {
            Self::Switch(true) => Ok(UncachedFirst::Always),
            Self::Switch(false) => Ok(UncachedFirst::Never),
            Self::Rule(rule) if rule == "with caching" => Ok(UncachedFirst::WithCaching),
            Self::Rule(rule) if rule == "with a window" => Ok(UncachedFirst::WithWindow),
            Self::Rule(rule) => Err(PyValueError::new_err(format!(
                "uncached_first {rule:?}: choose True, False, 'with caching' or 'with a window'"
            ))),
        }
    }
}

fn arrivals(mode: &str, in_flight: i64) -> PyResult<Arrivals> {
    match mode {
        "trace" => Ok(Arrivals::Trace),
        "start" => Ok(Arrivals::Start),
        "closed" => Ok(Arrivals::Closed(positive("in_flight", in_flight)?)),
        "sequential" => Ok(Arrivals::Sequential),
        other => {
            let message = format!("arrivals {other:?}: choose trace, start, closed or sequential");
            Err(PyValueError::new_err(message))
        }
    }
}

/// Slots that a share of the cache is.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Checked before.
fn watermark_slots(watermark: f64, num_blocks: u32) -> PyResult<u32> {
    if !(0.0..1.0).contains(&watermark) {
        let message = format!("watermark is {watermark}, it must be from 0 to below 1");
        return Err(PyValueError::new_err(message));
    }
    Ok((watermark * f64::from(num_blocks)) as u32)
}

impl Settings {
    fn manager(&self, block_size: u32, num_blocks: u32) -> PyResult<ManagerConfig> {
        let mut config = ManagerConfig::new(block_size);
        config.enable_caching = self.enable_caching;
        if let Some(length) = self.max_model_len {
            config.max_model_len = positive("max_model_len", length)?;
        }
        config.watermark_slots = watermark_slots(self.watermark, num_blocks)?;
        let batch = self.max_num_batched_tokens.min(i64::from(u32::MAX));
        let cap = self.window_cap.then_some(batch);
        config.sliding_window = window(self.sliding_window, self.retention_interval, cap)?;
        config.uncached_first = self.uncached_first.rule()?;
        Ok(config)
    }

    fn scheduler(&self) -> PyResult<SchedulerConfig> {
        let batched = u64::try_from(self.max_num_batched_tokens)
            .map_err(|_| PyValueError::new_err("max_num_batched_tokens is negative"))?;
        Ok(SchedulerConfig {
            max_num_seqs: positive("max_num_seqs", self.max_num_seqs)?,
            max_num_batched_tokens: batched,
            enable_chunked_prefill: self.enable_chunked_prefill,
            pass_over: self.pass_over,
            long_prefill_token_threshold: self.long_prefill_token_threshold,
            long_prefill_token_threshold_adaptive: self.long_prefill_token_threshold_adaptive,
            lone_threshold: self.lone_threshold,
            reserve_full_isl: self.reserve_full_isl,
            stats_at_lookup: self.stats_at_lookup,
            stats_preempted_apart: self.stats_preempted_apart,
        })
    }
}

/// Everything that decides a run of a workload of this block size.
pub fn simulation_config(
    given: Option<&Bound<'_, PyDict>>,
    block_size: u32,
) -> PyResult<SimulationConfig> {
    let given = given.ok_or_else(|| PyTypeError::new_err("there are no settings"))?;
    let settings = Settings::read(given)?;
    let num_blocks = num_slots(settings.num_blocks)?;
    let scheduler = settings.scheduler()?;
    Ok(SimulationConfig {
        num_blocks,
        manager: settings.manager(block_size, num_blocks)?,
        scheduler,
        arrivals: arrivals(&settings.arrivals, settings.in_flight)?,
        latency: settings.latency.into(),
        recording: Recording {
            steps: settings.record_steps,
            events: settings.record_events,
            tables: settings.record_tables,
            validate: settings.validate,
        },
    })
}
