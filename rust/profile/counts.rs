//! What the reuse intervals say besides hits: gaps between uses, counts per block, working sets.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::{Hang, Profile};
use crate::error::{Error, Result};
use crate::index::{IndexVec, Ix, PathIx, RequestIx};

/// Stretches of hit blocks, each with the request before that had them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps {
    /// The request that hit.
    pub request: Vec<u32>,
    /// The latest earlier request that had these blocks among its full blocks, hit or not.
    pub previous: Vec<u32>,
    /// How many blocks.
    pub blocks: Vec<u64>,
}

/// Requests that end at a depth of a heavy path, or leave it there: lists in one array, a list per
/// path.
struct Marks {
    first: IndexVec<PathIx, Option<MarkIx>>,
    marks: Vec<Mark>,
}

/// The number of a mark plus one.
type MarkIx = NonZeroU32;

#[derive(Clone, Copy)]
struct Mark {
    depth: u32,
    count: u32,
    next: Option<MarkIx>,
}

impl Marks {
    fn new(paths: usize) -> Self {
        Self {
            first: IndexVec::filled(None, paths),
            marks: Vec::new(),
        }
    }

    #[allow(clippy::cast_possible_truncation)] // At most one per request and path.
    fn add(&mut self, path: PathIx, depth: u32, count: u32) {
        let next = self.first[path];
        self.marks.push(Mark { depth, count, next });
        self.first[path] = NonZeroU32::new(self.marks.len() as u32);
    }

    /// The marks of a path as (depth, requests), in no particular order.
    fn of(&self, path: PathIx) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut next = self.first[path];
        std::iter::from_fn(move || {
            let mark = self.marks[next?.get() as usize - 1];
            next = mark.next;
            Some((mark.depth, mark.count))
        })
    }

    /// Checks every invariant: each mark is in one list, on blocks that the path has.
    fn validate(&self, profile: &Profile) -> Result<()> {
        let mut listed = 0;
        for (path, _) in self.first.enumerate() {
            for (depth, count) in self.of(path) {
                listed += 1;
                if depth <= profile.hang(path).start || count == 0 {
                    return Err(Error::bug(format!(
                        "a mark at depth {depth} of path {path}"
                    )));
                }
            }
        }
        if listed != self.marks.len() {
            return Err(Error::bug("a mark is in no list"));
        }
        Ok(())
    }
}

impl Profile {
    /// For any engine's hits, who had the hit blocks before.
    ///
    /// `hit_blocks` is the number of leading blocks that hit, per request.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not one row per request; [`Error::Range`] if a request hits more
    /// blocks than were
    /// seen before it.
    pub fn gaps(&self, hit_blocks: &[u32]) -> Result<Gaps> {
        self.check_rows(hit_blocks)?;
        let mut gaps = Gaps::default();
        for (t, &hit) in hit_blocks.iter().enumerate() {
            let mut start = 0;
            let request = RequestIx::from_usize(t);
            for interval in self.reuse(request) {
                if start >= hit {
                    break;
                }
                let end = interval.end.min(hit);
                gaps.request.push(request.get());
                gaps.previous.push(interval.last_use.get());
                gaps.blocks.push(u64::from(end - start));
                start = end;
            }
            if start < hit {
                return Err(Error::range(format!(
                    "request {t} hits {hit} blocks, but only {start} of them were seen before"
                )));
            }
        }
        Ok(gaps)
    }

    /// How many requests have each unique block among their leading `depth[request]` blocks.
    ///
    /// Returned as the distinct counts, ascending, and how many blocks have each. With the full
    /// blocks of the prompts as depth these are the block hit counts; with an engine's hits, how
    /// often each block was hit.
    ///
    /// # Errors
    /// [`Error::Shape`] if `depth` is not one row per request; [`Error::Range`] if deeper than a
    /// request is.
    pub fn block_counts(&self, depth: &[u32]) -> Result<(Vec<u64>, Vec<u64>)> {
        self.check_rows(depth)?;
        let paths = self.forest().heavy_paths();
        let mut marks = Marks::new(paths);
        for (t, &depth) in depth.iter().enumerate() {
            if depth > self.touched()[t] {
                return Err(Error::range(format!(
                    "request {t} has {} blocks, not {depth}",
                    self.touched()[t]
                )));
            }
            if depth > 0 {
                let path = self.path_of(RequestIx::from_usize(t));
                marks.add(self.holder(path, depth), depth, 1);
            }
        }
        let mut weights = BTreeMap::new();
        let mut list = Vec::new();
        for path in (0..paths).rev() {
            self.add_up(
                PathIx::from_usize(path),
                &mut marks,
                &mut list,
                &mut weights,
            );
        }
        debug_assert_eq!(marks.validate(self), Ok(()));
        let counted: u64 = weights.values().sum();
        if counted < self.unique_blocks() {
            weights.insert(0, self.unique_blocks() - counted);
        }
        Ok(weights.into_iter().unzip())
    }

    /// Adds up the marks of one path from its bottom; what goes on above it is marked there.
    fn add_up(
        &self,
        path: PathIx,
        marks: &mut Marks,
        list: &mut Vec<(u32, u32)>,
        weights: &mut BTreeMap<u64, u64>,
    ) {
        list.clear();
        list.extend(marks.of(path));
        list.sort_unstable_by_key(|&(depth, _)| std::cmp::Reverse(depth));
        let Hang { up, start } = self.hang(path);
        let mut count = 0;
        for (i, &(depth, marked)) in list.iter().enumerate() {
            count += marked;
            let above = list.get(i + 1).map_or(start, |&(depth, _)| depth);
            if depth > above {
                *weights.entry(u64::from(count)).or_insert(0) += u64::from(depth - above);
            }
        }
        if let Some(up) = up
            && count > 0
            && start > 0
        {
            marks.add(self.holder(up, start), start, count);
        }
    }

    /// The heavy path, `path` or one above it, that holds the block that ends at `depth`.
    fn holder(&self, mut path: PathIx, depth: u32) -> PathIx {
        while let Hang {
            up: Some(up),
            start,
        } = self.hang(path)
            && start >= depth
        {
            path = up;
        }
        path
    }

    /// Distinct blocks touched in each window of requests `bounds[i]..bounds[i + 1]`.
    ///
    /// # Errors
    /// [`Error::Range`] if the bounds descend or lie outside the trace.
    pub fn working_set(&self, bounds: &[u32]) -> Result<Vec<u64>> {
        if bounds.last().is_some_and(|&b| b as usize > self.requests())
            || bounds.windows(2).any(|pair| pair[0] > pair[1])
        {
            return Err(Error::range("bounds have to ascend within the trace"));
        }
        let touched = self.touched();
        Ok(bounds
            .windows(2)
            .map(|window| {
                (window[0]..window[1])
                    .map(|t| {
                        // Last uses get older downwards: what this window touched leads.
                        let reuse = self.reuse(RequestIx::new(t));
                        let inside = reuse.partition_point(|r| r.last_use.get() >= window[0]);
                        let seen = inside.checked_sub(1).map_or(0, |i| reuse[i].end);
                        u64::from(touched[t as usize] - seen)
                    })
                    .sum()
            })
            .collect())
    }

    fn check_rows(&self, column: &[u32]) -> Result<()> {
        if column.len() == self.requests() {
            return Ok(());
        }
        Err(Error::shape(format!(
            "{} rows given, but the trace has {} requests",
            column.len(),
            self.requests()
        )))
    }
}
