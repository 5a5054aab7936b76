//! The settings of the vLLM engine: a dictionary of declared names, typed in `_core.pyi`.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arguments::{num_slots, positive, retention, window};
use super::arrivals::ArrivalSetting;
use super::latency::LatencySettings;
use crate::engine::vllm::groups::{EagleHits, Group, GroupKind, GroupsConfig};
use crate::engine::vllm::{
    CacheConfig, Drafts, ManagerConfig, Recording, SchedulerConfig, SimulationConfig, UncachedFirst,
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
        groups: Option<Vec<GroupSettings>>,
        spec_method: Option<String>,
        eagle_hits: String,
        junction_checkpoints: bool,
        priorities: Option<Vec<u32>>,
        async_scheduling: bool,
        num_speculative_tokens: i64,
        accept: Vec<u32>,
        arrivals: ArrivalSetting,
        in_flight: i64,
        latency: LatencySettings,
        record_steps: bool,
        record_events: bool,
        record_tables: bool,
        record_limits: bool,
        record_states: bool,
        validate: bool,
    }
}

/// A group of layers that share a block table.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct GroupSettings {
    r#type: String,
    block_size: i64,
    window: i64,
    chunk: i64,
    checkpoint_blocks: i64,
    checkpoint_alignment: i64,
    eagle: bool,
}

impl GroupSettings {
    fn group(&self) -> PyResult<Group> {
        let kind = match self.r#type.as_str() {
            "full" => GroupKind::Full,
            "sliding_window" => GroupKind::SlidingWindow {
                window: positive("window", self.window)?,
            },
            "chunked_local" => GroupKind::ChunkedLocal {
                chunk: positive("chunk", self.chunk)?,
            },
            "mamba" => GroupKind::Mamba {
                checkpoint_alignment: match self.checkpoint_blocks {
                    0 => None,
                    1 => Some(positive("checkpoint_alignment", self.checkpoint_alignment)?),
                    other => {
                        let message = format!("checkpoint_blocks is {other}, it must be 0 or 1");
                        return Err(PyValueError::new_err(message));
                    }
                },
            },
            other => {
                return Err(PyValueError::new_err(format!(
                    "group type {other:?}: choose full, sliding_window, chunked_local or mamba"
                )));
            }
        };
        Ok(Group {
            kind,
            block_size: positive("block_size", self.block_size)?,
            eagle: self.eagle,
        })
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

fn arrivals(py: Python<'_>, given: &ArrivalSetting, in_flight: i64) -> PyResult<Arrivals> {
    if let Some(arrivals) = given.read(py, in_flight)? {
        return Ok(arrivals);
    }
    match given.name() {
        "sequential" => Ok(Arrivals::Sequential),
        _ => Err(given.unknown("trace, start, closed or sequential")),
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
    /// One group is left to the plain manager, unless a drafter changes what is found.
    fn cache(&self, block_size: u32, num_blocks: u32) -> PyResult<CacheConfig> {
        let manager = self.manager(block_size, num_blocks)?;
        let is_eagle = self.is_eagle()?;
        let groups = match &self.groups {
            Some(groups) if self.sliding_window.is_none() => groups
                .iter()
                .map(GroupSettings::group)
                .collect::<PyResult<_>>()?,
            Some(_) => {
                let message = "sliding_window: with groups, give it to the groups that have one";
                return Err(PyValueError::new_err(message));
            }
            None if is_eagle => vec![Group {
                kind: match manager.sliding_window {
                    None => GroupKind::Full,
                    Some(sliding) => GroupKind::SlidingWindow {
                        window: sliding.window,
                    },
                },
                block_size,
                eagle: false,
            }],
            None => return Ok(CacheConfig::One(manager)),
        };
        let drafts = self.drafts()?.map_or(0, |drafts| drafts.tokens);
        let mut config = GroupsConfig::new(groups, block_size);
        config.enable_caching = manager.enable_caching;
        config.max_model_len = manager.max_model_len;
        config.watermark_slots = manager.watermark_slots;
        config.retention = retention(self.retention_interval)?;
        config.uncached_first = manager.uncached_first;
        config.batch_tokens = self.window_cap.then_some(self.in_flight_tokens());
        config.chunk_tokens = self.chunk_tokens();
        config.draft_tokens = drafts;
        config.lookahead_slots = if is_eagle { drafts } else { 0 };
        config.eagle_hits = if is_eagle {
            self.eagle_hits()?
        } else {
            EagleHits::Keep
        };
        config.junction_checkpoints = self.junction_checkpoints;
        Ok(CacheConfig::Groups(config))
    }

    /// Whether the drafter reads the model's KV cache.
    fn is_eagle(&self) -> PyResult<bool> {
        match self.spec_method.as_deref() {
            None | Some("ngram") => Ok(false),
            Some("eagle") => Ok(true),
            Some(other) => {
                let message = format!("spec_method {other:?}: choose eagle or ngram");
                Err(PyValueError::new_err(message))
            }
        }
    }

    fn eagle_hits(&self) -> PyResult<EagleHits> {
        match self.eagle_hits.as_str() {
            "lookahead" => Ok(EagleHits::Lookahead),
            "drop" => Ok(EagleHits::Drop),
            "nodrop" => Ok(EagleHits::Keep),
            other => {
                let message = format!("eagle_hits {other:?}: choose lookahead, drop or nodrop");
                Err(PyValueError::new_err(message))
            }
        }
    }

    /// Tokens of the steps in flight.
    fn in_flight_tokens(&self) -> u32 {
        let in_flight = 1 + i64::from(self.async_scheduling);
        let tokens = self.max_num_batched_tokens.saturating_mul(in_flight);
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }

    /// Tokens of one request in one step at most.
    fn chunk_tokens(&self) -> u32 {
        let batch = u64::try_from(self.max_num_batched_tokens).unwrap_or(0);
        let tokens = match self.long_prefill_token_threshold {
            0 => batch,
            threshold => batch.min(threshold),
        };
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }

    fn manager(&self, block_size: u32, num_blocks: u32) -> PyResult<ManagerConfig> {
        let mut config = ManagerConfig::new(block_size);
        config.enable_caching = self.enable_caching;
        if let Some(length) = self.max_model_len {
            config.max_model_len = positive("max_model_len", length)?;
        }
        config.watermark_slots = watermark_slots(self.watermark, num_blocks)?;
        let cap = self.window_cap.then(|| i64::from(self.in_flight_tokens()));
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
            priorities: self.priorities.clone(),
            async_scheduling: self.async_scheduling,
            drafts: self.drafts()?,
        })
    }

    fn drafts(&self) -> PyResult<Option<Drafts>> {
        if self.num_speculative_tokens == 0 {
            return Ok(None);
        }
        Ok(Some(Drafts {
            tokens: positive("num_speculative_tokens", self.num_speculative_tokens)?,
            accept: self.accept.clone(),
        }))
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
        cache: settings.cache(block_size, num_blocks)?,
        scheduler,
        arrivals: arrivals(given.py(), &settings.arrivals, settings.in_flight)?,
        latency: settings.latency.into(),
        recording: Recording {
            steps: settings.record_steps,
            events: settings.record_events,
            tables: settings.record_tables,
            limits: settings.record_limits,
            states: settings.record_states,
            validate: settings.validate,
        },
    })
}
