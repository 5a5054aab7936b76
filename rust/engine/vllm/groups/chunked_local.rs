//! Chunked local attention: only the blocks of the current chunk matter.

use super::Class;
use super::coordinator::Search;
use super::layout::align;
use crate::index::to_u32;

/// Leading tokens that no token after the first `computed` ones attends to: those of earlier chunks.
pub(super) fn skipped(chunk: u32, computed: u32) -> u32 {
    align(computed, chunk)
}

/// The cached blocks of the chunk that `limit` lies in, from its start; chunks before it are not needed.
pub(super) fn find(search: &mut Search<'_>, class: &Class, chunk: u32, limit: u32) -> u32 {
    let size = class.block_size;
    let per_block = search.hashes_per_block(class);
    let mut found = (align(limit, chunk) / size) as usize;
    search.start(class, found);
    let blocks = (limit / size) as usize;
    while found < blocks && search.push(class, (found + 1) * per_block - 1) {
        found += 1;
    }
    to_u32(found) * size
}
