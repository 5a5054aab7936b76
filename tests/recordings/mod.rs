//! Recordings of servers' code as tests read them: JSON, lines of it, columns, digests.

#![allow(dead_code)] // Each test uses some of it.
#![allow(clippy::cast_possible_truncation)] // Numbers are small.

use std::fmt::Write;
use std::io::Read;

use flate2::read::GzDecoder;
use prefixsim::engine::sglang::{CacheConfig, EvictionLog, Policy, Version};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub fn text(name: &str) -> String {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap();
    let mut text = String::new();
    let read = match bytes[..] {
        [0x1f, 0x8b, ..] => GzDecoder::new(&bytes[..]).read_to_string(&mut text),
        _ => bytes.as_slice().read_to_string(&mut text),
    };
    read.unwrap();
    text
}

pub fn lines(name: &str) -> Vec<Value> {
    let text = text(name);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub fn tokens(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap();
    ids.iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

pub fn optional(value: &Value) -> Option<u32> {
    value.as_u64().map(|value| value as u32)
}

pub fn csr(lists: &[Vec<u32>]) -> (Vec<u64>, Vec<u32>) {
    let mut offsets = vec![0];
    for list in lists {
        offsets.push(offsets[offsets.len() - 1] + list.len() as u64);
    }
    (offsets, lists.concat())
}

pub fn column<T>(rows: &[Value], read: impl Fn(&Value) -> T) -> Vec<T> {
    rows.iter().map(read).collect()
}

/// The lines of a list in compact JSON, as the recordings digest them.
pub fn digest(rows: &[Value]) -> String {
    let mut hasher = Sha256::new();
    for row in rows {
        hasher.update(serde_json::to_string(row).unwrap());
        hasher.update("\n");
    }
    hex(&hasher.finalize())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub fn cache_config(engine: &Value, config: &Value) -> CacheConfig {
    let mut policy = Policy::from_name(config["policy"].as_str().unwrap()).unwrap();
    if let Policy::Tlru {
        threshold,
        next_prompt_estimate,
    } = &mut policy
    {
        let own = &config["policy_config"];
        *threshold = own["threshold"].as_i64().unwrap();
        *next_prompt_estimate = own["next_prompt_estimate"].as_i64().unwrap();
    }
    CacheConfig {
        version: Version::from_name(engine.as_str().unwrap()).unwrap(),
        page_size: number(&config["page_size"]) as u32,
        capacity_tokens: config["capacity_tokens"].as_u64(),
        policy,
        disabled: false,
    }
}

pub fn eviction_rows(log: &EvictionLog) -> Vec<Value> {
    let mut start = 0;
    let rows = log.at.iter().zip(&log.requested).zip(&log.ends);
    rows.map(|((at, requested), &end)| {
        let lengths = &log.lengths[start..end as usize];
        start = end as usize;
        json!([at, requested, lengths])
    })
    .collect()
}
