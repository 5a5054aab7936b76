//! The slots nobody uses, in the order in which they will be taken.

use super::{NULL_SLOT, Slot};
use crate::error::{Error, Result};
use crate::index::to_u32;

const NIL: u32 = u32::MAX;

/// A queue over slots `1..num_slots` with removal from the middle, without an allocation per
/// operation.
///
/// Its order is `recycled ++ fresh ++ released`:
/// * `recycled`: slots pushed to the front;
/// * `fresh`: slots never taken so far, a plain range, so that memory grows only with use;
/// * `released`: slots pushed to the back.
///
/// `recycled` and `released` are circular doubly linked lists threaded through one array of links.
/// List heads take link 0 (`recycled`) and the link of the null slot (`released`).
///
/// ```
/// use prefixsim::engine::vllm::FreeQueue;
/// let mut queue = FreeQueue::new(5)?;
/// assert_eq!(queue.pop_front(), Some(1));
/// assert_eq!(queue.pop_front(), Some(2));
/// queue.push_back(1);
/// queue.push_front(2);
/// assert_eq!(queue.iter().collect::<Vec<_>>(), [2, 3, 4, 1]);
/// # Ok::<(), prefixsim::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FreeQueue {
    links: Vec<Link>,
    /// First slot never taken so far.
    fresh: u32,
    /// One past the last slot.
    end: u32,
    len: u32,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

const UNLINKED: Link = Link {
    prev: NIL,
    next: NIL,
};

/// Index of the head of the list of recycled slots in `links`.
const RECYCLED: u32 = 0;
/// Index of the head of the list of released slots: that of the null slot.
const RELEASED: u32 = link_of(NULL_SLOT);

const fn link_of(slot: Slot) -> u32 {
    slot + 1
}

const fn slot_of(link: u32) -> Slot {
    link - 1
}

impl FreeQueue {
    /// A queue of the slots `1..num_slots`, in this order.
    ///
    /// # Errors
    /// [`Error::Range`] if `num_slots` is 0 or `u32::MAX`.
    pub fn new(num_slots: u32) -> Result<Self> {
        if !(1..NIL).contains(&num_slots) {
            return Err(Error::range(format!(
                "{num_slots} slots: give 1 to {}",
                NIL - 1
            )));
        }
        let head = |link| Link {
            prev: link,
            next: link,
        };
        Ok(Self {
            links: vec![head(RECYCLED), head(RELEASED)],
            fresh: 1,
            end: num_slots,
            len: num_slots - 1,
        })
    }

    /// Number of free slots.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no slot is free.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the largest slot ever taken.
    #[must_use]
    pub fn taken_end(&self) -> u32 {
        self.fresh
    }

    /// Whether `slot` is in the queue.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        slot != NULL_SLOT
            && slot < self.end
            && (slot >= self.fresh || self.links[link_of(slot) as usize].prev != NIL)
    }

    /// Takes the slot at the front.
    pub fn pop_front(&mut self) -> Option<Slot> {
        let first = self.links[RECYCLED as usize].next;
        if first != RECYCLED {
            self.unlink(slot_of(first));
            return Some(slot_of(first));
        }
        if self.fresh < self.end {
            self.fresh += 1;
            self.len -= 1;
            self.links.push(UNLINKED);
            return Some(self.fresh - 1);
        }
        let first = self.links[RELEASED as usize].next;
        if first == RELEASED {
            return None;
        }
        self.unlink(slot_of(first));
        Some(slot_of(first))
    }

    /// Puts a slot that is not in the queue at the front.
    pub fn push_front(&mut self, slot: Slot) {
        self.insert(slot, RECYCLED, self.links[RECYCLED as usize].next);
    }

    /// Puts a slot that is not in the queue at the back.
    pub fn push_back(&mut self, slot: Slot) {
        self.insert(slot, self.links[RELEASED as usize].prev, RELEASED);
    }

    fn insert(&mut self, slot: Slot, prev: u32, next: u32) {
        let link = link_of(slot);
        debug_assert!(slot != NULL_SLOT && !self.contains(slot));
        self.links[link as usize] = Link { prev, next };
        self.links[prev as usize].next = link;
        self.links[next as usize].prev = link;
        self.len += 1;
    }

    /// Removes a slot that was pushed, wherever it is in the queue.
    pub fn unlink(&mut self, slot: Slot) {
        let link = link_of(slot) as usize;
        let Link { prev, next } = self.links[link];
        debug_assert!(slot != NULL_SLOT && prev != NIL);
        self.links[prev as usize].next = next;
        self.links[next as usize].prev = prev;
        self.links[link] = UNLINKED;
        self.len -= 1;
    }

    /// The free slots, front to back.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.list(RECYCLED)
            .chain(self.fresh..self.end)
            .chain(self.list(RELEASED))
    }

    fn list(&self, head: u32) -> impl Iterator<Item = Slot> + '_ {
        let mut at = head;
        std::iter::from_fn(move || {
            at = self.links[at as usize].next;
            (at != head).then(|| slot_of(at))
        })
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`](crate::Error::Bug) naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        if self.links.len() != link_of(self.fresh) as usize {
            return Err(Error::bug(format!(
                "{} links for {} slots",
                self.links.len(),
                self.fresh
            )));
        }
        let mut linked = 0;
        for head in [RECYCLED, RELEASED] {
            let mut at = head;
            loop {
                let next = self.links[at as usize].next;
                if next == NIL || self.links[next as usize].prev != at {
                    return Err(Error::bug(format!(
                        "free queue: links {at} and {next} disagree"
                    )));
                }
                if next == head {
                    break;
                }
                linked += 1;
                if linked > self.links.len() {
                    return Err(Error::bug("free queue: a list does not end"));
                }
                at = next;
            }
        }
        let members = self.links[2..].iter().filter(|l| l.prev != NIL).count();
        let expected = to_u32(linked) + (self.end - self.fresh);
        if members != linked || expected != self.len {
            return Err(Error::bug(format!(
                "free queue: length {}, {linked} linked, {members} marked, {} fresh",
                self.len,
                self.end - self.fresh
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Pop,
        Front(usize),
        Back(usize),
        Unlink(usize),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            3 => Just(Op::Pop),
            1 => any::<usize>().prop_map(Op::Front),
            1 => any::<usize>().prop_map(Op::Back),
            1 => any::<usize>().prop_map(Op::Unlink),
        ];
        prop::collection::vec(op, 0..200)
    }

    proptest! {
        /// Against a `VecDeque`, which cannot be wrong.
        #[test]
        fn behaves_like_a_deque(num_slots in 1_u32..40, ops in ops()) {
            let mut queue = FreeQueue::new(num_slots).unwrap();
            let mut model: VecDeque<u32> = (1..num_slots).collect();
            let mut out: Vec<u32> = Vec::new();
            for op in ops {
                match op {
                    Op::Pop => {
                        let slot = queue.pop_front();
                        prop_assert_eq!(slot, model.pop_front());
                        out.extend(slot);
                    }
                    Op::Front(i) if !out.is_empty() => {
                        let slot = out.swap_remove(i % out.len());
                        queue.push_front(slot);
                        model.push_front(slot);
                    }
                    Op::Back(i) if !out.is_empty() => {
                        let slot = out.swap_remove(i % out.len());
                        queue.push_back(slot);
                        model.push_back(slot);
                    }
                    Op::Unlink(i) => {
                        // Only slots that were taken once can be removed from the middle.
                        let used: Vec<u32> =
                            model.iter().copied().filter(|&s| s < queue.taken_end()).collect();
                        if !used.is_empty() {
                            let slot = used[i % used.len()];
                            queue.unlink(slot);
                            model.retain(|&s| s != slot);
                            out.push(slot);
                        }
                    }
                    Op::Front(_) | Op::Back(_) => {}
                }
                prop_assert_eq!(queue.validate(), Ok(()));
                prop_assert_eq!(queue.iter().collect::<VecDeque<_>>(), model.clone());
                prop_assert_eq!(queue.len() as usize, model.len());
                prop_assert!((0..num_slots).all(|s| queue.contains(s) == model.contains(&s)));
            }
        }
    }
}
