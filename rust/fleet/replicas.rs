//! Sets of replicas, and a small generator of random numbers.

/// Most replicas of a fleet: as many as a mask has bits.
pub const MOST_REPLICAS: usize = 64;

/// A set of replicas, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replicas(pub u64);

impl Replicas {
    /// None.
    pub const NONE: Self = Self(0);

    /// The first `count`.
    #[must_use]
    pub const fn first(count: usize) -> Self {
        if count >= MOST_REPLICAS {
            Self(u64::MAX)
        } else {
            Self((1 << count) - 1)
        }
    }

    /// One replica.
    #[must_use]
    pub const fn one(replica: usize) -> Self {
        Self(1 << replica)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether a replica is among them.
    #[must_use]
    pub const fn has(self, replica: usize) -> bool {
        self.0 >> replica & 1 == 1
    }

    /// Adds a replica.
    pub const fn add(&mut self, replica: usize) {
        self.0 |= 1 << replica;
    }

    /// Those of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those of this set that are not of the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The one with the lowest number.
    #[must_use]
    pub const fn lowest(self) -> usize {
        self.0.trailing_zeros() as usize
    }

    /// Number `n` of them, in ascending order.
    #[must_use]
    pub fn nth(self, n: usize) -> usize {
        self.into_iter().nth(n).unwrap_or_else(|| self.lowest())
    }

    /// Those for which `value` is smallest.
    #[must_use]
    pub fn least_by<T: PartialOrd>(self, mut value: impl FnMut(usize) -> T) -> Self {
        let mut best: Option<T> = None;
        let mut found = Self::NONE;
        for replica in self {
            let own = value(replica);
            match &best {
                Some(least) if own > *least => continue,
                Some(least) if own == *least => {}
                _ => {
                    found = Self::NONE;
                    best = Some(own);
                }
            }
            found.add(replica);
        }
        found
    }
}

impl IntoIterator for Replicas {
    type Item = usize;
    type IntoIter = Members;

    #[inline]
    fn into_iter(self) -> Members {
        Members(self.0)
    }
}

/// The replicas of a set, in ascending order.
#[derive(Debug, Clone)]
pub struct Members(u64);

impl Iterator for Members {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let replica = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(replica)
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): a generator whose whole state is one number.
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// A generator of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    #[allow(clippy::cast_possible_truncation)] // Below `limit`.
    pub const fn below(&mut self, limit: usize) -> usize {
        ((self.bits() as u128 * limit as u128) >> 64) as usize
    }

    /// A number at least 0 and below 1.
    #[allow(clippy::cast_precision_loss)] // 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of a set that is not empty.
    pub fn one_of(&mut self, replicas: Replicas) -> usize {
        match replicas.len() {
            0 | 1 => replicas.lowest(),
            count => replicas.nth(self.below(count)),
        }
    }
}
