//! Full attention: everything is found, needed and kept.

use super::coordinator::Search;
use super::layout::align;
use super::pool::GroupKey;
use super::{Class, GroupedCache};
use crate::engine::vllm::Slot;
use crate::index::to_u32;
use crate::serving::Progress;

/// The longest prefix of cached blocks of at most `limit` tokens; if hits may end inside a block, with the
/// longest cached part of the next one. `drop`: less the last unit.
pub(super) fn find(search: &mut Search<'_>, class: &Class, limit: u32, drop: bool) -> u32 {
    let size = class.block_size;
    let unit = search.layout.hash_unit;
    let alignment = search.alignment(class);
    let per_block = search.hashes_per_block(class);
    search.start(class, 0);
    let blocks = (limit / size) as usize;
    let mut found = 0;
    while found < blocks && search.push(class, (found + 1) * per_block - 1) {
        found += 1;
    }
    let mut hit = to_u32(found) * size;
    if alignment < size {
        let first = found * per_block + 1;
        let last = (first + per_block - 2).min((limit / unit) as usize);
        let part = (first..=last)
            .rev()
            .find(|&hash| search.push(class, hash - 1));
        if let Some(hashes) = part {
            hit = to_u32(hashes) * unit;
        }
    }
    if drop && hit > 0 {
        hit -= alignment.min(size);
    }
    hit = align(hit, alignment);
    search.truncate(class, hit.div_ceil(size) as usize);
    hit
}

impl GroupedCache {
    /// Caches the part of a block with which the prompt ends, up to the last hash in it, if that is among
    /// the first `usable` tokens.
    pub(super) fn cache_tail(
        &mut self,
        number: usize,
        table: &[Slot],
        keys: &[u32],
        progress: &Progress,
        usable: u32,
    ) {
        let unit = self.layout.hash_unit;
        let class = self.layout.class(number);
        let size = class.block_size;
        let prompt = progress.prompt_tokens;
        let end = if class.drops { prompt } else { prompt - 1 };
        let hashes = (end / unit).min(to_u32(keys.len()));
        let tokens = hashes * unit;
        if tokens == 0 || tokens > usable || tokens.is_multiple_of(size) {
            return;
        }
        let Some(&slot) = table.get((tokens / size) as usize) else {
            return;
        };
        let key = GroupKey {
            group: to_u32(number),
            key: keys[hashes as usize - 1],
        };
        self.cache_part(slot, key, tokens, false);
    }
}
