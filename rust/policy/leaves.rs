//! Leaves of a cached tree in the order in which they go.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::StretchIx;

/// Where a leaf stands in its queue: smaller ranks go first.
///
/// The first number is what the policy goes by, such as a count of uses; the second a time, which
/// decides among equals. Blocks of one rank lie on one path, so at most one of them is a leaf.
pub type Rank = (u64, u64);

/// The leaves of a [`CachedTree`](super::CachedTree), those with the smallest rank first.
///
/// Where ranks are times of entry, most leaves come with a rank beyond all others and stand in a
/// plain queue. A stretch that becomes a leaf late, since what hung on it is gone, has an older rank
/// and waits in a heap. Leaves that cease to be leaves are not taken out: whoever asks for the first
/// one says of each that is at the front whether it still counts, and those that do not are gone.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    in_order: VecDeque<(Rank, StretchIx)>,
    late: BinaryHeap<Reverse<(Rank, StretchIx)>>,
}

impl Leaves {
    /// Adds a leaf.
    #[inline]
    pub fn push(&mut self, rank: Rank, ix: StretchIx) {
        if self.in_order.back().is_some_and(|&(last, _)| rank < last) {
            self.late.push(Reverse((rank, ix)));
        } else {
            self.in_order.push_back((rank, ix));
        }
    }

    /// The leaf with the smallest rank of those that `counts` holds for; all before it are
    /// forgotten.
    #[inline]
    pub fn first(
        &mut self,
        mut counts: impl FnMut(Rank, StretchIx) -> bool,
    ) -> Option<(Rank, StretchIx)> {
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
    pub fn iter(&self) -> impl Iterator<Item = (Rank, StretchIx)> + '_ {
        let late = self.late.iter().map(|&Reverse(leaf)| leaf);
        self.in_order.iter().copied().chain(late)
    }
}
