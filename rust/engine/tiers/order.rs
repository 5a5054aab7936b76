//! Blocks of a tier in the order in which it drops them.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Orders in which single blocks are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderPolicy {
    /// Used longest ago first.
    Lru,
    /// Come first, go first.
    Fifo,
    /// Used fewest times since they came, and of these the one that has had this count longest.
    Lfu,
    /// Used last first.
    Mru,
}

impl OrderPolicy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Lru, Self::Fifo, Self::Lfu, Self::Mru];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Fifo => "fifo",
            Self::Lfu => "lfu",
            Self::Mru => "mru",
        }
    }
}

impl FromStr for OrderPolicy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|policy| policy.name() == name);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::range(format!("policy {name:?}: choose from {names}"))
        })
    }
}

/// Before the first and behind the last block of a list.
const NONE: u32 = u32::MAX;

/// Blocks, numbered densely, in the order in which they are dropped.
///
/// Blocks of one count of uses are a doubly linked list, the one that goes first at its front; but for
/// LFU there is one list.
///
/// ```
/// use prefixsim::engine::tiers::{Order, OrderPolicy};
/// let mut order = Order::new(OrderPolicy::Lru, 5);
/// for block in [3, 1, 3] {
///     order.touch(block);
/// }
/// assert_eq!((order.len(), order.pop()), (2, Some(1)));
/// ```
#[derive(Debug, Clone)]
pub struct Order {
    policy: OrderPolicy,
    /// The list of each block, from 1; 0 if it is not there.
    list: Vec<u32>,
    before: Vec<u32>,
    behind: Vec<u32>,
    ends: BTreeMap<u32, Ends>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

impl Order {
    /// No blocks, of `blocks` that there can be.
    #[must_use]
    pub fn new(policy: OrderPolicy, blocks: usize) -> Self {
        Self {
            policy,
            list: vec![0; blocks],
            before: vec![NONE; blocks],
            behind: vec![NONE; blocks],
            ends: BTreeMap::new(),
            len: 0,
        }
    }

    /// Number of blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a block is there.
    #[inline]
    #[must_use]
    pub fn contains(&self, block: u32) -> bool {
        self.list[block as usize] > 0
    }

    /// A block comes in, or is used again.
    #[inline]
    pub fn touch(&mut self, block: u32) {
        let list = self.list[block as usize];
        if list == 0 {
            self.len += 1;
            self.append(block, 1);
            return;
        }
        if self.policy == OrderPolicy::Fifo {
            return;
        }
        self.unlink(block);
        let next = u32::from(self.policy == OrderPolicy::Lfu);
        self.append(block, list.saturating_add(next));
    }

    /// Takes a block out, if it is there.
    pub fn remove(&mut self, block: u32) {
        if self.contains(block) {
            self.unlink(block);
            self.list[block as usize] = 0;
            self.len -= 1;
        }
    }

    /// Takes out the block that goes first.
    pub fn pop(&mut self) -> Option<u32> {
        let (_, ends) = self.ends.first_key_value()?;
        let first = if self.policy == OrderPolicy::Mru {
            ends.last
        } else {
            ends.first
        };
        self.remove(first);
        Some(first)
    }

    /// Takes out the first `count` blocks that are not `kept`, and adds them to `out` in order.
    pub fn drain(&mut self, count: usize, kept: impl Fn(u32) -> bool, out: &mut Vec<u32>) {
        let begin = out.len();
        let backwards = self.policy == OrderPolicy::Mru;
        for ends in self.ends.values() {
            let mut block = if backwards { ends.last } else { ends.first };
            while block != NONE && out.len() - begin < count {
                if !kept(block) {
                    out.push(block);
                }
                let links = if backwards {
                    &self.before
                } else {
                    &self.behind
                };
                block = links[block as usize];
            }
        }
        for &block in &out[begin..] {
            self.remove(block);
        }
    }

    fn append(&mut self, block: u32, list: u32) {
        let at = block as usize;
        self.list[at] = list;
        self.behind[at] = NONE;
        self.before[at] = NONE;
        let ends = self.ends.entry(list).or_insert(Ends {
            first: block,
            last: NONE,
        });
        if ends.last != NONE {
            self.before[at] = ends.last;
            self.behind[ends.last as usize] = block;
        }
        ends.last = block;
    }

    fn unlink(&mut self, block: u32) {
        let at = block as usize;
        let (before, behind) = (self.before[at], self.behind[at]);
        if before != NONE {
            self.behind[before as usize] = behind;
        }
        if behind != NONE {
            self.before[behind as usize] = before;
        }
        if before == NONE || behind == NONE {
            let list = self.list[at];
            let ends = self.ends.get_mut(&list).expect("the list of a block");
            if before == NONE && behind == NONE {
                self.ends.remove(&list);
            } else if before == NONE {
                ends.first = behind;
            } else {
                ends.last = before;
            }
        }
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        let mut linked = 0;
        for (&list, ends) in &self.ends {
            let (mut before, mut block) = (NONE, ends.first);
            while block != NONE {
                if self.list[block as usize] != list || self.before[block as usize] != before {
                    return Err(Error::bug(format!("order: block {block} is misplaced")));
                }
                linked += 1;
                if linked > self.len {
                    return Err(Error::bug("order: a list does not end"));
                }
                (before, block) = (block, self.behind[block as usize]);
            }
            if before != ends.last {
                return Err(Error::bug(format!("order: list {list} ends elsewhere")));
            }
        }
        let present = self.list.iter().filter(|&&list| list > 0).count();
        if linked != self.len || present != self.len {
            return Err(Error::bug(format!(
                "order: {linked} blocks linked, {present} present, {} counted",
                self.len
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A list of (uses, block) in order of arrival or use, which cannot be wrong.
    fn goes_first(policy: OrderPolicy, model: &[(u32, u32)]) -> Option<usize> {
        match policy {
            OrderPolicy::Lfu => (0..model.len()).min_by_key(|&i| model[i].0),
            OrderPolicy::Mru => model.len().checked_sub(1),
            _ => (!model.is_empty()).then_some(0),
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_list(which in 0_usize..4, ops in prop::collection::vec((0_u8..5, 0_u32..9), 0..80)) {
            let policy = OrderPolicy::ALL[which];
            let mut order = Order::new(policy, 9);
            let mut model: Vec<(u32, u32)> = Vec::new();
            for (op, block) in ops {
                let at = model.iter().position(|&(_, b)| b == block);
                prop_assert_eq!(order.contains(block), at.is_some());
                match op {
                    0 => {
                        order.remove(block);
                        model.retain(|&(_, b)| b != block);
                    }
                    1 => {
                        let first = goes_first(policy, &model).map(|i| model.remove(i).1);
                        prop_assert_eq!(order.pop(), first);
                    }
                    2 => {
                        let (mut drained, mut wanted) = (vec![], vec![]);
                        order.drain(2, |b| b == block, &mut drained);
                        // The one that is kept goes afterwards, to leave the model a list.
                        order.remove(block);
                        model.retain(|&(_, b)| b != block);
                        while wanted.len() < 2 {
                            let Some(first) = goes_first(policy, &model) else { break };
                            wanted.push(model.remove(first).1);
                        }
                        prop_assert_eq!(drained, wanted);
                    }
                    _ => {
                        order.touch(block);
                        match at {
                            None => model.push((1, block)),
                            Some(_) if policy == OrderPolicy::Fifo => {}
                            Some(i) => {
                                let (uses, _) = model.remove(i);
                                model.push((uses + 1, block));
                            }
                        }
                    }
                }
                prop_assert_eq!(order.validate(), Ok(()));
                prop_assert_eq!(order.len(), model.len());
                prop_assert_eq!(order.is_empty(), model.is_empty());
            }
        }
    }
}
