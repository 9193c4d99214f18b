//! An extent of a virtual disk, as qemu-img's JSON.

use std::io::{self, Write};

use qcheck::disk::{self, ExtentKind};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Bytes of a virtual disk of which the same is known.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Extent {
    /// Guest offset in bytes.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// How many backing files are above the image that has them.
    pub depth: u64,
    /// Whether an image of the chain defines them.
    pub present: bool,
    /// Whether they read as zeroes.
    pub zero: bool,
    /// Whether they are stored.
    pub data: bool,
    /// Whether they are compressed.
    pub compressed: bool,
    /// Their offset in the file that has them, where they are stored as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

impl From<&disk::Extent<'_>> for Extent {
    fn from(extent: &disk::Extent<'_>) -> Self {
        Self {
            start: extent.start,
            length: extent.length,
            depth: extent.depth as u64,
            present: extent.kind != ExtentKind::Unallocated,
            zero: extent.zero,
            data: extent.kind == ExtentKind::Data,
            compressed: extent.compressed,
            offset: extent.host,
        }
    }
}

impl Extent {
    /// Appends it as qemu-img prints it, on one line.
    pub fn print(&self, text: &mut Vec<u8>) -> io::Result<()> {
        Ok(self.serialize(&mut Serializer::with_formatter(text, Line))?)
    }
}

/// qemu-img's line for an extent.
struct Line;

impl Formatter for Line {
    fn begin_object<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b"{ ")
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}
