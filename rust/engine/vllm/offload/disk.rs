//! A tier below host memory, without a limit of its own (`vllm/v1/kv_offload/tiering`).

use std::collections::{HashMap, HashSet, VecDeque};

/// When a lookup is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskLookup {
    /// At once.
    #[default]
    Sync,
    /// In the step after the one that asks, for that step only.
    NextStep,
}

/// How the tier below host memory behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskConfig {
    /// Nanoseconds to read a chunk.
    pub read_ns: u64,
    /// Nanoseconds to write one.
    pub write_ns: u64,
    /// When a lookup is answered.
    pub lookup: DiskLookup,
}

/// What a lookup finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Miss,
    Hit,
    /// Ask again in the next step.
    Retry,
}

/// Chunks on disk, and the jobs that read and write them, one after the other each way.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    config: DiskConfig,
    chunks: HashSet<u32>,
    reads: Jobs,
    writes: Jobs,
    questions: HashSet<u32>,
    answers: HashMap<u32, bool>,
}

#[derive(Debug, Clone, Default)]
struct Jobs {
    queue: VecDeque<(u64, Vec<u32>)>,
    free: u64,
}

impl Jobs {
    fn enter(&mut self, keys: Vec<u32>, now: u64, chunk_ns: u64) {
        let duration = chunk_ns.saturating_mul(keys.len() as u64);
        self.free = self.free.max(now).saturating_add(duration);
        self.queue.push_back((self.free, keys));
    }

    fn pop(&mut self, now: u64) -> Option<Vec<u32>> {
        let &(end, _) = self.queue.front()?;
        if end > now {
            return None;
        }
        self.queue.pop_front().map(|(_, keys)| keys)
    }
}

impl Disk {
    pub fn new(config: DiskConfig) -> Self {
        Self {
            config,
            chunks: HashSet::new(),
            reads: Jobs::default(),
            writes: Jobs::default(),
            questions: HashSet::new(),
            answers: HashMap::new(),
        }
    }

    /// Looks a chunk up.
    pub fn ask(&mut self, key: u32) -> Answer {
        let there = match self.config.lookup {
            DiskLookup::Sync => self.chunks.contains(&key),
            DiskLookup::NextStep => {
                let Some(&there) = self.answers.get(&key) else {
                    self.questions.insert(key);
                    return Answer::Retry;
                };
                there
            }
        };
        if there { Answer::Hit } else { Answer::Miss }
    }

    /// Answers what the step asked; the answers hold for the next one.
    pub fn answer(&mut self) {
        self.answers.clear();
        for key in self.questions.drain() {
            self.answers.insert(key, self.chunks.contains(&key));
        }
    }

    pub fn read(&mut self, keys: Vec<u32>, now: u64) {
        self.reads.enter(keys, now, self.config.read_ns);
    }

    pub fn write(&mut self, keys: Vec<u32>, now: u64) {
        self.writes.enter(keys, now, self.config.write_ns);
    }

    /// Chunks of a write that is done; from now on they are there.
    pub fn written(&mut self, now: u64) -> Option<Vec<u32>> {
        let keys = self.writes.pop(now)?;
        self.chunks.extend(&keys);
        Some(keys)
    }

    /// Chunks of a read that is done.
    pub fn was_read(&mut self, now: u64) -> Option<Vec<u32>> {
        self.reads.pop(now)
    }

    pub fn is_busy(&self) -> bool {
        !self.reads.queue.is_empty() || !self.writes.queue.is_empty()
    }

    /// When the next job ends.
    pub fn next_end(&self) -> Option<u64> {
        let fronts = [&self.reads, &self.writes];
        let fronts = fronts.into_iter().filter_map(|jobs| jobs.queue.front());
        fronts.map(|&(end, _)| end).min()
    }
}
