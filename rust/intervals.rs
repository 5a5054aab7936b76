//! Stacks of intervals, one stack per heavy path, all in one slab.
//!
//! What is known of the blocks along a heavy path is often a partition of it into intervals that
//! only ever change at one side: last uses get older downwards, and a new use covers the youngest;
//! allocations get younger downwards, and eviction takes the youngest away. Such a partition is a
//! stack. Each interval is put on once and taken off once, whatever its length.

use crate::error::{Error, Result};
use crate::index::{IndexVec, PathIx};

/// Blocks up to depth `end` of a path, from where the neighbour before them ends, and what is known
/// of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Interval<V> {
    pub end: u32,
    pub value: V,
}

/// Where the interval below the top of a stack lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link(u32);

impl Link {
    /// The stack has no interval at all.
    const EMPTY: Self = Self(u32::MAX);
    /// There is none below.
    const LAST: Self = Self(u32::MAX - 1);

    /// Its place in the slab, if it has one.
    fn place(self) -> Option<usize> {
        (self.0 < Self::LAST.0).then_some(self.0 as usize)
    }
}

/// The top of a stack stands with its path, as most questions end there.
#[derive(Debug, Clone, Copy)]
struct Top<V> {
    interval: Interval<V>,
    below: Link,
}

/// A stack of intervals for each heavy path.
#[derive(Debug)]
pub(crate) struct IntervalStacks<V> {
    tops: IndexVec<PathIx, Top<V>>,
    slab: Vec<(Interval<V>, Link)>,
    /// Head of the list of free places of the slab.
    free: Link,
}

impl<V: Copy + Default> IntervalStacks<V> {
    /// Empty stacks for `paths` heavy paths.
    pub fn new(paths: usize) -> Self {
        let empty = Top {
            interval: Interval::default(),
            below: Link::EMPTY,
        };
        Self {
            tops: IndexVec::filled(empty, paths),
            slab: Vec::new(),
            free: Link::LAST,
        }
    }

    /// The interval on top.
    #[inline]
    pub fn top(&self, path: PathIx) -> Option<Interval<V>> {
        let top = &self.tops[path];
        (top.below != Link::EMPTY).then_some(top.interval)
    }

    /// The intervals of a path from the top down.
    pub fn iter(&self, path: PathIx) -> impl Iterator<Item = Interval<V>> + '_ {
        let mut next = self.top(path).map(|top| (top, self.tops[path].below));
        std::iter::from_fn(move || {
            let (interval, link) = next?;
            next = link.place().map(|place| self.slab[place]);
            Some(interval)
        })
    }

    /// The interval below the top.
    pub fn second(&self, path: PathIx) -> Option<Interval<V>> {
        let place = self.tops[path].below.place()?;
        Some(self.slab[place].0)
    }

    /// Lets the interval on top end elsewhere.
    pub fn set_end(&mut self, path: PathIx, end: u32) {
        self.tops[path].interval.end = end;
    }

    /// Puts an interval on top.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // Fewer intervals than nodes and requests.
    pub fn push(&mut self, path: PathIx, interval: Interval<V>) {
        let top = &mut self.tops[path];
        let below = match top.below {
            Link::EMPTY => Link::LAST,
            below => {
                let entry = (top.interval, below);
                match self.free.place() {
                    None => {
                        self.slab.push(entry);
                        Link((self.slab.len() - 1) as u32)
                    }
                    Some(place) => {
                        let link = self.free;
                        self.free = self.slab[place].1;
                        self.slab[place] = entry;
                        link
                    }
                }
            }
        };
        *top = Top { interval, below };
    }

    /// Takes the interval on top away.
    #[inline]
    pub fn pop(&mut self, path: PathIx) -> Option<Interval<V>> {
        let top = &mut self.tops[path];
        if top.below == Link::EMPTY {
            return None;
        }
        let interval = top.interval;
        match top.below.place() {
            None => top.below = Link::EMPTY,
            Some(place) => {
                let link = top.below;
                let entry = &mut self.slab[place];
                (top.interval, top.below) = *entry;
                entry.1 = self.free;
                self.free = link;
            }
        }
        Some(interval)
    }

    /// Checks every invariant: each place of the slab is in one stack or free, and `ordered` holds
    /// for any interval (second argument) and the one below it.
    pub fn validate(&self, ordered: impl Fn(Interval<V>, Interval<V>) -> bool) -> Result<()> {
        let mut seen = vec![false; self.slab.len()];
        let mut visit = |link: Link| -> Result<Option<usize>> {
            let Some(place) = link.place() else {
                return Ok(None);
            };
            match seen.get_mut(place) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(Error::bug(format!("interval {place} is linked twice"))),
            }
            Ok(Some(place))
        };
        for (path, top) in self.tops.enumerate() {
            let (mut above, mut link) = (top.interval, top.below);
            while let Some(place) = visit(link)? {
                let (interval, below) = self.slab[place];
                if !ordered(interval, above) {
                    return Err(Error::bug(format!("intervals of path {path} out of order")));
                }
                (above, link) = (interval, below);
            }
        }
        let mut link = self.free;
        while let Some(place) = visit(link)? {
            link = self.slab[place].1;
        }
        if seen.contains(&false) {
            return Err(Error::bug("an interval is in no stack and not free"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_vectors(
            steps in prop::collection::vec((0..3u32, prop::option::of(0..100u32)), 0..100),
        ) {
            let mut stacks = IntervalStacks::new(3);
            let mut model = vec![Vec::new(); 3];
            for (path, push) in steps {
                let (path, list) = (PathIx::new(path), &mut model[path as usize]);
                if let Some(end) = push {
                    stacks.push(path, Interval { end, value: end });
                    list.push(Interval { end, value: end });
                } else {
                    prop_assert_eq!(stacks.pop(path), list.pop());
                }
                prop_assert_eq!(stacks.top(path), list.last().copied());
                prop_assert!(stacks.iter(path).eq(list.iter().rev().copied()));
                prop_assert_eq!(stacks.second(path), list.iter().nth_back(1).copied());
                prop_assert_eq!(stacks.validate(|_, _| true), Ok(()));
            }
        }
    }
}
