//! The columns a reader fills.

use std::collections::HashMap;
use std::sync::Arc;

use crate::index::{to_u32, to_usize};

/// What a field holds and the column it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A finite number, as `f64`.
    F64,
    /// A whole number from 0 to 2^32 - 1.
    U32,
    /// A list of whole numbers from 0 to 2^32 - 1.
    U32List,
    /// A list of whole numbers from 0 to 2^64 - 1.
    U64List,
    /// A string, kept as it is.
    Text,
    /// A string or whole number that repeats, dictionary encoded; `null` is the empty string.
    Label,
}

/// Strings of many rows in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strings {
    /// Byte offsets: string `i` is `bytes[ends[i - 1]..ends[i]]`.
    pub ends: Vec<u64>,
    /// UTF-8.
    pub bytes: Vec<u8>,
}

impl Strings {
    fn push(&mut self, value: &str) {
        self.bytes.extend_from_slice(value.as_bytes());
        self.ends.push(self.bytes.len() as u64);
    }
}

/// Lists of many rows in one buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists<T> {
    /// Element offsets: list `i` is `values[ends[i - 1]..ends[i]]`.
    pub ends: Vec<u64>,
    /// Elements of all lists.
    pub values: Vec<T>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self {
            ends: Vec::new(),
            values: Vec::new(),
        }
    }
}

/// A dictionary-encoded column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Index into `names` of each row.
    pub codes: Vec<u32>,
    /// Distinct values in the order of first appearance.
    pub names: Vec<Arc<str>>,
    index: HashMap<Arc<str>, u32>,
}

impl Labels {
    fn code(&mut self, value: &str) -> u32 {
        if let Some(&code) = self.index.get(value) {
            return code;
        }
        let name: Arc<str> = value.into();
        let code = to_u32(self.names.len());
        self.names.push(Arc::clone(&name));
        self.index.insert(name, code);
        code
    }

    pub(super) fn push(&mut self, value: &str) {
        let code = self.code(value);
        self.codes.push(code);
    }
}

/// One field of all rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// See [`Kind::F64`].
    F64(Vec<f64>),
    /// See [`Kind::U32`].
    U32(Vec<u32>),
    /// See [`Kind::U32List`].
    U32List(Lists<u32>),
    /// See [`Kind::U64List`].
    U64List(Lists<u64>),
    /// See [`Kind::Text`].
    Text(Strings),
    /// See [`Kind::Label`].
    Label(Labels),
}

impl Column {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::F64 => Self::F64(Vec::new()),
            Kind::U32 => Self::U32(Vec::new()),
            Kind::U32List => Self::U32List(Lists::default()),
            Kind::U64List => Self::U64List(Lists::default()),
            Kind::Text => Self::Text(Strings::default()),
            Kind::Label => Self::Label(Labels::default()),
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::F64(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::U32List(lists) => lists.ends.len(),
            Self::U64List(lists) => lists.ends.len(),
            Self::Text(strings) => strings.ends.len(),
            Self::Label(labels) => labels.codes.len(),
        }
    }

    /// Closes a row: drops what a refused row left behind, or fills in a missing optional field.
    pub(super) fn set_rows(&mut self, rows: usize) {
        match self {
            Self::F64(values) => values.resize(rows, 0.0),
            Self::U32(values) => values.resize(rows, 0),
            Self::U32List(lists) => close_lists(lists, rows),
            Self::U64List(lists) => close_lists(lists, rows),
            Self::Text(strings) => {
                strings.ends.truncate(rows);
                let end = strings.ends.last().copied().unwrap_or(0);
                strings.bytes.truncate(to_usize(end));
                strings.ends.resize(rows, end);
            }
            Self::Label(labels) => {
                labels.codes.truncate(rows);
                while labels.codes.len() < rows {
                    labels.push("");
                }
            }
        }
    }

    pub(super) fn push_text(&mut self, value: &str) {
        match self {
            Self::Text(strings) => strings.push(value),
            Self::Label(labels) => labels.push(value),
            _ => unreachable!("strings go to string columns"),
        }
    }

    /// Appends the rows of `other`, a column of the same kind.
    pub(super) fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::F64(a), Self::F64(b)) => a.extend_from_slice(&b),
            (Self::U32(a), Self::U32(b)) => a.extend_from_slice(&b),
            (Self::U32List(a), Self::U32List(b)) => append_lists(a, &b),
            (Self::U64List(a), Self::U64List(b)) => append_lists(a, &b),
            (Self::Text(a), Self::Text(b)) => {
                let base = a.bytes.len() as u64;
                a.bytes.extend_from_slice(&b.bytes);
                a.ends.extend(b.ends.iter().map(|end| end + base));
            }
            (Self::Label(a), Self::Label(b)) => {
                let map: Vec<u32> = b.names.iter().map(|name| a.code(name)).collect();
                a.codes
                    .extend(b.codes.iter().map(|&code| map[code as usize]));
            }
            _ => unreachable!("columns of one field have one kind"),
        }
    }
}

fn close_lists<T>(lists: &mut Lists<T>, rows: usize) {
    lists.ends.truncate(rows);
    let end = lists.ends.last().copied().unwrap_or(0);
    lists.values.truncate(to_usize(end));
    lists.ends.resize(rows, end);
}

fn append_lists<T: Copy>(a: &mut Lists<T>, b: &Lists<T>) {
    let base = a.values.len() as u64;
    a.values.extend_from_slice(&b.values);
    a.ends.extend(b.ends.iter().map(|end| end + base));
}
