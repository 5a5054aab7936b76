//! The part of canonical CBOR (RFC 8949, section 4.2) that block hashes need.

use super::Value;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const NULL: u8 = 0xf6;
/// The argument follows in 1, 2, 4 or 8 bytes.
const BYTE: u8 = 0x18;
const SHORT: u8 = 0x19;
const INT: u8 = 0x1a;
const LONG: u8 = 0x1b;

/// Appends `(parent, tokens, extra)`.
pub fn block(out: &mut Vec<u8>, parent: &[u8], tokens: &[u32], extra: &Value) {
    head(out, ARRAY, 3);
    bytes(out, parent);
    head(out, ARRAY, tokens.len() as u64);
    for &token in tokens {
        head(out, UNSIGNED, u64::from(token));
    }
    value(out, extra);
}

/// Appends an array of values.
pub fn array(out: &mut Vec<u8>, values: &[Value]) {
    head(out, ARRAY, values.len() as u64);
    for item in values {
        value(out, item);
    }
}

/// Appends a text string.
pub fn text(out: &mut Vec<u8>, text: &str) {
    head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, BYTES, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn value(out: &mut Vec<u8>, item: &Value) {
    match item {
        Value::None => out.push(NULL),
        Value::Int(int) if *int < 0 => head(out, NEGATIVE, (!*int).cast_unsigned()),
        Value::Int(int) => head(out, UNSIGNED, int.cast_unsigned()),
        Value::Str(string) => text(out, string),
        Value::Bytes(raw) => bytes(out, raw),
        Value::Tuple(values) => array(out, values),
    }
}

/// A major type and its argument, in the shortest form.
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    if let Ok(byte) = u8::try_from(argument) {
        if byte < 24 {
            out.push(major | byte);
        } else {
            out.extend([major | BYTE, byte]);
        }
    } else if let Ok(short) = u16::try_from(argument) {
        out.push(major | SHORT);
        out.extend(short.to_be_bytes());
    } else if let Ok(int) = u32::try_from(argument) {
        out.push(major | INT);
        out.extend(int.to_be_bytes());
    } else {
        out.push(major | LONG);
        out.extend(argument.to_be_bytes());
    }
}
