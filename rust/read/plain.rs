//! Rows in the form that programs write, read straight from the bytes, eight digits at a time.
//!
//! Such a row is a flat object on one line: keys and strings without escapes, whole numbers without
//! signs, lists of them. Anything else, and anything wrong, makes the attempt give up; the careful
//! parser ([`super::row`]) then reads the line from its start, so that what a line means, and every
//! message, is the careful parser's alone.

use super::column::{Column, Lists};
use super::jsonl::Field;
use crate::trace::Id;

/// Keys of a row that are remembered for the next.
const REMEMBERED: usize = 64;

/// Reads rows of the usual form, one after the other.
pub(super) struct PlainRows<'a> {
    fields: &'a [Field],
    /// The field of each key of the row before, by place: rows of a file are alike.
    order: Vec<Option<usize>>,
}

impl<'a> PlainRows<'a> {
    pub fn new(fields: &'a [Field]) -> Self {
        Self {
            fields,
            order: Vec::new(),
        }
    }

    /// Reads the row that `text` begins with into the columns, which have `rows` rows so far.
    ///
    /// Returns the bytes it takes, its line end included; `None` if the row is not of the usual form,
    /// and the columns may then hold parts of it.
    pub fn read(&mut self, text: &[u8], columns: &mut [Column], rows: usize) -> Option<usize> {
        let mut at = Cursor { text, at: 0 };
        at.expect(b'{')?;
        at.skip_blanks();
        if at.peek()? == b'}' {
            return None;
        }
        let mut place = 0;
        loop {
            let key = at.string()?;
            at.skip_blanks();
            at.expect(b':')?;
            at.skip_blanks();
            match self.meaning(key, place) {
                Key::Field(index) if columns[index].rows() == rows => {
                    at.value(&mut columns[index])?;
                }
                Key::Ignored => at.skip_value()?,
                Key::Field(_) | Key::Doubtful => return None,
            }
            place += 1;
            at.skip_blanks();
            match at.next()? {
                b',' => at.skip_blanks(),
                b'}' => break,
                _ => return None,
            }
        }
        let whole = |(field, column): (&Field, &Column)| !field.required || column.rows() > rows;
        if !self.fields.iter().zip(&*columns).all(whole) {
            return None;
        }
        at.line_end()
    }

    /// What a key means, `place` keys behind the first.
    fn meaning(&mut self, key: &[u8], place: usize) -> Key {
        if let Some(&Some(index)) = self.order.get(place)
            && self.fields[index].name.as_bytes() == key
        {
            return Key::Field(index);
        }
        let index = self
            .fields
            .iter()
            .position(|field| field.name.as_bytes() == key);
        if place < REMEMBERED {
            self.order.resize(self.order.len().max(place + 1), None);
            self.order[place] = index;
        }
        match index {
            Some(index) => Key::Field(index),
            None if key.is_ascii() => Key::Ignored,
            None => Key::Doubtful,
        }
    }
}

/// What a key of a row means.
enum Key {
    /// The field of this index.
    Field(usize),
    /// A field that nobody asked for.
    Ignored,
    /// Bytes that may be no text.
    Doubtful,
}

/// A place in the text of a row. What gives `None` has met something unusual.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// Digits of which every whole number is an exact `f64`.
const EXACT_DIGITS: usize = 15;

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// The place behind the end of the line, before which there are blanks at most.
    fn line_end(&mut self) -> Option<usize> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
        match self.next() {
            None | Some(b'\n') => Some(self.at),
            Some(_) => None,
        }
    }

    /// The bytes between quotes, of a string without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.next()? {
                b'"' => return Some(&self.text[start..self.at - 1]),
                b'\\' | 0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn value(&mut self, column: &mut Column) -> Option<()> {
        match column {
            Column::F64(values) => values.push(self.number()?),
            Column::U32(values) => values.push(u32::try_from(self.whole()?).ok()?),
            Column::U32List(lists) => self.list(lists, u64::from(u32::MAX))?,
            Column::U64List(lists) => self.list(lists, u64::MAX)?,
            Column::Text(_) => column.push_text(std::str::from_utf8(self.string()?).ok()?),
            Column::Label(_) => {
                let text = if self.peek()? == b'"' {
                    self.string()?
                } else {
                    let start = self.at;
                    self.whole()?;
                    &self.text[start..self.at]
                };
                self.ended()?; // a label once seen stays in the list of names
                column.push_text(std::str::from_utf8(text).ok()?);
            }
        }
        self.ended()
    }

    /// Passes over a value that nobody wants.
    fn skip_value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string()?.is_ascii().then_some(())?,
            b'-' | b'0'..=b'9' => {
                self.number()?;
            }
            _ => {
                let rest = &self.text[self.at..];
                let words: [&[u8]; 3] = [b"true", b"false", b"null"];
                self.at += words.iter().find(|word| rest.starts_with(word))?.len();
            }
        }
        self.ended()
    }

    /// Whether a value ends here.
    fn ended(&self) -> Option<()> {
        matches!(self.peek()?, b',' | b'}' | b' ' | b'\t').then_some(())
    }

    /// A finite number.
    #[allow(clippy::cast_precision_loss)] // Exact: of 15 digits at most.
    fn number(&mut self) -> Option<f64> {
        let start = self.at;
        if self.peek()? == b'-' {
            self.at += 1;
        }
        let whole = self.digits();
        if whole == 0 || (whole > 1 && self.text[self.at - whole] == b'0') {
            return None;
        }
        let mut is_whole = self.text[start] != b'-' && whole <= EXACT_DIGITS;
        if self.peek() == Some(b'.') {
            self.at += 1;
            is_whole = false;
            if self.digits() == 0 {
                return None;
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            is_whole = false;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return None;
            }
        }
        let text = &self.text[start..self.at];
        if is_whole {
            let value = text.iter().fold(0, |n, &d| n * 10 + u64::from(d - b'0'));
            return Some(value as f64);
        }
        let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        value.is_finite().then_some(value)
    }

    /// Passes over digits and counts them.
    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn list<T: Id>(&mut self, lists: &mut Lists<T>, most: u64) -> Option<()> {
        self.expect(b'[')?;
        self.skip_blanks();
        if self.peek()? == b']' {
            self.at += 1;
        } else {
            loop {
                let value = self.whole()?;
                if value > most {
                    return None;
                }
                lists.values.push(T::from_low_bits(value));
                // The comma alone, or with a blank, as programs write it.
                match self.next()? {
                    b',' => self.skip_blanks(),
                    b']' => break,
                    _ => return None,
                }
            }
        }
        lists.ends.push(lists.values.len() as u64);
        Some(())
    }

    /// A whole number without sign, eight digits at a time where there are bytes enough.
    #[inline]
    fn whole(&mut self) -> Option<u64> {
        let start = self.at;
        let Some(bytes) = self.text.get(start..).and_then(<[u8]>::first_chunk::<24>) else {
            return self.whole_near_the_end();
        };
        let [first, second, third] = eights(bytes);
        let mut digits = leading_digits(first);
        let mut value = value_of(first, digits);
        if digits == 8 {
            let more = leading_digits(second);
            value = value * POWERS[more] + value_of(second, more);
            digits += more;
        }
        if digits == 16 {
            let more = leading_digits(third);
            let power = u64::from(*POWERS_OF_LAST.get(more)?);
            value = value
                .checked_mul(power)?
                .checked_add(value_of(third, more))?;
            digits += more;
        }
        self.at += digits;
        self.checked(start, value)
    }

    #[cold]
    fn whole_near_the_end(&mut self) -> Option<u64> {
        let (start, mut value) = (self.at, 0_u64);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value
                .checked_mul(10)?
                .checked_add(u64::from(digit - b'0'))?;
            self.at += 1;
        }
        self.checked(start, value)
    }

    /// The value of the digits from `start`, if they are a number as JSON has it.
    #[inline]
    fn checked(&self, start: usize, value: u64) -> Option<u64> {
        let digits = self.at - start;
        (digits == 1 || (digits > 1 && self.text[start] != b'0')).then_some(value)
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
/// By the number of digits among eight.
const POWERS: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];
/// By the number of digits behind sixteen, of which no number of 64 bits has more than four.
const POWERS_OF_LAST: [u16; 5] = [1, 10, 100, 1_000, 10_000];

/// Three times eight bytes, the first lowest.
#[inline]
fn eights(bytes: &[u8; 24]) -> [u64; 3] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_le_bytes(words[i]))
}

/// How many of eight bytes, from the first (the lowest), are digits.
#[inline]
fn leading_digits(bytes: u64) -> usize {
    let shifted = bytes ^ (ONES * 0x30); // 0 to 9 for digits
    // The high bit of every byte above 9; bytes from 0x80 on have it already. A carry out of a byte
    // reaches only those behind the first that is no digit.
    let others = (shifted.wrapping_add(ONES * 0x76) | shifted) & (ONES * 0x80);
    (others.trailing_zeros() / 8) as usize
}

/// The value of the first `digits` of eight bytes, which are digits.
#[inline]
fn value_of(bytes: u64, digits: usize) -> u64 {
    if digits == 0 {
        return 0;
    }
    // Digits to the high end, zeros before them.
    let mut sum = (bytes ^ (ONES * 0x30)) << (8 * (8 - digits));
    sum = (sum.wrapping_mul(10) + (sum >> 8)) & 0x00ff_00ff_00ff_00ff;
    sum = (sum.wrapping_mul(100) + (sum >> 16)) & 0x0000_ffff_0000_ffff;
    (sum.wrapping_mul(10_000) + (sum >> 32)) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Option<u64> {
        let mut cursor = Cursor {
            text: text.as_bytes(),
            at: 0,
        };
        cursor.whole()
    }

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        for digits in 1..=20 {
            for first in ["1", "9", "17", "18446744073709551615", "4294967295"] {
                let text: String = first.chars().cycle().take(digits).collect();
                for behind in [
                    "",
                    ",",
                    "]",
                    ",1234567890,",
                    " ",
                    "\u{e9}\u{e9}\u{e9}\u{e9}",
                ] {
                    let found = whole(&format!("{text}{behind}"));
                    assert_eq!(found, text.parse().ok(), "{text}{behind}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_is_left_to_the_careful_parser() {
        for text in [
            "",
            ",",
            "-1",
            "01",
            "00",
            "184467440737095516150",
            "99999999999999999999",
        ] {
            assert_eq!(whole(text), None, "{text}");
        }
        assert_eq!(whole("0"), Some(0));
        assert_eq!(whole("18446744073709551616,1,1,1,1"), None);
    }
}
