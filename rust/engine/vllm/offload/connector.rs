//! The scheduler's side of vLLM's `OffloadingConnector` (`kv_connector/v1/offloading/scheduler.py`).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::copies::{Copies, Copy, Kind};
use super::disk::{Answer, Disk, DiskConfig};
use super::log::{Fate, OffloadLog, TransferKind};
use super::{Context, HostTier, HostTierConfig, Presence};
use crate::engine::vllm::{Slot, Workload};
use crate::error::Result;
use crate::index::to_u32;

/// How vLLM offloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffloadConfig {
    /// Host memory.
    pub host: HostTierConfig,
    /// Blocks of the device in a chunk (`blocks_per_chunk`).
    pub blocks_per_chunk: u32,
    /// Generated tokens are not stored (`offload_prompt_only`).
    pub prompt_only: bool,
    /// Tokens that a step may load inside itself (`sync_load_budget_bytes`); 0: all loads are
    /// asynchronous.
    pub sync_load_tokens: u64,
    /// Nanoseconds to load a chunk.
    pub load_ns: u64,
    /// Nanoseconds to store one.
    pub store_ns: u64,
    /// Copies start when the step that asked for them ends, not when it begins.
    pub start_after_step: bool,
    /// The tier below.
    pub disk: Option<DiskConfig>,
}

/// What the connector remembers of a request in the server.
#[derive(Debug, Default)]
pub(super) struct Offloaded {
    pub request: u32,
    context: Context<u32>,
    /// The first chunk that was not offered.
    next: u32,
    /// Copies that are not finished.
    jobs: Vec<u64>,
    /// Chunks brought up from disk since the last admission.
    promoted: HashSet<u32>,
}

/// Tokens to load for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// Nothing can be said yet.
    Later,
    /// So many tokens after those on the device, inside the step or not.
    Tokens { tokens: u32, sync: bool },
}

/// Host memory and disk, and the copies from and to them.
#[derive(Debug)]
pub(super) struct Connector<'w> {
    workload: &'w Workload,
    config: OffloadConfig,
    pub host: HostTier<u32>,
    pub copies: Copies,
    disk: Option<Disk>,
    /// Chunks that are being loaded, and by how many.
    loading: HashMap<u32, u32>,
    /// Tokens that loads inside this step may still have.
    sync_tokens: u64,
    /// Chunks to bring up from disk, by request.
    promotions: BTreeMap<u32, Vec<u32>>,
    /// What became of each chunk; by the number of its last block.
    fates: Vec<Fate>,
    pub step: u64,
    pub record: bool,
    pub log: OffloadLog,
}

impl<'w> Connector<'w> {
    pub fn new(workload: &'w Workload, config: OffloadConfig, record: bool) -> Self {
        let requests = workload.requests().len();
        let column = || vec![0; requests];
        Self {
            workload,
            host: HostTier::new(config.host),
            copies: Copies::new(config.store_ns, config.load_ns, config.start_after_step),
            disk: config.disk.map(Disk::new),
            loading: HashMap::new(),
            sync_tokens: 0,
            promotions: BTreeMap::new(),
            fates: vec![Fate::NotOffered; workload.num_keys() as usize],
            step: 0,
            record,
            log: OffloadLog {
                device_hits: column(),
                host_hits: column(),
                disk_hits: column(),
                loaded_chunks: column(),
                stored_chunks: column(),
                ..OffloadLog::default()
            },
            config,
        }
    }

    /// Tokens per chunk.
    fn chunk(&self) -> u32 {
        self.workload.block_size() * self.config.blocks_per_chunk
    }

    fn key(&self, request: u32, chunk: u32) -> u32 {
        let block = (chunk + 1) * self.config.blocks_per_chunk - 1;
        self.workload.keys(request)[block as usize]
    }

    /// Chunks of a request, whose places in it are known from now on.
    fn keys(&self, of: &mut Offloaded, chunks: std::ops::Range<u32>) -> Vec<u32> {
        let mut keys = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let key = self.key(of.request, chunk);
            of.context.know(key, (chunk + 1) * self.chunk());
            keys.push(key);
        }
        keys
    }

    /// A step begins at `now`: jobs of the disk that are done take effect.
    pub fn begin_step(&mut self, step: u64, now: u64) -> Result<()> {
        self.step = step;
        self.sync_tokens = self.config.sync_load_tokens;
        let Some(disk) = &mut self.disk else {
            return Ok(());
        };
        while let Some(keys) = disk.written(now) {
            self.host.complete_load(&keys)?;
        }
        while let Some(keys) = disk.was_read(now) {
            self.host.complete_store(&keys, true);
        }
        Ok(())
    }

    fn dropped(&mut self, keys: &[u32]) {
        for &key in keys {
            self.fates[key as usize] = Fate::Dropped;
            if self.record {
                self.log.evicted_step.push(self.step);
                self.log.evicted.push(key);
            }
        }
        self.log.totals.host_evictions += keys.len() as u64;
    }

    fn transfer(&mut self, kind: TransferKind, request: u32, chunks: usize, evicted: usize) {
        if self.record {
            let log = &mut self.log.transfers;
            log.step.push(self.step);
            log.kind.push(kind as u8);
            log.request.push(request);
            log.chunks.push(to_u32(chunks));
            log.evicted.push(to_u32(evicted));
        }
    }

    /// Looks for a chunk in host memory, and below. What is found below is brought up.
    fn find(&mut self, of: &mut Offloaded, key: u32) -> Presence {
        let found = self.host.lookup(&key);
        let (Presence::Miss, Some(disk)) = (found, &mut self.disk) else {
            return found;
        };
        match disk.ask(key) {
            Answer::Miss => return Presence::Miss,
            Answer::Retry => return Presence::Pending,
            Answer::Hit => {}
        }
        let room = self.host.prepare_store(&mut of.context, &[key]);
        let Some(room) = room.filter(|room| !room.keys.is_empty()) else {
            self.log.totals.promotions_refused += 1;
            self.fates[key as usize] = Fate::Refused;
            return Presence::Miss;
        };
        self.dropped(&room.evicted);
        self.fates[key as usize] = Fate::Resident;
        self.log.totals.chunks_promoted += 1;
        self.transfer(TransferKind::Promote, of.request, 1, room.evicted.len());
        self.promotions.entry(of.request).or_default().push(key);
        of.promoted.insert(key);
        Presence::Pending
    }

    /// What can be loaded for a request that knows `num_tokens` tokens, of which the device has
    /// `local`.
    pub fn matched(&mut self, of: &mut Offloaded, num_tokens: u32, local: u32) -> Match {
        const NOTHING: Match = Match::Tokens {
            tokens: 0,
            sync: true,
        };
        let chunk = self.chunk();
        of.next = 0;
        if !of.jobs.is_empty() {
            return Match::Later;
        }
        let top = num_tokens / chunk;
        if top * chunk < local + chunk {
            return NOTHING;
        }
        let first = local / chunk;
        let mut pending = false;
        let mut end = first;
        for key in self.keys(of, first..top) {
            match self.find(of, key) {
                Presence::Miss => break,
                Presence::Pending => pending = true,
                Presence::Hit => {}
            }
            end += 1;
        }
        if end == first {
            return NOTHING;
        }
        if pending {
            return Match::Later;
        }
        let tokens = end * chunk - local;
        if tokens < chunk {
            return NOTHING;
        }
        let keys = self.keys(of, first..end);
        if keys.iter().any(|key| self.loading.contains_key(key)) {
            return Match::Later;
        }
        let sync = local + tokens < num_tokens && u64::from(tokens) <= self.sync_tokens;
        if sync {
            self.sync_tokens -= u64::from(tokens);
        }
        Match::Tokens { tokens, sync }
    }

    /// A request was admitted with `local` tokens on the device and `tokens` to load. `first` says
    /// whether it is its first admission.
    pub fn admitted(
        &mut self,
        of: &mut Offloaded,
        place: u32,
        local: u32,
        (tokens, sync): (u32, bool),
        first: bool,
    ) -> Result<()> {
        let chunk = self.chunk();
        let request = of.request;
        let lookups = &mut self.log.lookups;
        lookups.request.push(request);
        lookups.step.push(self.step);
        lookups.device.push(local);
        lookups.host.push(tokens);
        let mut from_disk = 0;
        if tokens > 0 {
            let chunks = local / chunk..(local + tokens).div_ceil(chunk);
            of.next = chunks.end;
            let keys = self.keys(of, chunks.clone());
            self.host.prepare_load(&mut of.context, &keys)?;
            for (at, key) in chunks.zip(&keys) {
                if of.promoted.contains(key) {
                    from_disk += (at + 1) * chunk - local.max(at * chunk);
                }
                if !sync {
                    *self.loading.entry(*key).or_default() += 1;
                }
            }
            self.transfer(TransferKind::Load, request, keys.len(), 0);
            self.log.totals.load_jobs += 1;
            self.log.totals.chunks_loaded += keys.len() as u64;
            self.log.loaded_chunks[request as usize] += to_u32(keys.len());
            let kind = if sync { Kind::SyncLoad } else { Kind::Load };
            of.jobs
                .push(self.copies.start(kind, place, keys, Vec::new()));
        }
        of.promoted.clear();
        if first {
            let row = request as usize;
            self.log.device_hits[row] = local;
            self.log.host_hits[row] = tokens;
            self.log.disk_hits[row] = from_disk;
            self.record_fates(request, (local + tokens) / chunk);
        }
        Ok(())
    }

    /// Records what became of the chunks of a prompt behind those that were served.
    fn record_fates(&mut self, request: u32, served: u32) {
        let chunks = self.workload.requests().prompt_len(request) / self.chunk();
        let mut last = None;
        for chunk in served..chunks {
            let fate = self.fates[self.key(request, chunk) as usize];
            let log = &mut self.log.fates;
            if last == Some(fate) {
                if let Some(end) = log.end.last_mut() {
                    *end = chunk + 1;
                }
                continue;
            }
            last = Some(fate);
            log.request.push(request);
            log.first.push(chunk);
            log.end.push(chunk + 1);
            log.fate.push(fate as u8);
        }
    }

    /// Offers what a request has once `after` of its `num_tokens` tokens are computed, and lies in
    /// `table`. Returns the number of the copy, if there is one.
    pub fn offer(
        &mut self,
        of: &mut Offloaded,
        place: u32,
        (after, num_tokens): (u32, u32),
        table: &[Slot],
    ) -> Option<u64> {
        let (request, per_chunk) = (of.request, self.config.blocks_per_chunk);
        let mut limit = after.min(num_tokens);
        if self.config.prompt_only {
            limit = limit.min(self.workload.requests().prompt_len(request));
        }
        let end = (limit / self.chunk()).min(to_u32(table.len()) / per_chunk);
        let first = of.next;
        if first >= end {
            of.next = end;
            return None;
        }
        let keys = self.keys(of, first..end);
        let Some(store) = self.host.prepare_store(&mut of.context, &keys) else {
            self.log.totals.stores_refused += 1;
            self.transfer(TransferKind::Refused, request, keys.len(), 0);
            self.set_fates(&keys, Fate::Refused);
            return None;
        };
        of.next = end;
        self.dropped(&store.evicted);
        self.set_fates(&keys, Fate::BelowThreshold);
        if store.keys.is_empty() {
            return None;
        }
        self.transfer(
            TransferKind::Store,
            request,
            store.keys.len(),
            store.evicted.len(),
        );
        self.log.totals.store_jobs += 1;
        self.log.totals.chunks_stored += store.keys.len() as u64;
        self.log.stored_chunks[request as usize] += to_u32(store.keys.len());
        let wanted: HashSet<u32> = store.keys.iter().copied().collect();
        let mut slots = Vec::with_capacity(store.keys.len() * per_chunk as usize);
        for (chunk, key) in (first..end).zip(&keys) {
            if wanted.contains(key) {
                let at = (chunk * per_chunk) as usize;
                slots.extend_from_slice(&table[at..at + per_chunk as usize]);
            }
        }
        let number = self.copies.start(Kind::Store, place, store.keys, slots);
        of.jobs.push(number);
        Some(number)
    }

    /// Chunks were offered: those that host memory has are there, the others are not because of `why`.
    fn set_fates(&mut self, keys: &[u32], why: Fate) {
        for key in keys {
            let there = self.host.lookup(key) != Presence::Miss;
            self.fates[*key as usize] = if there { Fate::Resident } else { why };
        }
    }

    /// Copies of a request that is preempted, which have to be done first.
    pub fn of_preempted<'o>(&'o self, of: &'o Offloaded) -> impl Iterator<Item = u64> + 'o {
        let jobs = of.jobs.iter().copied();
        jobs.filter(|&number| !self.copies.is_new_load(number))
    }

    /// A request has finished: its slots may be given to others.
    pub fn watch(&mut self, of: &Offloaded) {
        for &number in &of.jobs {
            self.copies.watch(number);
        }
    }

    /// The end of a request is announced.
    pub fn finish(&mut self, of: &mut Offloaded) {
        self.host.finish(&mut of.context);
    }

    /// The scheduling of a step that began at `now` is over: the disk gets its orders.
    pub fn end_schedule(&mut self, now: u64) {
        let Some(disk) = &mut self.disk else {
            return;
        };
        for keys in std::mem::take(&mut self.promotions).into_values() {
            disk.read(keys, now);
        }
        disk.answer();
    }

    /// A copy is reported in a step that began at `now`.
    pub fn report(&mut self, copy: &Copy, now: u64) -> Result<()> {
        if copy.kind != Kind::Store {
            self.host.complete_load(&copy.keys)?;
        }
        match copy.kind {
            Kind::SyncLoad => {}
            Kind::Load => {
                for key in &copy.keys {
                    if let Some(count) = self.loading.get_mut(key) {
                        *count -= 1;
                        if *count == 0 {
                            self.loading.remove(key);
                        }
                    }
                }
            }
            Kind::Store => {
                self.host.complete_store(&copy.keys, true);
                if let Some(disk) = &mut self.disk {
                    for key in &copy.keys {
                        self.host.hold(key)?;
                    }
                    self.log.totals.chunks_cascaded += copy.keys.len() as u64;
                    disk.write(copy.keys.clone(), now);
                }
            }
        }
        Ok(())
    }

    pub fn is_busy(&self) -> bool {
        !self.copies.is_empty() || self.disk.as_ref().is_some_and(Disk::is_busy)
    }

    /// When the next copy or job of the disk ends.
    pub fn next_end(&self) -> Option<u64> {
        let disk = self.disk.as_ref().and_then(Disk::next_end);
        [self.copies.next_end(), disk].into_iter().flatten().min()
    }

    pub fn validate(&self) -> Result<()> {
        self.host.validate()?;
        self.copies.validate()
    }

    /// The log, with what is in host memory at the end.
    pub fn into_log(mut self) -> OffloadLog {
        match self.host.arc() {
            None => self.log.end = vec![self.host.keys()],
            Some(arc) => {
                self.log.end = vec![arc.t1, arc.t2, arc.b1, arc.b2];
                self.log.target = arc.target_t1;
            }
        }
        self.log
    }
}

impl Offloaded {
    /// A request of which nothing was offered.
    pub fn new(request: u32) -> Self {
        Self {
            request,
            ..Self::default()
        }
    }

    /// A copy of it was reported.
    pub fn done(&mut self, number: u64) {
        self.jobs.retain(|&job| job != number);
    }

    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }
}
