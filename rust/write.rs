//! Writing columns as JSON text.

use rayon::prelude::*;

use crate::error::Result;
use crate::trace::{Csr, Id};

/// Each list of a CSR column as a JSON array, without spaces.
///
/// ```
/// let text = prefixsim::write::json_lists(&[0, 2, 2], &[7_u32, 80])?;
/// assert_eq!(text, [b"[7,80]".to_vec(), b"[]".to_vec()]);
/// # Ok::<(), prefixsim::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Shape`] if `offsets` are no offsets of `values`, see [`Csr::new`].
pub fn json_lists<T: Id>(offsets: &[u64], values: &[T]) -> Result<Vec<Vec<u8>>> {
    let lists = Csr::new(offsets, values)?;
    Ok((0..lists.len())
        .into_par_iter()
        .map(|i| json_list(lists.list(i)))
        .collect())
}

fn json_list<T: Id>(values: &[T]) -> Vec<u8> {
    let mut text = Vec::with_capacity(2 + values.len() * 8);
    let mut decimal = itoa::Buffer::new();
    text.push(b'[');
    for (position, &value) in values.iter().enumerate() {
        if position > 0 {
            text.push(b',');
        }
        text.extend_from_slice(decimal.format(value.widen()).as_bytes());
    }
    text.push(b']');
    text
}
