//! Memory for sizes that depend on input: asked for, never assumed.

use crate::error::{Error, Result};

/// An empty vector with room for `items`.
///
/// # Errors
/// [`Error::Memory`] if the system does not give that much, instead of the end of the process.
pub fn reserved<T>(items: u64) -> Result<Vec<T>> {
    let mut room = Vec::new();
    reserve(&mut room, items)?;
    Ok(room)
}

/// Makes room in `vector` for `more` items.
///
/// # Errors
/// As [`reserved`].
pub fn reserve<T>(vector: &mut Vec<T>, more: u64) -> Result<()> {
    let bytes = more.saturating_mul(size_of::<T>() as u64);
    usize::try_from(more)
        .ok()
        .and_then(|more| vector.try_reserve_exact(more).ok())
        .ok_or(Error::Memory { bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        assert_eq!(reserved::<u32>(3).unwrap().capacity(), 3);
        for items in [u64::MAX, 1 << 61, u64::MAX / 8] {
            let refused = reserved::<u64>(items);
            assert!(matches!(refused, Err(Error::Memory { .. })), "{items}");
        }
        assert_eq!(
            reserved::<u64>(1 << 61).unwrap_err().to_string(),
            "18446744073709551615 bytes of memory are needed and cannot be had"
        );
    }
}
