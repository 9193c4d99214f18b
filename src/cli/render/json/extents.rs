//! An extent of a virtual disk, as qemu-img's JSON.

use qcheck::disk::{self, ExtentKind};
use serde::Serialize;

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
    /// Appends it as qemu-img prints it, on one line. There can be millions of them, and a
    /// serializer takes several times as long.
    pub fn print(&self, text: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        let mut number = |text: &mut Vec<u8>, name: &[u8], value: u64| {
            text.extend_from_slice(name);
            text.extend_from_slice(digits.format(value).as_bytes());
        };
        number(text, b"{ \"start\": ", self.start);
        number(text, b", \"length\": ", self.length);
        number(text, b", \"depth\": ", self.depth);
        let switch = |text: &mut Vec<u8>, on: bool, names: [&[u8]; 2]| {
            text.extend_from_slice(names[usize::from(on)]);
        };
        switch(text, self.present, [b", \"present\": false", b", \"present\": true"]);
        switch(text, self.zero, [b", \"zero\": false", b", \"zero\": true"]);
        switch(text, self.data, [b", \"data\": false", b", \"data\": true"]);
        switch(text, self.compressed, [b", \"compressed\": false", b", \"compressed\": true"]);
        if let Some(offset) = self.offset {
            number(text, b", \"offset\": ", offset);
        }
        text.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_the_schema_has() {
        for (n, offset) in (0..16u64).flat_map(|n| [(n, None), (n, Some(n << 60))]) {
            let bit = |bit: u64| n >> bit & 1 == 1;
            let extent = Extent {
                start: u64::MAX - n,
                length: n,
                depth: 10 * n,
                present: bit(0),
                zero: bit(1),
                data: bit(2),
                compressed: bit(3),
                offset,
            };
            let mut text = Vec::new();
            extent.print(&mut text);
            let line: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(line, serde_json::to_value(&extent).unwrap());
        }
    }
}
