//! Operations recorded from SGLang's radix caches, the whole state compared after each.

#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // Numbers are small.

use std::collections::HashMap;

use prefixsim::engine::sglang::{NodeView, OnlineCache, Prompt};
use serde_json::{Value, json};

mod recordings;
use recordings::{cache_config, eviction_rows, lines, number, optional, text, tokens};

/// A cache and the names of its recorded engine.
struct Operations {
    cache: OnlineCache<String>,
    page: usize,
}

impl Operations {
    fn new(engine: &Value, config: &Value) -> Self {
        let mut cache = OnlineCache::new(&cache_config(engine, config)).unwrap();
        cache.record_evictions();
        Self {
            cache,
            page: number(&config["page_size"]) as usize,
        }
    }

    /// Carries out one operation; returns its result, the evictions and the state after it.
    fn step(&mut self, op: &Value) -> Value {
        let cache = &mut self.cache;
        let id = op[1].as_str().unwrap_or_default().to_owned();
        let ids = |place: usize| tokens(&op[place]);
        let prompt = |tokens, extra: usize| Prompt {
            tokens,
            extra_key: op[extra].as_str(),
            cache_salt: op[extra + 1].as_str(),
        };
        let result = match op[0].as_str().unwrap() {
            "add" => {
                let priority = op[5].as_i64().unwrap();
                Some(cache.admit(id, prompt(&ids(2), 3), priority).unwrap())
            }
            "match" => Some(cache.find(prompt(&ids(1), 2)).unwrap().0),
            "ext" => {
                assert!(cache.extend(&id, optional(&op[2])).unwrap());
                None
            }
            "dec" => {
                assert!(cache.append(&id, &[number(&op[2]) as u32]).unwrap());
                None
            }
            "fin" => {
                cache.finish(&id).unwrap();
                None
            }
            "drop" => {
                cache.retract(&id).unwrap();
                None
            }
            "evict" => {
                cache.evict(number(&op[1]));
                None
            }
            "reset" => {
                assert!(cache.reset());
                None
            }
            other => panic!("{other}"),
        };
        cache.validate().unwrap();
        let evictions: Vec<Value> = eviction_rows(&cache.take_evictions())
            .iter()
            .map(|row| json!([row[1], row[2]]))
            .collect();
        json!([result, evictions, self.state()])
    }

    fn state(&self) -> Value {
        let mut below: HashMap<Option<u64>, Vec<NodeView<'_>>> = HashMap::new();
        for node in self.cache.nodes() {
            below.entry(node.parent).or_default().push(node);
        }
        for nodes in below.values_mut() {
            nodes.sort_by_key(|node| {
                let name = node.namespace.clone();
                (
                    name.extra_key.unwrap_or_default(),
                    name.cache_salt.unwrap_or_default(),
                    node.tokens[..self.page].to_vec(),
                )
            });
        }
        let (mut rows, mut stamps) = (Vec::new(), Vec::new());
        let mut to_visit: Vec<(&NodeView<'_>, i64)> = Vec::new();
        let children = |parent: Option<u64>| below.get(&parent).into_iter().flatten().rev();
        to_visit.extend(children(None).map(|node| (node, -1)));
        while let Some((node, above)) = to_visit.pop() {
            let (length, first) = (node.tokens.len(), node.tokens[0]);
            let row = rows.len() as i64;
            rows.push(json!([
                above,
                length,
                first,
                node.lock,
                node.hits,
                node.priority
            ]));
            stamps.push((node.accessed, node.created));
            to_visit.extend(children(Some(node.handle)).map(|node| (node, row)));
        }
        let sorted = |key: fn(&(u64, u64)) -> u64| {
            let mut order: Vec<usize> = (0..stamps.len()).collect();
            order.sort_by_key(|&row| key(&stamps[row]));
            order
        };
        let cache = self.cache.cache();
        json!({
            "nodes": rows,
            "access": sorted(|stamp| stamp.0),
            "created": sorted(|stamp| stamp.1),
            "evictable": cache.tree().evictable(),
            "protected": cache.tree().protected(),
            "free": cache.free(),
        })
    }
}

#[test]
fn operations_of_sglang() {
    let recorded: Value = serde_json::from_str(&text("sglang/fuzz_ops.json.gz")).unwrap();
    for sequence in recorded["seqs"].as_array().unwrap() {
        let config = &sequence["config"];
        let mut operations = Operations::new(&config["engine"], config);
        let ops = sequence["ops"].as_array().unwrap();
        for (op, expected) in ops.iter().zip(sequence["states"].as_array().unwrap()) {
            assert_eq!(&operations.step(op), expected, "{config}: {op}");
        }
    }
}

#[test]
fn edges_of_sglang() {
    let config = json!({"page_size": 4, "capacity_tokens": 64, "policy": "lru"});
    let mut caches: HashMap<String, Operations> = HashMap::new();
    for line in lines("sglang/edge_trace.jsonl") {
        let engine = line["engine"].to_string();
        let operations = caches
            .entry(engine)
            .or_insert_with(|| Operations::new(&line["engine"], &config));
        let expected = json!([line["result"], line["ev"], line["state"]]);
        assert_eq!(operations.step(&line["op"]), expected, "{}", line["note"]);
    }
}
