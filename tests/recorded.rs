//! Runs of SGLang and hashes of vLLM, recorded from their own code, without Python.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // Numbers are small.

use prefixsim::engine::sglang::{
    Columns, Drive, Recording, SchedulePolicy, SchedulerConfig, Simulation, SimulationConfig,
    Workload, simulate,
};
use prefixsim::hash::{Chain, Context, DigestAlgorithm, DigestChain, MultiModalItem};
use prefixsim::serving::{Arrivals, Latency};
use prefixsim::trace::{Csr, Trace};
use prefixsim::{Forest, Stop};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

mod recordings;
use recordings::{
    cache_config, column, csr, digest, eviction_rows, hex, lines, number, optional, text, tokens,
};

fn sglang_workload(rows: &[Value]) -> Workload {
    let prompts = column(rows, |row| tokens(&row["token_ids"]));
    let outputs = column(rows, |row| tokens(&row["output_token_ids"]));
    let (offsets, ids) = csr(&prompts);
    let (output_offsets, output_ids) = csr(&outputs);
    let trace = Trace::new(Csr::new(&offsets, &ids).unwrap())
        .outputs(Csr::new(&output_offsets, &output_ids).unwrap())
        .unwrap()
        .keep_last_output_token();
    let forest = Forest::compile(&trace, &Stop::default()).unwrap();
    let lengths = |lists: &[Vec<u32>]| lists.iter().map(|list| list.len() as u32).collect();
    let (prompt_len, output_len): (Vec<u32>, Vec<u32>) = (lengths(&prompts), lengths(&outputs));
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| rows[row]["id"].as_str().unwrap());
    let mut rank = vec![0; rows.len()];
    for (place, row) in (0..).zip(order) {
        rank[row] = place;
    }
    let columns = Columns {
        prompt_len: &prompt_len,
        output_len: &output_len,
        arrival_ns: &column(rows, |row| number(&row["timestamp_ms"]) * 1_000_000),
        priority: Some(&column(rows, |row| {
            row["priority"].as_i64().unwrap() as i32
        })),
        id_rank: Some(&rank),
    };
    Workload::new(&forest, &columns).unwrap()
}

fn sglang_config(case: &Value, steps: bool) -> SimulationConfig {
    let config = &case["config"];
    let size = |name: &str| number(&config[name]) as u32;
    SimulationConfig {
        cache: cache_config(&case["engine"], config),
        scheduler: SchedulerConfig {
            schedule_policy: SchedulePolicy::from_name(config["schedule_policy"].as_str().unwrap())
                .unwrap(),
            overlap: config["overlap"].as_bool().unwrap(),
            chunked_prefill_size: optional(&config["chunked_prefill_size"]),
            max_prefill_tokens: size("max_prefill_tokens"),
            max_running_requests: size("max_running_requests"),
            req_pool_size: size("req_pool_size"),
            schedule_conservativeness: config["schedule_conservativeness"].as_f64().unwrap(),
            max_new_slack: size("max_new_slack"),
            preemption_threshold: None,
        },
        drive: Drive::Scheduled(match config["arrivals"].as_str().unwrap() {
            "open_loop" => Arrivals::Trace,
            _ => Arrivals::Start,
        }),
        latency: Latency::Fixed(number(&config["dt_ms"]) * 1_000_000),
        recording: Recording {
            steps,
            evictions: true,
            tree: true,
            validate: steps,
        },
    }
}

fn step_rows(run: &Simulation) -> Vec<Value> {
    let (steps, kinds) = (&run.steps, ["-", "e", "d"]);
    (0..steps.kind.len())
        .map(|i| {
            json!([
                i + 1,
                steps.clock_ns[i] / 1_000_000,
                kinds[usize::from(steps.kind[i])],
                steps.requests[i],
                steps.tokens[i],
                steps.running[i],
                steps.waiting[i],
                steps.free[i],
                steps.evictable[i],
            ])
        })
        .collect()
}

/// The tree at the end: nodes, leaves, and a digest of its shape.
fn shape(tree: &[(Option<u32>, u32)]) -> Value {
    let mut below: Vec<Vec<String>> = vec![Vec::new(); tree.len()];
    let (mut roots, mut leaves) = (Vec::new(), 0);
    for (row, &(parent, length)) in tree.iter().enumerate().rev() {
        leaves += usize::from(below[row].is_empty());
        below[row].sort_unstable();
        let text = format!("({length}{})", below[row].concat());
        match parent {
            None => roots.push(text),
            Some(parent) => below[parent as usize].push(text),
        }
    }
    roots.sort_unstable();
    let sha256 = hex(&Sha256::digest(roots.concat()));
    json!({"nodes": tree.len(), "leaves": leaves, "shape_sha256": sha256})
}

#[test]
fn runs_of_sglang() {
    let rows = lines("sglang/traces/burst_a.jsonl.gz");
    let workload = sglang_workload(&rows);
    for name in [
        "r09_sched_burst_dfsweight_no_p16_lru_c192_8000",
        "u23_sched_burst_lpm_ov_p1_lru_c256_6000",
    ] {
        let case: Value =
            serde_json::from_str(&text(&format!("sglang/cases/{name}.json.gz"))).unwrap();
        let (recorded, totals) = (case["requests"].as_array().unwrap(), &case["totals"]);
        let stop = Stop::default();
        let run = simulate(&workload, &sglang_config(&case, true), &stop).unwrap();
        let steps = step_rows(&run);
        for (row, expected) in steps.iter().zip(case["step_log_head"].as_array().unwrap()) {
            assert_eq!(row, expected, "{name}");
        }
        assert_eq!(digest(&steps), totals["step_log_sha256"]);
        let evictions = eviction_rows(&run.evictions);
        assert_eq!(digest(&evictions), totals["evictions_sha256"]);
        assert_eq!(shape(&run.tree), case["tree_end"]);
        let log = &run.requests;
        for (i, row) in recorded.iter().enumerate() {
            assert_eq!(log.hit_tokens[i], number(&row["cached_tokens"]) as u32);
            for (column, field) in [
                (&log.admit_step, "admit_step"),
                (&log.first_token_step, "first_token_step"),
                (&log.finish_step, "finish_step"),
            ] {
                assert_eq!(column[i], number(&row[field]), "{name}: {field} of {i}");
            }
        }
        let sums = &run.totals;
        for (value, field) in [
            (sums.steps, "steps"),
            (sums.final_clock_ns / 1_000_000, "final_clock_ms"),
            (sums.evicted.calls, "evict_calls"),
            (sums.evicted.nodes, "evicted_nodes"),
            (sums.evicted.tokens, "evicted_tokens"),
            (sums.free_end, "free_end"),
            (sums.evictable_end, "evictable_end"),
        ] {
            assert_eq!(value, number(&totals[field]), "{name}: {field}");
        }
        let step_ns = number(&case["config"]["dt_ms"]) as f64 * 1e6;
        assert!((sums.held_ns - sums.held_steps * step_ns).abs() <= 1e-6 * sums.held_ns);
        // Without a row per step, steps in which only counters change are done in one go.
        let at_once = simulate(&workload, &sglang_config(&case, false), &stop).unwrap();
        assert_eq!(at_once.requests, run.requests);
        assert_eq!(at_once.evictions, run.evictions);
        assert_eq!((at_once.totals, at_once.tree), (run.totals, run.tree));
        assert_eq!(at_once.readmissions, run.readmissions);
    }
}

/// What the recorded cases isolate sequences by.
fn context(case: &str) -> Context {
    let mut context = Context::default();
    if case.contains("salt") {
        "tenant-1".clone_into(&mut context.salt);
    }
    if case.contains("lora") {
        context.lora = Some(("my-lora".to_owned(), "/adapters/a".to_owned()));
    }
    if case == "mm" {
        let images = [("imghash0", 10, 12), ("imghash1", 24, 20)];
        context.multimodal = images
            .map(|(identifier, offset, length)| MultiModalItem {
                identifier: identifier.to_owned(),
                offset,
                length,
            })
            .to_vec();
    }
    context
}

#[test]
fn hashes_of_vllm() {
    for name in ["default_seed", "seed0"] {
        let name = format!("vllm/hash_vectors_{name}.json");
        let vectors: Vec<Value> = serde_json::from_str(&text(&name)).unwrap();
        assert!(!vectors.is_empty());
        for vector in vectors {
            let algorithm = match vector["algo"].as_str().unwrap() {
                "sha256" => DigestAlgorithm::Sha256,
                "sha256_cbor" => DigestAlgorithm::Sha256Cbor,
                "xxhash" => DigestAlgorithm::Xxhash,
                _ => DigestAlgorithm::XxhashCbor,
            };
            let chain = DigestChain::new(algorithm, vector["seed"].as_str());
            assert_eq!(hex(&chain.bytes(&chain.none_hash())), vector["none_hash"]);
            let context = context(vector["case"].as_str().unwrap());
            let size = number(&vector["block_size"]) as usize;
            let (ids, root) = (tokens(&vector["tokens"]), chain.root(&context));
            let mut keys = Vec::new();
            chain.extend(root, &context, 0, &ids, size, &mut keys);
            // Anew from the middle: the position of a block is part of what it hashes.
            let rest = keys.split_off(1);
            let mut again = Vec::new();
            chain.extend(keys[0], &context, 1, &ids[size..], size, &mut again);
            assert_eq!(again, rest);
            keys.extend(rest);
            let found: Vec<String> = keys.iter().map(|key| hex(&chain.bytes(key))).collect();
            assert_eq!(json!(found), vector["hashes"], "{}", vector["case"]);
        }
    }
}
