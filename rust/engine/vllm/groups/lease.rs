//! What is held for one request.

use crate::engine::vllm::Slot;

/// What is held for one request, group by group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupedLease {
    /// One per group; none before the first admission.
    pub(super) groups: Vec<GroupLease>,
    /// Where siblings of the request are known to part from it, in tokens; 0 if nowhere.
    pub(super) junction: u32,
    /// A name for events.
    pub(super) name: u64,
}

/// What is held for one request in one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GroupLease {
    /// Slots of the blocks, in order; 0 where a block is not needed any more.
    pub table: Vec<Slot>,
    /// Leading blocks that were considered for caching.
    pub cached: u32,
    /// Whether it adopted hits or considered a block for caching.
    pub tracked: bool,
    /// A block that is to be continued in another one: its index, and its slot.
    pub copy: Option<(usize, Slot)>,
    /// Mamba: whether the table has grown since the admission.
    pub started: bool,
    /// Mamba: leading entries whose states were given back.
    pub retired: usize,
    /// Mamba: a state that the step exports from inside its prefill: its length in tokens, and the index
    /// of its block.
    pub checkpoint: Option<(u32, usize)>,
}

impl GroupLease {
    /// Forgets everything; the memory stays.
    pub fn clear(&mut self) {
        self.table.clear();
        let table = std::mem::take(&mut self.table);
        *self = Self {
            table,
            ..Self::default()
        };
    }
}
