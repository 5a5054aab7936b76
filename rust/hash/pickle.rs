//! The part of Python's pickle, protocol 5, that block hashes need.
//!
//! Written to the opcodes of `Lib/pickletools.py` and checked against `pickle.dumps` by the tests.

use super::Value;
use crate::index::to_u32;

const FRAME: u8 = 0x95;
const FRAME_TARGET: usize = 64 * 1024;
const MEMOIZE: u8 = 0x94;
const NONE: u8 = b'N';
const STOP: u8 = b'.';

/// Appends the pickle of `(parent, tokens, extra)`.
pub fn block(out: &mut Vec<u8>, parent: &[u8], tokens: &[u32], extra: &Value) {
    let mut pickler = Pickler::new(out);
    pickler.bytes(parent);
    pickler.tuple(tokens.len(), |p| {
        for &token in tokens {
            p.int(i64::from(token));
        }
    });
    pickler.value(extra, false);
    pickler.finish_tuple(3);
    pickler.stop();
}

/// Appends the pickle of a string.
pub fn text(out: &mut Vec<u8>, text: &str) {
    let mut pickler = Pickler::new(out);
    pickler.str(text, false);
    pickler.stop();
}

struct Pickler<'o> {
    out: &'o mut Vec<u8>,
    frame: usize,
    memoized: u32,
    /// Strings that Python holds once, and where they were memoized.
    shared: Vec<(String, u32)>,
}

impl<'o> Pickler<'o> {
    fn new(out: &'o mut Vec<u8>) -> Self {
        out.extend([0x80, 5]);
        let mut pickler = Self {
            frame: 0,
            out,
            memoized: 0,
            shared: Vec::new(),
        };
        pickler.open_frame();
        pickler
    }

    fn open_frame(&mut self) {
        self.frame = self.out.len();
        self.out.push(FRAME);
        self.out.extend([0; 8]);
    }

    fn close_frame(&mut self) {
        let length = (self.out.len() - self.frame - 9) as u64;
        self.out[self.frame + 1..self.frame + 9].copy_from_slice(&length.to_le_bytes());
    }

    /// Python starts a new frame before an object once the current one is large enough.
    fn boundary(&mut self) {
        if self.out.len() - self.frame - 9 >= FRAME_TARGET {
            self.close_frame();
            self.open_frame();
        }
    }

    fn stop(mut self) {
        self.out.push(STOP);
        self.close_frame();
    }

    fn memoize(&mut self) -> u32 {
        self.out.push(MEMOIZE);
        self.memoized += 1;
        self.memoized - 1
    }

    fn int(&mut self, int: i64) {
        self.boundary();
        if let Ok(byte) = u8::try_from(int) {
            self.out.extend([b'K', byte]);
        } else if let Ok(short) = u16::try_from(int) {
            self.out.push(b'M');
            self.out.extend(short.to_le_bytes());
        } else if let Ok(int) = i32::try_from(int) {
            self.out.push(b'J');
            self.out.extend(int.to_le_bytes());
        } else {
            // LONG1: the fewest bytes that hold the two's complement.
            let magnitude = if int < 0 { !int } else { int };
            let length = (64 - magnitude.leading_zeros()) / 8 + 1;
            self.out.push(0x8a);
            self.out.extend(length.to_le_bytes().first());
            self.out.extend(&int.to_le_bytes()[..length as usize]);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.boundary();
        if let Ok(length) = u8::try_from(bytes.len()) {
            self.out.extend([b'C', length]);
        } else {
            self.out.push(b'B');
            self.out.extend(to_u32(bytes.len()).to_le_bytes());
        }
        self.out.extend_from_slice(bytes);
        self.memoize();
    }

    /// `tag`: a literal of vLLM's source (`"mm"`), one object however often it occurs. Python also
    /// keeps a single object for each one-character Latin-1 string.
    fn str(&mut self, text: &str, tag: bool) {
        self.boundary();
        let mut chars = text.chars();
        let single = match (chars.next(), chars.next()) {
            (None, _) => true,
            (Some(c), None) => (c as u32) < 256,
            _ => false,
        };
        let shared = tag || single;
        if shared && let Some(&(_, at)) = self.shared.iter().find(|(seen, _)| seen == text) {
            if let Ok(byte) = u8::try_from(at) {
                self.out.extend([b'h', byte]);
            } else {
                self.out.push(b'j');
                self.out.extend(at.to_le_bytes());
            }
        } else {
            if let Ok(length) = u8::try_from(text.len()) {
                self.out.extend([0x8c, length]);
            } else {
                self.out.push(b'X');
                self.out.extend(to_u32(text.len()).to_le_bytes());
            }
            self.out.extend_from_slice(text.as_bytes());
            let at = self.memoize();
            if shared {
                self.shared.push((text.to_owned(), at));
            }
        }
    }

    fn tuple(&mut self, length: usize, items: impl FnOnce(&mut Self)) {
        self.boundary();
        if length > 3 {
            self.out.push(b'(');
        }
        items(self);
        self.finish_tuple(length);
    }

    fn finish_tuple(&mut self, length: usize) {
        self.out.push(match length {
            0 => b')',
            1 => 0x85,
            2 => 0x86,
            3 => 0x87,
            _ => b't',
        });
        if length > 0 {
            self.memoize();
        }
    }

    fn value(&mut self, value: &Value, tag: bool) {
        match value {
            Value::None => {
                self.boundary();
                self.out.push(NONE);
            }
            Value::Int(int) => self.int(*int),
            Value::Str(text) => self.str(text, tag),
            Value::Bytes(bytes) => self.bytes(bytes),
            Value::Tuple(values) => self.tuple(values.len(), |p| {
                for (i, item) in values.iter().enumerate() {
                    p.value(item, i == 0);
                }
            }),
        }
    }
}
