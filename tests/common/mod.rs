//! What tests of servers have in common: requests as a workload, the scheduler, what is recorded.

use prefixsim::Stop;
use prefixsim::engine::vllm::replay::{Ids, Prompts};
use prefixsim::engine::vllm::{Recording, Room, SchedulerConfig, Workload};

/// Tokens of a block.
pub const BLOCK_SIZE: u32 = 4;

/// A request: the tokens of its prompt, how many it samples, and when it comes.
pub struct Request {
    pub prompt: Vec<u32>,
    pub output_len: u32,
    pub arrival_ns: u64,
}

/// Compiles requests in order of arrival; unknown outputs are unlike any others.
pub fn compiled(requests: &[Request]) -> Workload {
    let (mut offsets, mut tokens) = (vec![0], Vec::new());
    for request in requests {
        tokens.extend_from_slice(&request.prompt);
        offsets.push(tokens.len() as u64);
    }
    let length = |request: &Request| u32::try_from(request.prompt.len()).unwrap();
    let prompt_len: Vec<u32> = requests.iter().map(length).collect();
    let output_len: Vec<u32> = requests.iter().map(|request| request.output_len).collect();
    let arrival: Vec<u64> = requests.iter().map(|request| request.arrival_ns).collect();
    let prompts = Prompts {
        offsets: &offsets,
        ids: Ids::Tokens(&tokens),
        prompt_len: &prompt_len,
        salt: None,
        outputs: None,
    };
    let stop = Stop::default();
    Workload::compile(
        &prompts,
        &output_len,
        &arrival,
        BLOCK_SIZE,
        Room::UNBOUNDED,
        &stop,
    )
    .unwrap()
}

/// A scheduler with few requests at once, and chunks of prompts.
pub fn scheduler(max_num_batched_tokens: u64) -> SchedulerConfig {
    SchedulerConfig {
        max_num_seqs: 3,
        max_num_batched_tokens,
        enable_chunked_prefill: true,
        long_prefill_token_threshold: 0,
        long_prefill_token_threshold_adaptive: false,
        lone_threshold: false,
        pass_over: false,
        stats_preempted_apart: true,
        priorities: None,
        async_scheduling: false,
        drafts: None,
        reserve_full_isl: true,
        stats_at_lookup: false,
    }
}

/// Records steps, and checks every invariant after each.
pub fn checked_steps() -> Recording {
    Recording {
        steps: true,
        validate: true,
        ..Recording::default()
    }
}
