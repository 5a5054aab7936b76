//! Compiling a trace into a forest.
//!
//! Reading the ids is what costs, so requests are taken in batches of two phases. In the first, in
//! parallel, every request of the batch looks for the longest prefix that it shares with what is
//! known: a request with an earlier turn in its session is compared with that turn; any other one,
//! or one that left its session's path, walks down the tree as it was before the batch. In the
//! second phase, one after the other, requests are put into the tree where the first phase left
//! off; what was compared is not read again.
//!
//! Walking does not stop at every node. At a node, the *guide*, a late request that went this way,
//! is compared as far as it goes, and the walk continues where the two part. A conversation of
//! hundreds of turns is thereby crossed in one step. No hash is ever trusted: every match is a
//! comparison of the ids themselves.

// `compile` refuses traces whose requests or lengths do not fit.
#![allow(clippy::cast_possible_truncation)]

use std::borrow::Cow;

use rayon::prelude::*;

use super::Forest;
use super::builder::{ForestBuilder, Position};
use super::number::number;
use crate::error::{Error, Result};
use crate::forest::NONE;
use crate::index::to_u32;
use crate::stop::Stop;
use crate::trace::{Id, Trace};

/// Requests that look for their prefixes at the same time.
const BATCH: usize = 8192;
/// Requests that one thread takes at once.
const CHUNK: usize = 64;

/// A request of the batch: the earlier turn to compare it with, and what was found.
#[derive(Debug, Clone, Copy)]
struct Entrant {
    earlier: u32,
    position: Position,
}

impl Forest {
    /// Compiles the sequences of a trace.
    ///
    /// # Errors
    /// [`Error::Range`] if the trace has 2^30 or more requests, or a sequence 2^32 - 1 ids or
    /// more; [`Error::Interrupted`] if asked to
    /// stop.
    pub fn compile<T: Id>(trace: &Trace<'_, T>, stop: &Stop) -> Result<Self> {
        let requests = trace.requests();
        if requests >= 1 << 30 {
            return Err(Error::range("2^30 requests or more in one trace"));
        }
        if let Some(request) = (0..requests).find(|&i| trace.len(i) >= NONE as usize) {
            return Err(Error::range(format!(
                "request {request}: a sequence of 2^32 - 1 ids or more"
            )));
        }
        let (salt, session) = (trace.salts().map(dense), trace.sessions().map(dense));
        let root = |request: usize| salt.as_ref().map_or(0, |(codes, _)| codes[request]);
        let mut builder = ForestBuilder::new(trace, salt.as_ref().map_or(1, |&(_, codes)| codes));
        let mut latest = vec![NONE; session.as_ref().map_or(0, |&(_, codes)| codes) as usize];
        let mut prompt_node = vec![0; requests];
        let mut batch = Vec::with_capacity(BATCH);
        for start in (0..requests).step_by(BATCH) {
            stop.check()?;
            batch.clear();
            batch.extend((start..requests.min(start + BATCH)).map(|request| {
                let earlier = session.as_ref().map_or(NONE, |(codes, _)| {
                    std::mem::replace(&mut latest[codes[request] as usize], request as u32)
                });
                let usable = earlier != NONE && root(earlier as usize) == root(request);
                Entrant {
                    earlier: if usable { earlier } else { NONE },
                    position: Position::default(),
                }
            }));
            batch
                .par_chunks_mut(CHUNK)
                .enumerate()
                .for_each(|(i, chunk)| {
                    for (j, entrant) in chunk.iter_mut().enumerate() {
                        let request = start + i * CHUNK + j;
                        entrant.look(&builder, request, root(request));
                    }
                });
            for (i, entrant) in batch.iter().enumerate() {
                let request = start + i;
                prompt_node[request] = builder.insert(request, root(request), &entrant.position);
            }
        }
        drop((latest, batch));
        Ok(number(builder, prompt_node))
    }
}

/// The codes of a column, and a bound above all of them that is no larger than the number of rows:
/// where the caller's codes go beyond it, they are numbered anew in the same order.
fn dense(column: &[u32]) -> (Cow<'_, [u32]>, u32) {
    let rows = to_u32(column.len());
    match column.iter().max() {
        None => (column.into(), 1),
        Some(&last) if last < rows => (column.into(), last + 1),
        Some(_) => {
            let mut known = column.to_vec();
            known.sort_unstable();
            known.dedup();
            let codes = column
                .iter()
                .map(|code| to_u32(known.partition_point(|other| other < code)))
                .collect();
            (Cow::Owned(codes), to_u32(known.len()))
        }
    }
}

impl Entrant {
    /// Finds the longest prefix of `request` that is known before the batch.
    fn look<T: Id>(&mut self, builder: &ForestBuilder<'_, T>, request: usize, root: u32) {
        let mut turn = None;
        if self.earlier != NONE {
            let earlier = self.earlier as usize;
            let ids = builder.trace().common(request, earlier, 0);
            let position = builder.position_on(self.earlier, ids as u32, root);
            if ids == builder.trace().len(earlier) {
                self.position = position;
                return;
            }
            turn = Some(position);
        }
        let position = builder.walk(request, root);
        self.position = turn
            .filter(|turn| turn.depth >= position.depth)
            .unwrap_or(position);
    }
}
