//! What a run with offloading records, beside what every run does.

/// Why a chunk of a prompt was not served, although blocks of it had been computed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Fate {
    /// It was never offered to host memory.
    #[default]
    NotOffered = 0,
    /// It was not offered often enough.
    BelowThreshold = 1,
    /// Host memory refused it.
    Refused = 2,
    /// It is in host memory, behind one that is not, or not yet readable.
    Resident = 3,
    /// Host memory dropped it.
    Dropped = 4,
}

/// What a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TransferKind {
    /// Device to host.
    Store = 0,
    /// Host to device.
    Load = 1,
    /// An offer that host memory refused.
    Refused = 2,
    /// Disk to host.
    Promote = 3,
}

/// Transfers in the order in which they started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferLog {
    /// Step of each.
    pub step: Vec<u64>,
    /// [`TransferKind`].
    pub kind: Vec<u8>,
    /// The request.
    pub request: Vec<u32>,
    /// Chunks.
    pub chunks: Vec<u32>,
    /// Chunks that host memory dropped for it.
    pub evicted: Vec<u32>,
}

/// Admissions of requests of which nothing was computed, with what each tier had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookupLog {
    /// The request.
    pub request: Vec<u32>,
    /// The step.
    pub step: Vec<u64>,
    /// Tokens on the device.
    pub device: Vec<u32>,
    /// Tokens after these in host memory, those from disk included.
    pub host: Vec<u32>,
}

/// Stretches of prompts behind what was served at their first admission, in chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FateLog {
    /// The request.
    pub request: Vec<u32>,
    /// Its first chunk in the prompt.
    pub first: Vec<u32>,
    /// One after the last.
    pub end: Vec<u32>,
    /// [`Fate`].
    pub fate: Vec<u8>,
}

/// Steps, as they were after scheduling; rows are those of the step log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffloadSteps {
    /// Requests that hold blocks and do not run: loading, or loaded.
    pub holding: Vec<u32>,
    /// Chunks of loads that started.
    pub loaded: Vec<u32>,
    /// Chunks of stores that started.
    pub stored: Vec<u32>,
    /// Copies that the step had to wait for.
    pub flushed: Vec<u32>,
}

/// Sums over a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OffloadTotals {
    /// Loads.
    pub load_jobs: u64,
    /// Their chunks.
    pub chunks_loaded: u64,
    /// Stores.
    pub store_jobs: u64,
    /// Their chunks.
    pub chunks_stored: u64,
    /// Offers that host memory refused.
    pub stores_refused: u64,
    /// Copies that a step waited for.
    pub flushed_jobs: u64,
    /// Chunks that host memory dropped.
    pub host_evictions: u64,
    /// Chunks brought from disk to host memory.
    pub chunks_promoted: u64,
    /// Chunks on disk for which there was no room in host memory.
    pub promotions_refused: u64,
    /// Chunks written to disk.
    pub chunks_cascaded: u64,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OffloadLog {
    /// Tokens of each request found on the device at its first admission.
    pub device_hits: Vec<u32>,
    /// Tokens after these that were loaded; this may be the rest of the prompt.
    pub host_hits: Vec<u32>,
    /// Those of them that were on disk only.
    pub disk_hits: Vec<u32>,
    /// Chunks loaded for each request.
    pub loaded_chunks: Vec<u32>,
    /// Chunks stored.
    pub stored_chunks: Vec<u32>,
    /// All lookups that led to an admission.
    pub lookups: LookupLog,
    /// What was behind the hits.
    pub fates: FateLog,
    /// Transfers, if steps are recorded.
    pub transfers: TransferLog,
    /// Steps, if recorded.
    pub steps: OffloadSteps,
    /// Step of each eviction from host memory, if steps are recorded.
    pub evicted_step: Vec<u64>,
    /// The chunk: the number of its last block.
    pub evicted: Vec<u32>,
    /// Chunks in host memory at the end: with LRU in order, with ARC T1, T2, B1 and B2.
    pub end: Vec<Vec<u32>>,
    /// With ARC: chunks that T1 should have.
    pub target: f64,
    /// Sums.
    pub totals: OffloadTotals,
}
