//! Segments in order of use, of which the first blocks go first.

use crate::error::{Error, Result};

const NIL: u32 = u32::MAX;

/// A segment that is kept.
#[derive(Debug, Clone, Copy)]
struct Kept {
    /// Leading blocks that are gone.
    gone: u32,
    older: u32,
    newer: u32,
    /// When it was used.
    used: f64,
}

const ABSENT: Kept = Kept {
    gone: NIL,
    older: NIL,
    newer: NIL,
    used: 0.0,
};

/// An LRU list of blocks whose prompts are entered first block first, so that heads go before tails,
/// unlike in any engine.
///
/// What is kept of a segment is a trailing part of it.
#[derive(Debug)]
pub(super) struct HeadsFirst {
    kept: Vec<Kept>,
    oldest: u32,
    newest: u32,
    blocks: u64,
}

impl HeadsFirst {
    pub fn new(segments: usize) -> Self {
        Self {
            kept: vec![ABSENT; segments],
            oldest: NIL,
            newest: NIL,
            blocks: 0,
        }
    }

    /// Leading blocks of a segment that are gone, if any is kept.
    #[inline]
    pub fn gone(&self, at: u32) -> Option<u32> {
        let gone = self.kept[at as usize].gone;
        (gone != NIL).then_some(gone)
    }

    /// Makes a segment of `blocks` blocks, all of them kept, the newest.
    pub fn touch(&mut self, at: u32, blocks: u32, now: f64) {
        if let Some(gone) = self.gone(at) {
            self.unlink(at);
            self.blocks += u64::from(gone);
        } else {
            self.blocks += u64::from(blocks);
        }
        let older = self.newest;
        self.kept[at as usize] = Kept {
            gone: 0,
            older,
            newer: NIL,
            used: now,
        };
        if older == NIL {
            self.oldest = at;
        } else {
            self.kept[older as usize].newer = at;
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let Kept { older, newer, .. } = self.kept[at as usize];
        if older == NIL {
            self.oldest = newer;
        } else {
            self.kept[older as usize].newer = newer;
        }
        if newer == NIL {
            self.newest = older;
        } else {
            self.kept[newer as usize].older = older;
        }
    }

    /// Drops the oldest blocks until at most `most` are kept; tells which segments lost some, and
    /// whether that was all.
    pub fn shrink(
        &mut self,
        most: u64,
        size: impl Fn(u32) -> u32,
        mut lost: impl FnMut(u32, bool),
    ) {
        while self.blocks > most {
            let at = self.oldest;
            let have = size(at) - self.kept[at as usize].gone;
            let excess = u32::try_from(self.blocks - most).unwrap_or(u32::MAX);
            if excess < have {
                self.kept[at as usize].gone += excess;
                self.blocks -= u64::from(excess);
                lost(at, false);
            } else {
                self.remove(at, have);
                lost(at, true);
            }
        }
    }

    /// Drops segments last used at or before a time.
    pub fn expire(&mut self, time: f64, size: impl Fn(u32) -> u32, mut lost: impl FnMut(u32)) {
        while self.oldest != NIL && self.kept[self.oldest as usize].used <= time {
            let at = self.oldest;
            self.remove(at, size(at) - self.kept[at as usize].gone);
            lost(at);
        }
    }

    fn remove(&mut self, at: u32, have: u32) {
        self.unlink(at);
        self.kept[at as usize] = ABSENT;
        self.blocks -= u64::from(have);
    }

    /// Checks every invariant: what is listed is kept, and adds up.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self, size: impl Fn(u32) -> u32) -> Result<()> {
        let (mut at, mut older, mut listed, mut blocks) = (self.oldest, NIL, 0, 0);
        while at != NIL {
            let kept = self.kept[at as usize];
            if kept.older != older || kept.gone >= size(at) {
                return Err(Error::bug(format!("segment {at} is listed wrongly")));
            }
            blocks += u64::from(size(at) - kept.gone);
            listed += 1;
            (older, at) = (at, kept.newer);
        }
        let kept = self.kept.iter().filter(|kept| kept.gone != NIL).count();
        if older != self.newest || blocks != self.blocks || listed != kept {
            return Err(Error::bug(format!(
                "{listed} of {kept} segments are listed, with {blocks} of {} blocks",
                self.blocks
            )));
        }
        Ok(())
    }
}
