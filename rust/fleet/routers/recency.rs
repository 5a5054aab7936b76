//! Prompts in order of use, of which the first blocks go first.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::fleet::tree::{OLDEST, ROOT, look_ahead};

/// What a list keeps of a segment: a trailing part.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    /// The prompt that used it last.
    pub used: u32,
    /// Trailing blocks that are kept.
    pub kept: u32,
}

/// The segments that a [`HeadsFirst`] is kept on.
pub(super) trait Segments {
    /// The segment above.
    fn above(&self, at: u32) -> u32;

    /// What is kept of a segment.
    fn entry(&mut self, at: u32) -> &mut Entry;

    /// A segment lost leading blocks: all that were left, or some.
    fn lost(&mut self, at: u32, all: bool);
}

/// A prompt that was used.
#[derive(Debug, Clone, Copy)]
struct Prompt {
    leaf: u32,
    number: u32,
    time: f64,
}

/// An LRU list of blocks whose prompts are entered first block first, so that heads go before tails,
/// unlike in any engine.
///
/// The list is a queue of prompts. A prompt is entered as a whole, so that of two segments on one path the
/// upper one was used as late as the lower one, or later: what the oldest prompt used and no later one did
/// is the lower end of its path, and goes from its upper end downwards.
///
/// ```text
///   queue  7  9  12         path of 7:  root ─ a ─ b ─ c       used:  a 12, b 7, c 7
///          └ oldest                                            goes:  b, then c
/// ```
#[derive(Debug)]
pub(super) struct HeadsFirst {
    queue: VecDeque<Prompt>,
    /// Oldest prompts that were looked at.
    looked: usize,
    /// The number of the newest prompt; they begin at 1.
    newest: u32,
    /// Segments that the prompt of this number used last, the next to go at the end.
    victims: Vec<u32>,
    victims_of: u32,
    blocks: u64,
}

impl HeadsFirst {
    pub fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            looked: 0,
            newest: 0,
            victims: Vec::new(),
            victims_of: 0,
            blocks: 0,
        }
    }

    /// Lets a prompt that ends at `leaf` be the newest. Times ascend.
    pub fn begin(&mut self, leaf: u32, time: f64) {
        self.newest += 1;
        let number = self.newest;
        self.queue.push_back(Prompt { leaf, number, time });
    }

    /// Enters a segment of `blocks` blocks of the newest prompt; those above it come first.
    #[inline]
    pub fn touch(&mut self, entry: &mut Entry, blocks: u32) {
        self.blocks += u64::from(blocks - entry.kept);
        *entry = Entry {
            used: self.newest,
            kept: blocks,
        };
    }

    /// Drops the oldest blocks until at most `most` are kept.
    #[inline]
    pub fn shrink(&mut self, most: u64, on: &mut impl Segments) {
        while self.blocks > most {
            let Some(&at) = self.victims.last() else {
                self.next_victims(on);
                continue;
            };
            let entry = on.entry(at);
            if entry.used == self.victims_of {
                let excess = u32::try_from(self.blocks - most).unwrap_or(u32::MAX);
                if excess < entry.kept {
                    entry.kept -= excess;
                    self.blocks -= u64::from(excess);
                    on.lost(at, false);
                    return;
                }
                self.drop(at, on);
            }
            self.victims.pop();
        }
    }

    /// Drops what was used last at or before a time.
    pub fn expire(&mut self, time: f64, on: &mut impl Segments) {
        while let Some(&oldest) = self.queue.front()
            && oldest.time <= time
        {
            self.find_victims(oldest, on);
            self.pop();
            while let Some(at) = self.victims.pop() {
                self.drop(at, on);
            }
        }
    }

    fn drop(&mut self, at: u32, on: &mut impl Segments) {
        let entry = on.entry(at);
        if entry.kept > 0 {
            self.blocks -= u64::from(entry.kept);
            entry.kept = 0;
            on.lost(at, true);
        }
    }

    /// Finds the oldest prompt that still has something.
    fn next_victims(&mut self, on: &mut impl Segments) {
        while let Some(&oldest) = self.queue.front() {
            self.find_victims(oldest, on);
            if !self.victims.is_empty() {
                return;
            }
            self.pop();
        }
        unreachable!("blocks that are kept belong to a prompt");
    }

    fn pop(&mut self) {
        self.queue.pop_front();
        self.looked -= 1;
    }

    /// Looks at what the oldest prompts used.
    fn oldest_ahead(&mut self, on: &mut impl Segments) {
        let count = self.queue.len().min(OLDEST);
        let (mut leaves, mut numbers) = ([ROOT; OLDEST], [0; OLDEST]);
        for (place, prompt) in self.queue.iter().take(OLDEST).enumerate() {
            (leaves[place], numbers[place]) = (prompt.leaf, prompt.number);
        }
        look_ahead(&mut leaves[..count], |lane, at| {
            let used = on.entry(at).used;
            let ends = used > numbers[lane];
            (if ends { ROOT } else { on.above(at) }, used)
        });
        self.looked = count;
    }

    /// Finds what a prompt used last; the newest one may not have used all of its segments yet.
    fn find_victims(&mut self, prompt: Prompt, on: &mut impl Segments) {
        if self.looked == 0 {
            self.oldest_ahead(on);
        }
        self.victims.clear();
        self.victims_of = prompt.number;
        let mut at = prompt.leaf;
        while at != ROOT {
            let entry = *on.entry(at);
            if entry.used > prompt.number {
                return; // So were all above it.
            }
            if entry.used == prompt.number && entry.kept > 0 {
                self.victims.push(at);
            }
            at = on.above(at);
        }
    }

    /// Checks that what is kept is listed, and adds up.
    ///
    /// # Errors
    /// [`Error::Bug`] if not.
    pub fn validate(&self, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
        let oldest = self.queue.front().map_or(u32::MAX, |oldest| oldest.number);
        let mut blocks = 0;
        for entry in entries {
            if entry.kept > 0 && !(oldest..=self.newest).contains(&entry.used) {
                return Err(Error::bug(format!("{entry:?} is not listed")));
            }
            blocks += u64::from(entry.kept);
        }
        if blocks != self.blocks {
            return Err(Error::bug(format!(
                "{blocks} of {} blocks are kept",
                self.blocks
            )));
        }
        Ok(())
    }
}
