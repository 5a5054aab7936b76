//! Leaves of a cached tree in the order in which they queue.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::StretchIx;

/// The leaves of a [`CachedTree`](super::CachedTree), those with the smallest key first.
///
/// A key is a time of entry, so most leaves come with a key beyond all others and stand in a plain
/// queue. A stretch that becomes a leaf late, since what hung on it is gone, has an older key and
/// waits in a heap. Leaves that cease to be leaves are not taken out: whoever asks for the first
/// one says of each that is at the front whether it still counts, and those that do not are gone.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    in_order: VecDeque<(u64, StretchIx)>,
    late: BinaryHeap<Reverse<(u64, StretchIx)>>,
}

impl Leaves {
    /// Adds a leaf.
    #[inline]
    pub fn push(&mut self, key: u64, ix: StretchIx) {
        if self.in_order.back().is_some_and(|&(last, _)| key < last) {
            self.late.push(Reverse((key, ix)));
        } else {
            self.in_order.push_back((key, ix));
        }
    }

    /// The leaf with the smallest key of those that `counts` holds for; all before it are forgotten.
    #[inline]
    pub fn first(
        &mut self,
        mut counts: impl FnMut(u64, StretchIx) -> bool,
    ) -> Option<(u64, StretchIx)> {
        loop {
            let (in_order, late) = (self.in_order.front(), self.late.peek());
            let (leaf, is_late) = match (in_order, late) {
                (Some(&first), Some(&Reverse(late))) if late < first => (late, true),
                (Some(&first), _) => (first, false),
                (None, Some(&Reverse(late))) => (late, true),
                (None, None) => return None,
            };
            if counts(leaf.0, leaf.1) {
                return Some(leaf);
            }
            if is_late {
                self.late.pop();
            } else {
                self.in_order.pop_front();
            }
        }
    }

    /// All that were added and not forgotten, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, StretchIx)> + '_ {
        let late = self.late.iter().map(|&Reverse(leaf)| leaf);
        self.in_order.iter().copied().chain(late)
    }
}
