//! Indices that must not be mixed up, and vectors indexed by one kind only.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// An index type over `u32`.
pub trait Ix: Copy + Eq + Ord + std::fmt::Debug {
    /// The index of this number.
    fn from_usize(number: usize) -> Self;
    /// The number, to index with.
    fn usize(self) -> usize;
}

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u32);

        impl $name {
            /// The index of this number.
            #[inline]
            #[must_use]
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// The number.
            #[inline]
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl Ix for $name {
            #[inline]
            #[allow(clippy::cast_possible_truncation)] // Traces have fewer than 2^30 requests.
            fn from_usize(number: usize) -> Self {
                debug_assert!(u32::try_from(number).is_ok());
                Self(number as u32)
            }

            #[inline]
            fn usize(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

index! {
    /// A request of a trace, in its order.
    RequestIx;
    /// A heavy path of a forest.
    PathIx;
}

/// A number that is below 2^32 by construction: counts of requests, blocks and tokens, which are
/// checked where a trace or a cache is made.
///
/// # Panics
/// If it is not, which is a bug: going on would count wrongly without a word.
#[inline]
pub(crate) fn to_u32<T: TryInto<u32>>(number: T) -> u32 {
    match number.try_into() {
        Ok(number) => number,
        Err(_) => unreachable!("a count of 2^32 or more"),
    }
}

/// A number that is a place in memory by construction: an offset that was checked against values.
///
/// # Panics
/// If it is not, which is a bug.
#[inline]
pub(crate) fn to_usize(number: u64) -> usize {
    match number.try_into() {
        Ok(number) => number,
        Err(_) => unreachable!("an offset beyond memory"),
    }
}

/// A count as a factor of rates and times. Counts of tokens, blocks and nanoseconds stay below 2^53,
/// up to which this is exact.
#[inline]
#[allow(clippy::cast_precision_loss)] // As said.
pub(crate) const fn to_f64(count: u64) -> f64 {
    count as f64
}

/// A vector that only indices of kind `I` fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexVec<I, T> {
    items: Vec<T>,
    kind: PhantomData<fn(I)>,
}

impl<I: Ix, T> IndexVec<I, T> {
    /// `length` copies of an item.
    #[must_use]
    pub fn filled(item: T, length: usize) -> Self
    where
        T: Clone,
    {
        vec![item; length].into()
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Appends an item and returns its index.
    pub fn push(&mut self, item: T) -> I {
        self.items.push(item);
        I::from_usize(self.items.len() - 1)
    }

    /// The items in order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }

    /// The items with their indices.
    pub fn enumerate(&self) -> impl Iterator<Item = (I, &T)> {
        self.items
            .iter()
            .enumerate()
            .map(|(number, item)| (I::from_usize(number), item))
    }
}

impl<I, T> From<Vec<T>> for IndexVec<I, T> {
    fn from(items: Vec<T>) -> Self {
        Self {
            items,
            kind: PhantomData,
        }
    }
}

impl<'a, I: Ix, T> IntoIterator for &'a IndexVec<I, T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<I: Ix, T> Index<I> for IndexVec<I, T> {
    type Output = T;

    #[inline]
    fn index(&self, index: I) -> &T {
        &self.items[index.usize()]
    }
}

impl<I: Ix, T> IndexMut<I> for IndexVec<I, T> {
    #[inline]
    fn index_mut(&mut self, index: I) -> &mut T {
        &mut self.items[index.usize()]
    }
}
