//! JSON Lines, whole and in pieces.

use prefixsim::read::{Field, JsonlReader, Kind, Parsed};

use super::Choices;

fn fields() -> Vec<Field> {
    let field = |name: &str, kind, required| Field {
        name: name.to_owned(),
        kind,
        required,
    };
    vec![
        field("t", Kind::F64, true),
        field("n", Kind::U32, false),
        field("tokens", Kind::U32List, false),
        field("ids", Kind::U64List, false),
        field("text", Kind::Text, false),
        field("label", Kind::Label, false),
    ]
}

fn read<'d>(
    blocks: impl Iterator<Item = &'d [u8]>,
    skip_bad_rows: bool,
) -> (Parsed, Option<String>) {
    let mut reader = JsonlReader::new(fields(), skip_bad_rows);
    let fed = blocks
        .map(|block| reader.feed(block))
        .find(Result::is_err)
        .unwrap_or(Ok(()));
    let error = fed.and_then(|()| reader.end()).err();
    (reader.finish(), error.map(|error| error.to_string()))
}

/// Any cut into blocks reads the same; all columns have the same rows.
pub fn readers(data: &[u8]) {
    let mut choices = Choices(data);
    let skip_bad_rows = choices.flag();
    let stride = choices.below(64) as usize + 1;
    let text = choices.0;
    let (whole, error) = read(std::iter::once(text), skip_bad_rows);
    for column in &whole.columns {
        assert_eq!(column.rows(), whole.line_of_row.len());
    }
    assert!(whole.line_of_row.windows(2).all(|pair| pair[0] < pair[1]));
    let (pieces, other) = read(text.chunks(stride), skip_bad_rows);
    assert_eq!(error, other, "in blocks of {stride}");
    assert_eq!(whole.line_of_row, pieces.line_of_row);
    assert_eq!(whole.columns, pieces.columns);
    assert_eq!(whole.seen, pieces.seen);
    assert_eq!(whole.bad, pieces.bad);
}
