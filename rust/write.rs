//! Writing columns as JSON text.

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Each list of a CSR column as a JSON array, without spaces.
///
/// ```
/// let text = prefixsim::write::json_lists(&[0, 2, 2], &[7_u32, 80])?;
/// assert_eq!(text, [b"[7,80]".to_vec(), b"[]".to_vec()]);
/// # Ok::<(), prefixsim::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if `offsets` are not ascending positions in `values`.
pub fn json_lists<T: Into<u64> + Copy + Sync>(
    offsets: &[u64],
    values: &[T],
) -> Result<Vec<Vec<u8>>> {
    let rows: Vec<&[T]> = offsets
        .windows(2)
        .map(|pair| {
            values
                .get(pair[0] as usize..pair[1] as usize)
                .ok_or_else(|| {
                    Error::invalid("list offsets must ascend and stay inside the values")
                })
        })
        .collect::<Result<_>>()?;
    Ok(rows.into_par_iter().map(json_list).collect())
}

fn json_list<T: Into<u64> + Copy>(values: &[T]) -> Vec<u8> {
    let mut text = Vec::with_capacity(2 + values.len() * 8);
    text.push(b'[');
    for (position, &value) in values.iter().enumerate() {
        if position > 0 {
            text.push(b',');
        }
        push_decimal(&mut text, value.into());
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
