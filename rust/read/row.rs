//! One JSON object a line, parsed straight into columns.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::column::{Column, Lists};
use super::jsonl::Field;
use crate::index::to_u32;

/// Where a row goes, and which of its fields were seen.
pub(super) struct RowSeed<'a> {
    pub(super) fields: &'a [Field],
    pub(super) columns: &'a mut [Column],
    /// Rows complete so far: a column longer than this has the current row's value.
    pub(super) rows: usize,
    /// The field being read, for messages.
    pub(super) current: &'a mut Option<usize>,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self {
            fields,
            columns,
            rows,
            current,
        } = self;
        while let Some(index) = map.next_key_seed(KeySeed(fields))? {
            *current = index;
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if columns[index].rows() > rows {
                return Err(A::Error::custom("given twice"));
            }
            map.next_value_seed(ValueSeed(&mut columns[index]))?;
            *current = None;
        }
        for (index, field) in fields.iter().enumerate() {
            if field.required && columns[index].rows() == rows {
                *current = Some(index);
                return Err(A::Error::custom("missing"));
            }
        }
        Ok(())
    }
}

/// The index of a known field, or `None` for one to be ignored.
struct KeySeed<'a>(&'a [Field]);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|field| field.name == key))
    }
}

struct ValueSeed<'a>(&'a mut Column);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0 {
            Column::F64(values) => {
                values.push(deserializer.deserialize_f64(NumberVisitor)?);
                Ok(())
            }
            Column::U32(values) => {
                let whole = WholeVisitor(u64::from(u32::MAX));
                values.push(to_u32(deserializer.deserialize_u64(whole)?));
                Ok(())
            }
            Column::U32List(lists) => deserializer.deserialize_seq(U32ListVisitor(lists)),
            Column::U64List(lists) => deserializer.deserialize_seq(U64ListVisitor(lists)),
            Column::Text(_) => deserializer.deserialize_str(TextVisitor(self.0)),
            Column::Label(_) => deserializer.deserialize_any(TextVisitor(self.0)),
        }
    }
}

/// 2^53, up to which `f64` has every whole number.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    #[allow(clippy::cast_precision_loss)] // The nearest number, as for 1e30.
    fn visit_u64<E>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    #[allow(clippy::cast_precision_loss)] // As above.
    fn visit_i64<E>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }
}

/// A whole number from 0 to the given maximum; `5.0` counts as whole.
#[derive(Clone, Copy)]
struct WholeVisitor(u64);

impl Visitor<'_> for WholeVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 0 to {}", self.0)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<u64, E> {
        if value > self.0 {
            return Err(E::custom(format_args!(
                "{value} is not a whole number from 0 to {}",
                self.0
            )));
        }
        Ok(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<u64, E> {
        Err(E::custom(format_args!(
            "{value} is not a whole number from 0 to {}",
            self.0
        )))
    }

    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // Checked just above the cast.
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<u64, E> {
        if value.fract() != 0.0 || !(0.0..=MOST_EXACT).contains(&value) {
            return Err(E::custom(format_args!(
                "{value} is not a whole number from 0 to {}",
                self.0
            )));
        }
        self.visit_u64(value as u64)
    }
}

/// An element of a list, handed to serde as a stateless seed.
struct Element<const MAX: u64>;

impl<'de, const MAX: u64> DeserializeSeed<'de> for Element<MAX> {
    type Value = u64;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_u64(WholeVisitor(MAX))
    }
}

struct U32ListVisitor<'a>(&'a mut Lists<u32>);

impl<'de> Visitor<'de> for U32ListVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of whole numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element_seed(Element::<{ u32::MAX as u64 }>)? {
            self.0.values.push(to_u32(value));
        }
        self.0.ends.push(self.0.values.len() as u64);
        Ok(())
    }
}

struct U64ListVisitor<'a>(&'a mut Lists<u64>);

impl<'de> Visitor<'de> for U64ListVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of whole numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element_seed(Element::<{ u64::MAX }>)? {
            self.0.values.push(value);
        }
        self.0.ends.push(self.0.values.len() as u64);
        Ok(())
    }
}

struct TextVisitor<'a>(&'a mut Column);

impl Visitor<'_> for TextVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Column::Label(_) => "a string or a whole number",
            _ => "a string",
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.0.push_text(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.push_text(&value.to_string());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.push_text(&value.to_string());
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push_text("");
        Ok(())
    }
}
