//! Sliding windows: only the last blocks before a position matter.

use super::Class;
use super::coordinator::Search;
use crate::engine::vllm::NULL_SLOT;
use crate::index::to_u32;

/// Blocks that the token after a prefix attends to, at most.
pub(super) fn needed_blocks(window: u32, block_size: u32) -> u32 {
    (window - 1).div_ceil(block_size)
}

/// Leading tokens that no token after the first `computed` ones attends to.
pub(super) fn skipped(window: u32, computed: u32) -> u32 {
    (computed + 1).saturating_sub(window)
}

/// From the end: the first run of cached blocks that fills a window, or else the run at the beginning.
/// `drop`: one block more, which is dropped.
pub(super) fn find(
    search: &mut Search<'_>,
    class: &Class,
    window: u32,
    limit: u32,
    drop: bool,
) -> u32 {
    let size = class.block_size;
    let alignment = search.alignment(class);
    let per_block = search.hashes_per_block(class);
    let needed = needed_blocks(window, size) as usize + usize::from(drop);
    let blocks = ((limit / size) as usize).min(search.keys.len() / per_block);
    search.start(class, blocks);
    let mut run = 0;
    let mut end = None;
    for i in (0..blocks).rev() {
        let edge = to_u32(if drop { i } else { i + 1 }) * size;
        if run == 0 && !edge.is_multiple_of(alignment) {
            continue;
        }
        if !put(search, class, i, (i + 1) * per_block - 1) {
            for &member in &class.members {
                search.found[member][i..=i + run].fill(NULL_SLOT);
            }
            run = 0;
            continue;
        }
        run += 1;
        if run == needed {
            end = Some(i + needed);
            break;
        }
    }
    let mut found = end.unwrap_or_else(|| search.aligned_blocks(class, run));
    if drop && found > 0 {
        found = search.aligned_blocks(class, found - 1);
    }
    search.truncate(class, found);
    to_u32(found) * size
}

/// Notes the block behind a hash as the `i`-th, if every member has it.
fn put(search: &mut Search<'_>, class: &Class, i: usize, hash: usize) -> bool {
    for &member in &class.members {
        let Some(slot) = search.slot(member, hash) else {
            return false;
        };
        search.found[member][i] = slot;
    }
    true
}
