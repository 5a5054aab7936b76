//! A trace through the cache of two tiers, one request after the other.

use super::{Found, HiCache, HiCacheConfig};
use crate::engine::sglang::lease::Lease;
use crate::engine::sglang::tree::Insertion;
use crate::engine::sglang::trie::NodeId;
use crate::engine::sglang::workload::Workload;
use crate::error::{Error, Result};
use crate::index::to_u32;
use crate::stop::Stop;

/// Requests between two looks at the stop flag.
const STOP_INTERVAL: u32 = 1024;

/// One row per request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HiCacheLog {
    /// Prompt tokens found on the device.
    pub device_tokens: Vec<u32>,
    /// Prompt tokens behind these found on the host only.
    pub host_tokens: Vec<u32>,
    /// Of these, those loaded back: all or none.
    pub loaded_tokens: Vec<u32>,
    /// Calls of device eviction: tokens asked for.
    pub requested: Vec<u64>,
    /// Tokens each call freed.
    pub freed: Vec<u64>,
    /// Where the calls of each request end.
    pub call_ends: Vec<u64>,
    /// Sums.
    pub totals: HiCacheTotals,
}

/// Sums, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HiCacheTotals {
    /// Copied to the host.
    pub written: u64,
    /// Loaded back.
    pub loaded: u64,
    /// Host copies given up, whatever the reason.
    pub host_evicted: u64,
    /// Free on the device at the end.
    pub free_end: u64,
    /// On the device at the end in nodes that nothing holds.
    pub evictable_end: u64,
    /// Free on the host at the end.
    pub host_free_end: u64,
}

/// Runs a trace to its end; `with_output`: outputs are computed and cached, too; `validate`: check every
/// invariant after every request (slow).
///
/// # Errors
/// [`Error::Range`] if the configuration is not usable, [`Error::NeverFits`] if a request does not fit
/// the device, [`Error::Interrupted`].
pub fn run_hicache(
    workload: &Workload,
    config: &HiCacheConfig,
    with_output: bool,
    validate: bool,
    stop: &Stop,
) -> Result<HiCacheLog> {
    let mut cache = HiCache::new(config, workload)?;
    let mut log = HiCacheLog::default();
    for request in 0..to_u32(workload.len()) {
        if request.is_multiple_of(STOP_INTERVAL) {
            stop.check()?;
        }
        let prompt = workload.prompt_len(request);
        let lease = Lease::new(request, prompt, workload.priority(request));
        let output = if with_output {
            workload.output_len(request)
        } else {
            1
        };
        cache.serve(lease, output, &mut log)?;
        for (requested, freed) in cache.calls.drain(..) {
            log.requested.push(requested);
            log.freed.push(freed);
        }
        log.call_ends.push(log.requested.len() as u64);
        if validate {
            cache.validate(0)?;
        }
    }
    log.totals = cache.totals;
    log.totals.free_end = cache.free;
    log.totals.evictable_end = cache.evictable;
    log.totals.host_free_end = cache.host_free;
    Ok(log)
}

impl HiCache<&Workload> {
    /// Serves one request that samples `output` tokens, and completes its transfers.
    fn serve(&mut self, mut lease: Lease, output: u32, log: &mut HiCacheLog) -> Result<()> {
        let prompt = lease.prompt;
        let found = self.find(lease.sequence, prompt - 1);
        let loaded = self.admit(&mut lease, &found);
        log.device_tokens.push(found.device);
        log.host_tokens.push(found.host);
        log.loaded_tokens.push(if loaded { found.host } else { 0 });
        let page = u64::from(self.trie.page());
        let slack = if page > 1 { page } else { 0 };
        self.make_room(u64::from(prompt - lease.allocated) + slack);
        self.take(&mut lease, prompt)?;
        if output > 1 {
            self.checkpoint(&mut lease, prompt);
            while lease.allocated < prompt + output - 1 {
                self.make_room(page);
                let upto = lease.allocated + 1;
                self.take(&mut lease, upto)?;
            }
        }
        self.finish(&mut lease);
        self.complete_transfers();
        Ok(())
    }

    /// Loads back what was found on the host and holds all that is on the device.
    fn admit(&mut self, lease: &mut Lease, found: &Found) -> bool {
        let loaded = self.load_back(found);
        let (tokens, node) = if loaded {
            (found.device + found.host, found.last)
        } else {
            (found.device, found.last_device)
        };
        self.lock(node);
        lease.allocated = tokens;
        lease.in_tree = tokens;
        lease.node = node;
        loaded
    }

    fn make_room(&mut self, demand: u64) {
        if demand > self.free {
            if self.version.evicts_shortfall() {
                self.evict(demand - self.free);
            } else {
                self.evict(demand);
            }
        }
    }

    fn take(&mut self, lease: &mut Lease, upto: u32) -> Result<()> {
        let need = self.ceil(upto) - self.ceil(lease.allocated);
        if need > self.free {
            return Err(Error::never_fits(format!(
                "request {}: {upto} tokens do not fit a pool of {} tokens, give more or leave the \
                 request out",
                lease.sequence, self.capacity
            )));
        }
        self.free -= need;
        lease.allocated = upto;
        Ok(())
    }

    /// Publishes the first `upto` tokens while the request goes on.
    fn checkpoint(&mut self, lease: &mut Lease, upto: u32) {
        let len = self.trie.floor(upto);
        let mut end = self.publish(lease, len);
        if self.is_unified() {
            lease.inserted = lease.inserted.max(len);
            let prompt = self.trie.floor(lease.prompt);
            if 0 < prompt && prompt < len {
                let insertion = Insertion {
                    priority: lease.priority + 1,
                    inserted: prompt,
                    chunked: false,
                };
                self.insert(lease.sequence, prompt, &insertion, prompt);
            }
        } else {
            end = self.find(lease.sequence, len).last;
        }
        self.unlock(lease.node);
        self.lock(end);
        lease.node = end;
        lease.in_tree = len;
    }

    fn publish(&mut self, lease: &Lease, len: u32) -> NodeId {
        let insertion = Insertion {
            priority: lease.priority,
            inserted: lease.inserted,
            chunked: false,
        };
        let inserted = self.insert(lease.sequence, len, &insertion, lease.in_tree);
        self.free += inserted.duplicates;
        inserted.node
    }

    /// Ends a request: what is computed stays in the tree in whole pages.
    fn finish(&mut self, lease: &mut Lease) {
        let upto = lease.allocated;
        if self.is_unified() {
            self.checkpoint(lease, upto);
        } else {
            let len = self.trie.floor(upto);
            self.publish(lease, len);
            lease.in_tree = len;
        }
        self.free += self.ceil(upto) - u64::from(lease.in_tree);
        self.unlock(lease.node);
    }
}
