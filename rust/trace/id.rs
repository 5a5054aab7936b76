//! Ids of either width.

/// An id of a sequence: a token id ([`u32`]), or a hash id ([`u64`]) that stands for several tokens
/// and all before them. Sealed: there are no others.
pub trait Id:
    Copy + Eq + std::hash::Hash + Default + Send + Sync + sealed::Sealed + 'static
{
    /// Whether [`Id::fold`] tells any two ids apart.
    const FOLD_IS_EXACT: bool;

    /// 32 bits of the id, to look up children by.
    fn fold(self) -> u32;

    /// The id as 64 bits.
    fn widen(self) -> u64;

    /// The id that the low bits are.
    fn from_low_bits(bits: u64) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

impl Id for u32 {
    const FOLD_IS_EXACT: bool = true;

    #[inline]
    fn fold(self) -> u32 {
        self
    }

    #[inline]
    fn widen(self) -> u64 {
        u64::from(self)
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // The low bits are what is asked for.
    fn from_low_bits(bits: u64) -> Self {
        bits as Self
    }
}

impl Id for u64 {
    const FOLD_IS_EXACT: bool = false;

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // A fold of both halves.
    fn fold(self) -> u32 {
        (self ^ (self >> 32)) as u32
    }

    #[inline]
    fn widen(self) -> u64 {
        self
    }

    #[inline]
    fn from_low_bits(bits: u64) -> Self {
        bits
    }
}
