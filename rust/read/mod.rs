//! Reading trace files into columns.

pub mod column;
pub mod jsonl;
mod plain;
mod row;

pub use column::{Column, Kind, Strings};
pub use jsonl::{BadRow, Field, JsonlReader, Parsed};
