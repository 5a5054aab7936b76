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
    text.push(b'[');
    for (position, &value) in values.iter().enumerate() {
        if position > 0 {
            text.push(b',');
        }
        push_decimal(&mut text, value.widen());
    }
    text.push(b']');
    text
}

fn push_decimal(text: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}
