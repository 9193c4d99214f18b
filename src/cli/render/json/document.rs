//! JSON documents: QEMU's layout, indented by four, ASCII only.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Writes a value as QEMU lays it out, with a line feed after it.
pub fn write<T: Serialize>(out: &mut dyn Write, value: &T) -> io::Result<()> {
    let mut serializer = Serializer::with_formatter(&mut *out, Ascii::default());
    value.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// Pretty printing as QEMU does it: what is not ASCII is escaped, and the brackets of something
/// empty are on two lines.
#[derive(Default)]
struct Ascii {
    depth: usize,
}

impl Ascii {
    fn open<W: ?Sized + Write>(&mut self, w: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        w.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, w: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        self.new_line(w)?;
        w.write_all(bracket)
    }

    fn next<W: ?Sized + Write>(&self, w: &mut W, first: bool) -> io::Result<()> {
        if !first {
            w.write_all(b",")?;
        }
        self.new_line(w)
    }

    fn new_line<W: ?Sized + Write>(&self, w: &mut W) -> io::Result<()> {
        write!(w, "\n{:1$}", "", 4 * self.depth)
    }
}

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        w: &mut W,
        text: &str,
    ) -> io::Result<()> {
        for c in text.chars() {
            if matches!(c, ' '..='~') {
                w.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(w, "\\u{unit:04X}")?;
                }
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.open(w, b"[")
    }
    fn end_array<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.close(w, b"]")
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.next(w, first)
    }
    fn begin_object<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.open(w, b"{")
    }
    fn end_object<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.close(w, b"}")
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.next(w, first)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn empty_containers_take_two_lines() {
        let mut out = Vec::new();
        write(&mut out, &json!({ "a": [], "b": [{}] })).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "{\n    \"a\": [\n    ],\n    \"b\": [\n        {\n        }\n    ]\n}\n");
    }

    #[test]
    fn text_outside_ascii_is_escaped_as_qemu_escapes_it() {
        let mut out = Vec::new();
        write(&mut out, &json!({ "name": "a\"ü\u{1F4BE}\u{7f}\n/" })).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "{\n    \"name\": \"a\\\"\\u00FC\\uD83D\\uDCBE\\u007F\\n/\"\n}\n");
    }
}
