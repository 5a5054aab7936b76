//! What follows from the groups: granularities, and classes of groups that are looked up together.

use super::config::EagleHits;
use super::{Group, GroupKind, GroupsConfig};
use crate::engine::vllm::Retention;
use crate::error::{Error, Result};

/// Groups of the same kind and block size. A block counts as cached only if every member has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// What its layers attend to.
    pub kind: GroupKind,
    /// Tokens per block.
    pub block_size: u32,
    /// Whether hits lose their last block to the drafter.
    pub drops: bool,
    /// Numbers of the groups.
    pub members: Vec<usize>,
}

/// What follows from a [`GroupsConfig`]. All sizes in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Least common multiple of the block sizes.
    pub scheduler_block: u32,
    /// Between two hashes.
    pub hash_unit: u32,
    /// The smallest block size.
    pub smallest_block: u32,
    /// What lengths of hits are multiples of.
    pub alignment: u32,
    /// Whether hits may end inside a block (of full attention or Mamba).
    pub fine: bool,
    /// Classes in the order in which they are looked up: full attention first.
    pub classes: Vec<Class>,
    /// The class of each group.
    pub class_of: Vec<usize>,
    /// Tokens after a block that its hash covers.
    pub lookahead: u32,
    /// Whether states are kept where siblings are known to part.
    pub junction_checkpoints: bool,
    /// Whether states are kept for prefixes: there are Mamba groups, and caching is on.
    pub keeps_states: bool,
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lcm(sizes: impl Iterator<Item = u32>) -> Result<u32> {
    let multiple = sizes.fold(1_u64, |a, b| {
        (a / gcd(a, u64::from(b))).saturating_mul(u64::from(b))
    });
    u32::try_from(multiple).map_err(|_| {
        Error::range("the least common multiple of the block sizes is more than 2^32 - 1")
    })
}

fn is_mamba(group: &Group) -> bool {
    matches!(group.kind, GroupKind::Mamba { .. })
}

impl Layout {
    /// # Errors
    /// [`Error::Range`] if the groups do not go together.
    pub fn new(config: &GroupsConfig) -> Result<Self> {
        config.validate()?;
        let groups = &config.groups;
        let scheduler_block = lcm(groups.iter().map(|group| group.block_size))?;
        let hash_unit = if config.enable_caching {
            config.hash_unit
        } else {
            scheduler_block
        };
        let one = groups.len() == 1;
        let fine = !one
            && config.enable_caching
            && groups
                .iter()
                .any(|g| is_mamba(g) && g.block_size > hash_unit)
            && groups
                .iter()
                .all(|g| is_mamba(g) || g.kind == GroupKind::Full || g.block_size == hash_unit);
        let alignment = if fine { hash_unit } else { scheduler_block };
        let drop = config.eagle_hits == EagleHits::Drop;
        let marked = groups.iter().any(|group| group.eagle);
        let drops = |group: &Group| drop && (group.eagle || !marked);
        let (classes, class_of) = classes(groups, drops);
        let layout = Self {
            scheduler_block,
            hash_unit,
            smallest_block: groups
                .iter()
                .map(|group| group.block_size)
                .min()
                .unwrap_or(1),
            alignment,
            fine,
            classes,
            class_of,
            lookahead: u32::from(config.eagle_hits == EagleHits::Lookahead),
            junction_checkpoints: config.junction_checkpoints && fine && (marked || drop),
            keeps_states: config.enable_caching && groups.iter().any(is_mamba),
        };
        layout.validate(config)?;
        Ok(layout)
    }

    fn validate(&self, config: &GroupsConfig) -> Result<()> {
        for class in &self.classes {
            let chunked = matches!(class.kind, GroupKind::ChunkedLocal { .. });
            if chunked && config.enable_caching && class.block_size != self.alignment {
                return Err(Error::range(format!(
                    "chunked local attention with blocks of {} tokens where hits are multiples of {}: \
                     give all groups the same block size",
                    class.block_size, self.alignment
                )));
            }
            if chunked && class.drops {
                return Err(Error::range(
                    "chunked local attention does not go with dropped blocks: give eagle_hits lookahead",
                ));
            }
        }
        if let Retention::Interval(interval) = config.retention
            && (interval == 0 || !interval.is_multiple_of(self.scheduler_block))
        {
            return Err(Error::range(format!(
                "retention interval {interval} is not a positive multiple of {}, the least common \
                 multiple of the block sizes",
                self.scheduler_block
            )));
        }
        Ok(())
    }

    /// Whether there is one group only.
    #[must_use]
    pub fn is_one_group(&self) -> bool {
        self.class_of.len() == 1
    }

    /// Whether any class drops the last block of hits.
    #[must_use]
    pub fn any_drops(&self) -> bool {
        self.classes.iter().any(|class| class.drops)
    }

    /// The class of a group.
    #[must_use]
    pub fn class(&self, group: usize) -> &Class {
        &self.classes[self.class_of[group]]
    }

    /// Hashes of a request with so many known tokens.
    #[must_use]
    pub fn hashes(&self, num_tokens: u32) -> u32 {
        num_tokens.saturating_sub(self.lookahead) / self.hash_unit
    }
}

/// Rounds down to a multiple.
pub(super) fn align(tokens: u32, unit: u32) -> u32 {
    tokens - tokens % unit
}

/// Groups the groups: classes in the order of their first member, full attention in front; and the class
/// of each group.
fn classes(groups: &[Group], drops: impl Fn(&Group) -> bool) -> (Vec<Class>, Vec<usize>) {
    let mut classes: Vec<Class> = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        let same =
            |class: &&mut Class| class.kind == group.kind && class.block_size == group.block_size;
        match classes.iter_mut().find(same) {
            Some(class) => {
                class.members.push(number);
                class.drops |= drops(group);
            }
            None => classes.push(Class {
                kind: group.kind,
                block_size: group.block_size,
                drops: drops(group),
                members: vec![number],
            }),
        }
    }
    classes.sort_by_key(|class| class.kind != GroupKind::Full);
    let class_of = (0..groups.len())
        .filter_map(|number| {
            classes
                .iter()
                .position(|class| class.members.contains(&number))
        })
        .collect();
    (classes, class_of)
}
