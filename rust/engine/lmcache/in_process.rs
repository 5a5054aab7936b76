//! Host memory and disk inside the process of an engine.

use std::collections::HashSet;
use std::hash::Hash;

use super::{CachePolicy, ChunkStore, Served, Tier};
use crate::error::Result;
use crate::index::to_u32;

/// How LMCache behaves inside a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InProcessConfig {
    /// Chunks in host memory.
    pub cpu_chunks: u32,
    /// Chunks on disk; 0: no disk.
    pub disk_chunks: u32,
    /// Order of eviction, of each tier by itself.
    pub policy: CachePolicy,
}

/// The two stores. Disk holds a copy of what was stored, and a chunk that is read from it enters host
/// memory again.
#[derive(Debug, Clone)]
pub struct InProcess<K> {
    cpu: ChunkStore<K>,
    disk: Option<ChunkStore<K>>,
}

impl<K: Copy + Eq + Hash> InProcess<K> {
    /// Empty stores.
    #[must_use]
    pub fn new(config: InProcessConfig) -> Self {
        let disk = config.disk_chunks;
        Self {
            cpu: ChunkStore::new(config.cpu_chunks, config.policy),
            disk: (disk > 0).then(|| ChunkStore::new(disk, config.policy)),
        }
    }

    /// Host memory.
    #[must_use]
    pub fn cpu(&self) -> &ChunkStore<K> {
        &self.cpu
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> Option<&ChunkStore<K>> {
        self.disk.as_ref()
    }

    /// Whether a chunk is in either.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        let on_disk = |disk: &ChunkStore<K>| disk.contains(key);
        self.cpu.contains(key) || self.disk.as_ref().is_some_and(on_disk)
    }

    /// Serves a prompt of these chunks: looks them up, reads what is found, stores what is not. Tells
    /// `evicted` of every chunk that leaves a tier.
    pub fn serve(&mut self, keys: &[K], evicted: &mut impl FnMut(Tier, K)) -> Served {
        let in_cpu = keys.iter().take_while(|key| self.cpu.contains(key)).count();
        let (from_cpu, rest) = keys.split_at(in_cpu);
        let in_disk = match &self.disk {
            Some(disk) => rest.iter().take_while(|key| disk.contains(key)).count(),
            None => 0,
        };
        let from_disk = &rest[..in_disk];
        for key in from_cpu.iter().rev() {
            self.cpu.hit(key);
        }
        if let Some(disk) = &mut self.disk {
            for key in from_disk.iter().rev() {
                disk.hit(key);
            }
        }
        let read = self.retrieve(from_cpu, from_disk, evicted);
        // What could not be read has to be computed, and stored, like the rest.
        let stored = self.store(&rest[read..], evicted);
        Served {
            cpu_hits: to_u32(in_cpu),
            disk_hits: to_u32(read),
            stored: to_u32(stored),
            refused: false,
        }
    }

    /// Brings chunks from disk to host memory, while those found there are held. Returns how many.
    fn retrieve(
        &mut self,
        held: &[K],
        from_disk: &[K],
        evicted: &mut impl FnMut(Tier, K),
    ) -> usize {
        if from_disk.is_empty() {
            return 0;
        }
        let held: HashSet<K> = held.iter().copied().collect();
        let may_go = |key: &K| !held.contains(key);
        let taken = self.take_buffers(from_disk.len(), may_go, evicted);
        for key in &from_disk[..taken] {
            if let Some(disk) = &mut self.disk {
                disk.hit(key);
            }
            if !self.cpu.contains(key) {
                self.cpu.put(*key);
            }
        }
        taken
    }

    /// Takes buffers of host memory, one by one; returns how many there were.
    fn take_buffers(
        &mut self,
        wanted: usize,
        may_go: impl Fn(&K) -> bool,
        evicted: &mut impl FnMut(Tier, K),
    ) -> usize {
        for taken in 0..wanted {
            if self.cpu.len() + taken < self.cpu.capacity() {
                continue;
            }
            let Some(victim) = self.cpu.evict(&may_go) else {
                return taken;
            };
            evicted(Tier::Cpu, victim);
        }
        wanted
    }

    /// Stores computed chunks, as many as buffers are to be had for; returns that number.
    fn store(&mut self, keys: &[K], evicted: &mut impl FnMut(Tier, K)) -> usize {
        let taken = self.take_buffers(keys.len(), |_| true, evicted);
        let keys = &keys[..taken];
        for key in keys {
            if !self.cpu.contains(key) {
                self.cpu.put(*key);
            }
        }
        let Some(disk) = &mut self.disk else {
            return taken;
        };
        for key in keys {
            if disk.contains(key) {
                disk.hit(key);
                continue;
            }
            while disk.len() >= disk.capacity()
                && let Some(victim) = disk.evict(|_| true)
            {
                evicted(Tier::Disk, victim);
            }
            disk.put(*key);
        }
        taken
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`](crate::Error::Bug) naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.cpu.validate()?;
        self.disk.as_ref().map_or(Ok(()), ChunkStore::validate)
    }
}
