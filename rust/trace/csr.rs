//! Lists of different lengths in two columns (compressed sparse rows).

use crate::error::{Error, Result};

/// One list per request: list `i` is `values[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Csr<'a, T> {
    offsets: &'a [u64],
    values: &'a [T],
}

impl<'a, T> Csr<'a, T> {
    /// Borrows the two columns.
    ///
    /// # Errors
    /// [`Error::Shape`] if `offsets` is empty, descends, or points behind `values`, or if a list
    /// has 2^32 - 1 values or more.
    pub fn new(offsets: &'a [u64], values: &'a [T]) -> Result<Self> {
        let Some(&last) = offsets.last() else {
            return Err(Error::shape(
                "offsets: empty, one more than requests needed",
            ));
        };
        if last > values.len() as u64 {
            return Err(Error::shape(format!(
                "offsets: the last is {last}, but there are {} values",
                values.len()
            )));
        }
        for (i, pair) in offsets.windows(2).enumerate() {
            if pair[1] < pair[0] || pair[1] - pair[0] >= u64::from(u32::MAX) {
                return Err(Error::shape(format!(
                    "offsets: list {i} runs from {} to {}, which is no length below 2^32",
                    pair[0], pair[1]
                )));
            }
        }
        Ok(Self { offsets, values })
    }

    /// Number of lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// List `i`.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // Checked: offsets lie within `values`.
    pub fn list(&self, i: usize) -> &'a [T] {
        &self.values[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
}
