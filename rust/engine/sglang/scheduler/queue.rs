//! The order of the waiting queue.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::{SchedulePolicy, Scheduler};
use crate::engine::sglang::policy::Policy;
use crate::engine::sglang::trie::NodeId;
use crate::index::to_f64;

/// Waiting requests beyond which the cache is not looked at.
const MOST_LOOKED_UP: usize = 128;
/// Tokens found in the cache up to which a request is compared with others that wait, and tokens in
/// common from which it waits for one of them to be computed.
const IN_BATCH: u32 = 32;
/// Prefill attempts between two refreshes of what waiting requests will need.
const REFRESH_INTERVAL: u64 = 32;

/// What looking up the waiting requests gave.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// For each, in queue order: tokens found, where they end, and whether it is late: another one that
    /// begins the same should be computed first.
    rows: Vec<Lookup>,
    /// Beginnings of the requests that are not late.
    beginnings: HashSet<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Lookup {
    request: u32,
    tokens: u32,
    node: NodeId,
    late: bool,
}

impl Scheduler<'_> {
    /// Sorts the waiting queue.
    pub(super) fn order_waiting(&mut self) {
        let policy = match self.config.schedule_policy {
            SchedulePolicy::Lpm | SchedulePolicy::Hrrn if self.waiting.len() > MOST_LOOKED_UP => {
                None
            }
            policy => Some(policy),
        };
        match policy {
            None => {}
            Some(SchedulePolicy::Fcfs) => self.order_by_arrival(),
            Some(SchedulePolicy::Lof) => self.order_by_output(),
            Some(SchedulePolicy::Lpm) => self.order_by_prefix(),
            Some(SchedulePolicy::DfsWeight) => self.order_by_subtree(),
            Some(SchedulePolicy::Hrrn) => self.order_by_response_ratio(),
        }
        let blind = matches!(
            policy,
            None | Some(SchedulePolicy::Fcfs | SchedulePolicy::Lof)
        );
        if blind && self.version.is_0523() && !self.waiting.is_empty() {
            self.refresh_waiting();
        }
    }

    /// Every now and then makes the prefixes of waiting requests recent, those of the first most.
    fn refresh_waiting(&mut self) {
        if self.cache.tree().policy() != Policy::Lru {
            return;
        }
        if self.blind_attempts.is_multiple_of(REFRESH_INTERVAL) {
            let first = self.waiting.len().min(MOST_LOOKED_UP);
            for place in (0..first).rev() {
                let request = self.waiting[place];
                let known = self.request(request).known();
                self.cache.tree_mut().find(request, known);
            }
        }
        self.blind_attempts += 1;
    }

    fn order_by_arrival(&mut self) {
        if self.config.preemption_threshold.is_some() {
            let (workload, requests) = (self.workload, &self.requests);
            self.waiting
                .make_contiguous()
                .sort_by_key(|&r| (-workload.priority(r), requests[r as usize].entry));
        }
    }

    fn order_by_output(&mut self) {
        let (workload, requests) = (self.workload, &self.requests);
        let output = |r: u32| Reverse(requests[r as usize].max_new);
        if self.config.preemption_threshold.is_some() {
            self.waiting
                .make_contiguous()
                .sort_by_key(|&r| (-workload.priority(r), output(r)));
        } else {
            self.waiting.make_contiguous().sort_by_key(|&r| output(r));
        }
    }

    /// Looks every waiting request up, which touches what is found.
    fn look_up(&mut self) {
        let mut lookups = std::mem::take(&mut self.lookups);
        lookups.rows.clear();
        lookups.beginnings.clear();
        for &request in &self.waiting {
            let row = &mut self.requests[request as usize];
            let known = row.known();
            let found = self.cache.tree_mut().find(request, known);
            row.prefix = found.tokens;
            // Two requests share their first tokens if and only if they share a position.
            let late = found.tokens <= IN_BATCH
                && known >= IN_BATCH
                && !lookups
                    .beginnings
                    .insert(self.workload.position(request, IN_BATCH));
            lookups.rows.push(Lookup {
                request,
                tokens: found.tokens,
                node: found.node,
                late,
            });
        }
        self.lookups = lookups;
    }

    /// Tokens of a lookup that can be used: the last known one is always computed.
    fn usable(&self, lookup: &Lookup) -> u32 {
        lookup.tokens.min(self.request(lookup.request).known() - 1)
    }

    fn sort_lookups<K: PartialOrd>(&mut self, key: impl Fn(&Self, &Lookup) -> K) {
        self.look_up();
        let mut keyed: Vec<(K, u32)> = Vec::with_capacity(self.waiting.len());
        for lookup in &self.lookups.rows {
            keyed.push((key(self, lookup), lookup.request));
        }
        keyed.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        self.waiting.clear();
        self.waiting
            .extend(keyed.into_iter().map(|(_, request)| request));
    }

    /// `lpm`: longest prefix first, late ones last.
    fn order_by_prefix(&mut self) {
        self.sort_lookups(|scheduler, lookup| {
            let tokens = if scheduler.version.is_0509() {
                lookup.tokens
            } else {
                scheduler.usable(lookup)
            };
            (lookup.late, Reverse(if lookup.late { 0 } else { tokens }))
        });
    }

    /// `hrrn`: most tokens processed since the request came, per uncached token of it.
    fn order_by_response_ratio(&mut self) {
        self.sort_lookups(|scheduler, lookup| {
            let row = scheduler.request(lookup.request);
            let cached = scheduler.usable(lookup);
            let key = if lookup.late {
                f64::INFINITY
            } else if row.lease.prompt <= cached {
                f64::NEG_INFINITY
            } else {
                let uncached = f64::from(row.lease.prompt - cached);
                -(to_f64(scheduler.processed - row.processed) / uncached)
            };
            (key, scheduler.workload.id_rank(lookup.request))
        });
    }

    /// `dfs-weight`: depth first through the tree, children with most waiting requests first.
    fn order_by_subtree(&mut self) {
        self.look_up();
        let trie = self.cache.tree().trie();
        let mut weights: HashMap<NodeId, u32> = HashMap::new();
        let mut children: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        let mut own: HashMap<NodeId, Vec<u32>> = HashMap::new();
        for lookup in &self.lookups.rows {
            own.entry(lookup.node).or_default().push(lookup.request);
            let mut node = lookup.node;
            loop {
                let weight = weights.entry(node).or_default();
                *weight += 1;
                if node == NodeId::ROOT {
                    break;
                }
                let parent = trie.node(node).parent;
                if *weight == 1 {
                    children.entry(parent).or_default().push(node);
                }
                node = parent;
            }
        }
        let mut order = Vec::with_capacity(self.waiting.len());
        // Nodes to enter (false) and to leave (true).
        let mut stack = vec![(NodeId::ROOT, false)];
        while let Some((node, leave)) = stack.pop() {
            if leave {
                order.append(own.get_mut(&node).unwrap_or(&mut Vec::new()));
                continue;
            }
            stack.push((node, true));
            let mut below = children.remove(&node).unwrap_or_default();
            below.sort_by_key(|child| (Reverse(weights[child]), trie.node(*child).order));
            stack.extend(below.into_iter().rev().map(|child| (child, false)));
        }
        self.waiting = order.into();
    }
}
