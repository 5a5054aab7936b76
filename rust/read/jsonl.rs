//! JSON Lines into columns, block by block, on all cores.
//!
//! Each line is a flat JSON object. Known fields go straight from the parser into columns; unknown
//! ones are skipped. Nothing but the columns grows with the file.

use rayon::prelude::*;
use serde::de::DeserializeSeed;

use super::column::{Column, Kind};
use super::plain::PlainRows;
use super::row::RowSeed;
use crate::error::{Error, Result};

/// A field to read.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its key in the JSON object.
    pub name: String,
    /// Its type and the column it becomes.
    pub kind: Kind,
    /// Whether a row without it is refused; otherwise the row gets 0, an empty list or string.
    pub required: bool,
}

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// 1-based line number.
    pub line: u64,
    /// The field at fault, if it is one field.
    pub field: Option<String>,
    /// What is wrong with it.
    pub problem: String,
    /// The line as it was.
    pub raw: Vec<u8>,
}

/// Reads JSON Lines fed to it in blocks that may end anywhere.
///
/// ```
/// use prefixsim::read::{Column, Field, JsonlReader, Kind};
/// let field = Field { name: "hash_ids".into(), kind: Kind::U64List, required: true };
/// let mut reader = JsonlReader::new(vec![field], false);
/// reader.feed(b"{\"hash_ids\": [1, 2]}\n{\"hash_")?;
/// reader.feed(b"ids\": [3]}")?;
/// reader.end()?;
/// let rows = reader.finish();
/// let Column::U64List(lists) = &rows.columns[0] else { panic!() };
/// assert_eq!((lists.values.as_slice(), lists.ends.as_slice()), (&[1, 2, 3][..], &[2, 3][..]));
/// assert_eq!((rows.line_of_row, rows.seen), (vec![1, 2], vec![2]));
/// # Ok::<(), prefixsim::Error>(())
/// ```
#[derive(Debug)]
pub struct JsonlReader {
    fields: Vec<Field>,
    skip_bad_rows: bool,
    /// The unfinished line at the end of the last block.
    rest: Vec<u8>,
    parsed: Parsed,
}

/// Bytes of the longest line: prompts of millions of tokens are a tenth of it.
const LONGEST_LINE: usize = 256 << 20;

/// What a stretch of lines came to.
#[derive(Debug)]
pub struct Parsed {
    /// One column per field, in their order.
    pub columns: Vec<Column>,
    /// 1-based line number of each row.
    pub line_of_row: Vec<u64>,
    /// How many rows had each field.
    pub seen: Vec<u64>,
    /// Rows that were skipped.
    pub bad: Vec<BadRow>,
    rows: usize,
    lines: u64,
}

impl Parsed {
    fn new(fields: &[Field]) -> Self {
        Self {
            columns: fields.iter().map(|field| Column::new(field.kind)).collect(),
            line_of_row: Vec::new(),
            seen: vec![0; fields.len()],
            bad: Vec::new(),
            rows: 0,
            lines: 0,
        }
    }

    /// Counts a row that was read, and fills in the fields that it does not have.
    fn close_row(&mut self) {
        self.rows += 1;
        self.line_of_row.push(self.lines);
        for (column, seen) in self.columns.iter_mut().zip(&mut self.seen) {
            if column.rows() == self.rows {
                *seen += 1;
            } else {
                column.set_rows(self.rows);
            }
        }
    }

    fn append(&mut self, other: Self) {
        for (column, more) in self.columns.iter_mut().zip(other.columns) {
            column.append(more);
        }
        for (seen, more) in self.seen.iter_mut().zip(other.seen) {
            *seen += more;
        }
        let before = self.lines;
        self.line_of_row
            .extend(other.line_of_row.iter().map(|line| line + before));
        self.bad.extend(other.bad.into_iter().map(|mut bad| {
            bad.line += before;
            bad
        }));
        self.rows += other.rows;
        self.lines += other.lines;
    }
}

impl JsonlReader {
    /// A reader of the given fields. Bad rows end it, or are collected if `skip_bad_rows`.
    #[must_use]
    pub fn new(fields: Vec<Field>, skip_bad_rows: bool) -> Self {
        let parsed = Parsed::new(&fields);
        Self {
            fields,
            skip_bad_rows,
            rest: Vec::new(),
            parsed,
        }
    }

    /// Rows read so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.parsed.rows
    }

    /// Parses all complete lines of `block`, and keeps an unfinished last one for the next call.
    ///
    /// # Errors
    /// The first bad row, as `line: field: problem`, unless bad rows are skipped. The rows before
    /// it can still be had from [`JsonlReader::finish`].
    pub fn feed(&mut self, block: &[u8]) -> Result<()> {
        let Some(first) = block.iter().position(|&byte| byte == b'\n') else {
            self.rest.extend_from_slice(block);
            return self.check_length();
        };
        let last = block
            .iter()
            .rposition(|&byte| byte == b'\n')
            .unwrap_or(first);
        let mut start = 0;
        if !self.rest.is_empty() {
            let mut line = std::mem::take(&mut self.rest);
            line.extend_from_slice(&block[..=first]);
            self.parse(&line)?;
            start = first + 1;
        }
        if start <= last {
            self.parse(&block[start..=last])?;
        }
        self.rest.extend_from_slice(&block[last + 1..]);
        self.check_length()
    }

    /// Refuses a line whose end does not come: it would take all memory there is.
    fn check_length(&self) -> Result<()> {
        if self.rest.len() <= LONGEST_LINE {
            return Ok(());
        }
        Err(Error::Row {
            line: self.parsed.lines + 1,
            field: None,
            problem: format!("is longer than {} MiB", LONGEST_LINE >> 20),
        })
    }

    /// Parses the last line, which need not end in a newline.
    ///
    /// # Errors
    /// As [`JsonlReader::feed`].
    pub fn end(&mut self) -> Result<()> {
        let line = std::mem::take(&mut self.rest);
        if line.is_empty() {
            Ok(())
        } else {
            self.parse(&line)
        }
    }

    /// What was read.
    #[must_use]
    pub fn finish(self) -> Parsed {
        self.parsed
    }

    fn parse(&mut self, text: &[u8]) -> Result<()> {
        // Here, not where blocks come in: a block may end within the mark.
        let text = match text.strip_prefix(b"\xef\xbb\xbf") {
            Some([]) if self.parsed.lines == 0 => return Ok(()),
            Some(rest) if self.parsed.lines == 0 => rest,
            _ => text,
        };
        let fields = &self.fields;
        let parts = split_at_lines(text, rayon::current_num_threads());
        let skip = self.skip_bad_rows;
        let parsed: Vec<Parsed> = parts
            .into_par_iter()
            .map(|part| parse_lines(fields, part, skip))
            .collect();
        for part in parsed {
            self.parsed.append(part);
            if let (false, Some(bad)) = (skip, self.parsed.bad.first()) {
                return Err(bad.to_error());
            }
        }
        Ok(())
    }
}

impl BadRow {
    /// The error that this row is, for a reader that does not skip it.
    #[must_use]
    pub fn to_error(&self) -> Error {
        Error::Row {
            line: self.line,
            field: self.field.clone(),
            problem: self.problem.clone(),
        }
    }
}

/// Cuts `text` into at most `parts` stretches of whole lines, of about equal size.
fn split_at_lines(text: &[u8], parts: usize) -> Vec<&[u8]> {
    const SMALLEST: usize = 64 << 10;
    let parts = parts.min(text.len() / SMALLEST).max(1);
    let mut pieces = Vec::with_capacity(parts);
    let mut rest = text;
    for left in (1..=parts).rev() {
        let aim = rest.len() / left;
        let cut = rest[aim.min(rest.len())..]
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(rest.len(), |at| aim + at + 1);
        let (piece, after) = rest.split_at(if left == 1 { rest.len() } else { cut });
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Parses lines, up to the first bad one unless bad ones are skipped.
fn parse_lines(fields: &[Field], text: &[u8], skip_bad_rows: bool) -> Parsed {
    let mut parsed = Parsed::new(fields);
    let mut plain = PlainRows::new(fields);
    let mut rest = text;
    while !rest.is_empty() {
        parsed.lines += 1;
        if let Some(length) = plain.read(rest, &mut parsed.columns, parsed.rows) {
            parsed.close_row();
            rest = &rest[length..];
            continue;
        }
        for column in &mut parsed.columns {
            column.set_rows(parsed.rows); // what the attempt left behind
        }
        let end = rest.iter().position(|&byte| byte == b'\n');
        let (line, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        rest = after;
        let line = line.trim_ascii_end();
        if line.is_empty() {
            continue;
        }
        let mut current = None;
        let seed = RowSeed {
            fields,
            columns: &mut parsed.columns,
            rows: parsed.rows,
            current: &mut current,
        };
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let outcome = seed.deserialize(&mut deserializer).and_then(|()| {
            current = None;
            deserializer.end()
        });
        match outcome {
            Ok(()) => parsed.close_row(),
            Err(error) => parsed
                .bad
                .push(bad_row(fields, parsed.lines, current, &error, line)),
        }
        for column in &mut parsed.columns {
            column.set_rows(parsed.rows);
        }
        if !skip_bad_rows && !parsed.bad.is_empty() {
            break;
        }
    }
    parsed
}

fn bad_row(
    fields: &[Field],
    line: u64,
    current: Option<usize>,
    error: &serde_json::Error,
    raw: &[u8],
) -> BadRow {
    let message = error.to_string();
    // serde_json ends its messages with a position inside the line; the line is ours to name.
    let told = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(told, _)| told);
    let problem = if error.is_syntax() || error.is_eof() {
        format!("not valid JSON: {told} at column {}", error.column())
    } else {
        told.to_owned()
    };
    BadRow {
        line,
        field: current.map(|index| fields[index].name.clone()),
        problem,
        raw: raw.to_vec(),
    }
}
