//! The JSON Lines reader: any cut into blocks reads the same, no input panics.

#![allow(clippy::cast_possible_truncation)] // Numbers are small.

use prefixsim::read::{Column, Field, JsonlReader, Kind, Parsed};
use proptest::prelude::*;

fn fields() -> Vec<Field> {
    [
        ("timestamp", Kind::F64, true),
        ("input_length", Kind::U32, true),
        ("token_ids", Kind::U32List, false),
        ("hash_ids", Kind::U64List, false),
        ("text", Kind::Text, false),
        ("session", Kind::Label, false),
    ]
    .into_iter()
    .map(|(name, kind, required)| Field {
        name: name.to_owned(),
        kind,
        required,
    })
    .collect()
}

fn read(blocks: &[&[u8]], skip_bad_rows: bool) -> (Parsed, Option<String>) {
    let mut reader = JsonlReader::new(fields(), skip_bad_rows);
    let mut error = None;
    for block in blocks {
        if let Err(problem) = reader.feed(block) {
            error = Some(problem.to_string());
            break;
        }
    }
    if error.is_none() {
        error = reader.end().err().map(|problem| problem.to_string());
    }
    (reader.finish(), error)
}

fn assert_whole(parsed: &Parsed) {
    for column in &parsed.columns {
        assert_eq!(column.rows(), parsed.line_of_row.len());
    }
    assert!(parsed.line_of_row.windows(2).all(|pair| pair[0] < pair[1]));
}

const ROWS: &str = concat!(
    "{\"timestamp\":1.5,\"input_length\":3,\"token_ids\":[1,2,3],\"text\":\"h\\u00e9llo\",\"x\":{\"y\":[1]}}\n",
    "{\"timestamp\":2,\"input_length\":0,\"hash_ids\":[18446744073709551615],\"session\":7}\r\n",
    "\n",
    "{\"timestamp\":-0.5e3,\"input_length\":4294967295,\"session\":\"a\\nb\",\"token_ids\":[]}",
);

#[test]
fn rows_become_columns() {
    let (parsed, error) = read(&[ROWS.as_bytes()], false);
    assert_eq!(error, None);
    assert_eq!(parsed.line_of_row, [1, 2, 4]);
    assert_eq!(parsed.columns[0], Column::F64(vec![1.5, 2.0, -500.0]));
    assert_eq!(parsed.columns[1], Column::U32(vec![3, 0, u32::MAX]));
    let Column::U64List(hashes) = &parsed.columns[3] else {
        panic!()
    };
    assert_eq!(
        (hashes.values.as_slice(), hashes.ends.as_slice()),
        (&[u64::MAX][..], &[0, 1, 1][..])
    );
    let Column::Text(text) = &parsed.columns[4] else {
        panic!()
    };
    assert_eq!(text.bytes, "héllo".as_bytes());
    let Column::Label(labels) = &parsed.columns[5] else {
        panic!()
    };
    let names: Vec<&str> = labels
        .codes
        .iter()
        .map(|&c| &*labels.names[c as usize])
        .collect();
    assert_eq!(names, ["", "7", "a\nb"]);
    assert_eq!(parsed.seen, [3, 3, 2, 1, 1, 2]);
}

proptest! {
    #[test]
    fn any_cut_reads_the_same(mut cuts in prop::collection::vec(0..ROWS.len(), 0..6)) {
        cuts.extend([0, ROWS.len()]);
        cuts.sort_unstable();
        let blocks: Vec<&[u8]> = cuts.windows(2).map(|w| &ROWS.as_bytes()[w[0]..w[1]]).collect();
        let (whole, _) = read(&[ROWS.as_bytes()], false);
        let (parts, error) = read(&blocks, false);
        prop_assert_eq!(error, None);
        prop_assert_eq!(parts.columns, whole.columns);
        prop_assert_eq!(parts.line_of_row, whole.line_of_row);
    }
}

/// A small deterministic generator, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Flips, cuts, repeats and splices bytes; puts in what parsers dislike.
fn mutate(dice: &mut Dice, text: &mut Vec<u8>) {
    const NASTY: [&[u8]; 12] = [
        b"\0",
        b"[[[[[[[[",
        b"{\"a\":",
        b"1e999",
        b"99999999999999999999999",
        b"-1",
        b"\xff\xfe",
        b"\r",
        b"\n\n",
        b"\xef\xbb\xbf",
        b"\\ud800",
        b"NaN",
    ];
    for _ in 0..=dice.below(4) {
        let at = dice.below(text.len().max(1));
        match dice.below(5) {
            0 if !text.is_empty() => text[at] ^= 1 << dice.below(8),
            1 => text.truncate(at),
            2 => {
                let piece = NASTY[dice.below(NASTY.len())];
                text.splice(
                    at.min(text.len())..at.min(text.len()),
                    piece.iter().copied(),
                );
            }
            3 => {
                let end = (at + dice.below(20)).min(text.len());
                text.drain(at.min(end)..end);
            }
            _ => {
                let copy = text[at.min(text.len())..].to_vec();
                text.extend_from_slice(&copy);
                text.truncate(4096);
            }
        }
    }
}

#[test]
fn mutated_input_gives_rows_or_a_line_number() {
    let mut dice = Dice(1);
    for _ in 0..100_000 {
        let mut text = ROWS.as_bytes().to_vec();
        mutate(&mut dice, &mut text);
        let lines = text.split(|&byte| byte == b'\n').count() as u64;
        let (parsed, error) = read(&[&text], false);
        assert_whole(&parsed);
        if let Some(error) = error {
            let line: u64 = error.split(':').next().unwrap().parse().unwrap();
            assert!((1..=lines).contains(&line), "{error}");
        }
        let (skipped, error) = read(&[&text], true);
        assert_eq!(error, None);
        assert_whole(&skipped);
        assert!(skipped.line_of_row.len() + skipped.bad.len() <= lines as usize);
        assert!(skipped.line_of_row.len() >= parsed.line_of_row.len());
    }
}

/// One value of a field, as it should be and as it should not.
fn value() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        "0|[1-9][0-9]{0,20}",
        "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?",
        "[0-9]{1,21}",
    ];
    let list = prop::collection::vec(number.clone(), 0..5).prop_flat_map(|items| {
        prop_oneof![Just(","), Just(", "), Just(" ,"), Just(",\t"), Just(",,")]
            .prop_map(move |comma| format!("[{}]", items.join(comma)))
    });
    prop_oneof![
        4 => number,
        4 => list,
        2 => "\"[a-z\u{e9}\\\\\"nu0]{0,6}\"",
        1 => "true|false|null|nul|\\[1,\\[2\\]\\]|\\{\\}|\\[1,",
    ]
}

fn row() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("timestamp"),
        Just("input_length"),
        Just("token_ids"),
        Just("hash_ids"),
        Just("text"),
        Just("session"),
        Just("other"),
        Just("\u{e9}"),
    ];
    let gap = prop_oneof![6 => Just(""), 2 => Just(" "), 1 => Just("\t")];
    let pair = (key, gap.clone(), value(), gap)
        .prop_map(|(key, before, value, after)| format!("\"{key}\":{before}{value}{after}"));
    let start = "\"timestamp\":1,\"input_length\":(2|20),|";
    (start, prop::collection::vec(pair, 0..4), "\\}|\\} |\\},|")
        .prop_map(|(start, pairs, end)| format!("{{{start}{}{end}", pairs.join(",")))
}

proptest! {
    /// A blank before the brace leaves a line to the careful parser: it must come to the same.
    #[test]
    fn the_usual_form_reads_as_the_careful_parser_reads_it(
        rows in prop::collection::vec(row(), 1..6)
    ) {
        let plain = rows.join("\n");
        let careful = rows.iter().map(|row| format!(" {row}")).collect::<Vec<_>>().join("\n");
        let (a, _) = read(&[plain.as_bytes()], true);
        let (b, _) = read(&[careful.as_bytes()], true);
        prop_assert_eq!(&a.columns, &b.columns);
        prop_assert_eq!((&a.line_of_row, &a.seen), (&b.line_of_row, &b.seen));
        let named = |parsed: &Parsed| -> Vec<_> {
            parsed.bad.iter().map(|bad| (bad.line, bad.field.clone())).collect()
        };
        prop_assert_eq!(named(&a), named(&b));
    }
}
