//! Operations on caches and runs of engines, with every invariant checked after each step.

use prefixsim::Stop;
use prefixsim::engine::sglang::{CacheConfig, Insertion, OnlineCache, Policy, Prompt, Version};
use prefixsim::engine::vllm;
use prefixsim::engine::vllm::replay::{Ids, Prompts};
use prefixsim::engine::vllm::{
    Admission, BlockManager, ManagerConfig, Recording, Retention, Room, SchedulerConfig,
    SimulationConfig, SlidingWindow, UncachedFirst, Workload, simulate,
};
use prefixsim::hash::{Context, Xxh3Chain};
use prefixsim::serving::{Arrivals, Latency};

use super::{Choices, csr, sound};

fn manager_config(choices: &mut Choices<'_>) -> ManagerConfig {
    let mut config = ManagerConfig::new(1 << choices.below(4));
    config.uncached_first = match choices.below(4) {
        0 => UncachedFirst::Always,
        1 => UncachedFirst::WithCaching,
        2 => UncachedFirst::WithWindow,
        _ => UncachedFirst::Never,
    };
    config.enable_caching = choices.below(8) != 0;
    config.watermark_slots = choices.below(4);
    if choices.below(4) == 0 {
        config.max_model_len = choices.below(64) + 1;
    }
    if choices.below(3) == 0 {
        config.sliding_window = Some(SlidingWindow {
            window: choices.below(24) + 1,
            retention: match choices.below(3) {
                0 => Retention::Dense,
                1 => Retention::PromptEnd,
                _ => Retention::Interval(choices.below(33)),
            },
            batch_tokens: choices.flag().then(|| choices.below(32) + 1),
        });
    }
    config
}

/// Any calls in any order keep every invariant; a hit is what a lookup promised.
pub fn block_manager(data: &[u8]) {
    let mut choices = Choices(data);
    let config = manager_config(&mut choices);
    let num_blocks = (choices.below(8) != 0).then(|| choices.below(48));
    let plain = Context::default();
    let Some(mut cache) = sound(BlockManager::new(num_blocks, config, Xxh3Chain)) else {
        return;
    };
    let mut next = 0_u32;
    while !choices.is_empty() {
        let chosen = choices.below(next.clamp(1, 255));
        match choices.below(8) {
            0..=2 => {
                let tokens = choices.tokens(40);
                let admission = Admission {
                    chunk: choices.flag().then(|| choices.below(16)),
                    must_fit: choices.flag(),
                };
                let hit = sound(cache.lookup(&tokens, &plain));
                if let Some(Some(made)) = sound(cache.allocate(next, &tokens, &plain, admission)) {
                    assert_eq!(Some(made.hit_tokens), hit);
                    assert!((made.hit_tokens as usize) < tokens.len());
                }
                next += 1;
            }
            3 => drop(sound(cache.extend(
                &chosen,
                choices.0.first().map(|&byte| u32::from(byte % 32)),
            ))),
            4 => drop(sound(cache.append(&chosen, &choices.tokens(24)))),
            5 => drop(sound(cache.free(&chosen))),
            6 => drop(sound(cache.evict(&[choices.below(64)]))),
            _ => drop(cache.reset()),
        }
        cache.validate().unwrap();
    }
}

/// A small trace is served to its end, or refused, with every invariant checked after every step.
pub fn vllm(data: &[u8]) {
    let mut choices = Choices(data);
    let manager = manager_config(&mut choices);
    let (size, max_model_len) = (manager.block_size, manager.max_model_len);
    let config = SimulationConfig {
        num_blocks: choices.below(48),
        scheduler: SchedulerConfig {
            max_num_seqs: choices.below(6),
            max_num_batched_tokens: u64::from(choices.below(64)),
            enable_chunked_prefill: choices.flag(),
            long_prefill_token_threshold: u64::from(choices.below(16)),
            lone_threshold: choices.flag(),
            long_prefill_token_threshold_adaptive: choices.flag(),
            reserve_full_isl: choices.flag(),
            pass_over: choices.flag(),
            stats_at_lookup: choices.flag(),
            stats_preempted_apart: choices.flag(),
            priorities: None,
            async_scheduling: false,
            drafts: None,
        },
        arrivals: match choices.below(4) {
            0 => Arrivals::Trace,
            1 => Arrivals::Start,
            2 => Arrivals::Closed(choices.below(5)),
            _ => Arrivals::Sequential,
        },
        latency: Latency::Fixed(u64::from(choices.below(5))),
        recording: Recording {
            steps: choices.flag(),
            events: choices.flag(),
            tables: choices.flag(),
            limits: false,
            states: false,
            validate: true,
        },
        cache: vllm::CacheConfig::One(manager),
    };
    let (mut prompts, mut output_len, mut arrival, mut now) = (vec![], vec![], vec![], 0);
    while !choices.is_empty() && prompts.len() < 24 {
        prompts.push(choices.tokens(48));
        output_len.push(choices.below(24));
        now += u64::from(choices.below(16));
        arrival.push(now);
    }
    let (offsets, tokens) = csr(&prompts);
    let prompt_len: Vec<u32> = prompts.iter().map(|p| p.len() as u32).collect();
    let columns = Prompts {
        offsets: &offsets,
        ids: Ids::Tokens(&tokens),
        prompt_len: &prompt_len,
        salt: None,
        outputs: None,
    };
    let stop = Stop::default();
    let room = Room {
        num_blocks: None,
        max_model_len,
    };
    let made = Workload::compile(&columns, &output_len, &arrival, size, room, &stop);
    if let Some(workload) = sound(made)
        && let Some(run) = sound(simulate(&workload, &config, &stop))
    {
        assert_eq!(run.requests.hit_tokens.len(), prompts.len());
        for (hit, prompt) in run.requests.hit_tokens.iter().zip(&prompt_len) {
            assert!(hit < prompt);
        }
    }
}

/// Any calls in any order keep every invariant of the radix cache.
pub fn sglang(data: &[u8]) {
    let mut choices = Choices(data);
    let config = CacheConfig {
        version: Version::ALL[choices.below(4) as usize].1,
        page_size: choices.below(5),
        capacity_tokens: (choices.below(8) != 0).then(|| u64::from(choices.below(128))),
        policy: Policy::ALL[choices.below(8) as usize].1,
        disabled: choices.below(16) == 1,
    };
    let Some(mut cache) = sound(OnlineCache::new(&config)) else {
        return;
    };
    let (mut next, mut handle) = (0_u32, 0);
    while !choices.is_empty() {
        let chosen = choices.below(next.clamp(1, 255));
        match choices.below(12) {
            0..=2 => {
                let tokens = choices.tokens(40);
                let salt = choices.flag().then_some("a");
                let prompt = prompt(&tokens, salt);
                let hit = sound(cache.admit(next, prompt, i64::from(choices.below(3))));
                assert!(hit.is_none_or(|hit| (hit as usize) < tokens.len()));
                next += 1;
            }
            3..=4 => drop(sound(cache.extend(&chosen, None))),
            5 => drop(sound(cache.extend(&chosen, Some(choices.below(40))))),
            6 => drop(sound(cache.append(&chosen, &choices.tokens(16)))),
            7 => drop(sound(cache.finish(&chosen))),
            8 => drop(sound(cache.retract(&chosen))),
            9 => {
                let tokens = choices.tokens(40);
                if let Some((hit, node)) = sound(cache.find(prompt(&tokens, None))) {
                    assert!(hit as usize <= tokens.len());
                    handle = node;
                }
            }
            10 => match choices.below(4) {
                0 => drop(sound(cache.lock(handle))),
                1 => drop(sound(cache.unlock(handle))),
                2 => drop(cache.evict(u64::from(choices.below(64)))),
                _ => drop(cache.reset()),
            },
            _ => {
                let insertion = Insertion {
                    priority: i64::from(choices.below(3)),
                    inserted: 0,
                    chunked: choices.flag(),
                };
                let tokens = choices.tokens(40);
                sound(cache.insert(prompt(&tokens, None), &insertion));
            }
        }
        cache.validate().unwrap();
    }
}

fn prompt<'t>(tokens: &'t [u32], cache_salt: Option<&'t str>) -> Prompt<'t> {
    Prompt {
        tokens,
        cache_salt,
        extra_key: None,
    }
}
