//! Header extensions (specification, "Header extensions").

use byteorder::{BigEndian, ByteOrder};

use super::fixed::{V3_BYTES, V3_BYTES_WITH_COMPRESSION};

/// Ends the list.
pub const END: u32 = 0;
/// Name of the backing file's format.
pub const BACKING_FORMAT: u32 = 0xE279_2ACA;
/// Feature name table.
pub const FEATURE_NAMES: u32 = 0x6803_F857;
/// Bitmaps: the position of the bitmap directory.
pub const BITMAPS: u32 = 0x2385_2875;
/// Full disk encryption header: the position of the LUKS header.
pub const CRYPTO: u32 = 0x0537_BE77;
/// Name of the external data file.
pub const DATA_FILE: u32 = 0x4441_5441;
/// Clusters are on the move (`qcheck compact`): what is leaked was left by that. Of this program,
/// and without data; QEMU ignores and keeps it, as it does with every type that it does not know.
pub const COMPACTING: u32 = 0x5143_6D70;

/// Whether this program supports extensions of this type.
pub const fn is_known(magic: u32) -> bool {
    matches!(
        magic,
        END | BACKING_FORMAT | FEATURE_NAMES | BITMAPS | CRYPTO | DATA_FILE | COMPACTING
    )
}

/// What an extension of this type is.
pub const fn name(magic: u32) -> &'static str {
    match magic {
        END => "end",
        BACKING_FORMAT => "backing format",
        FEATURE_NAMES => "feature names",
        BITMAPS => "bitmaps",
        CRYPTO => "encryption header",
        DATA_FILE => "data file",
        COMPACTING => "compact under way",
        _ => "unknown",
    }
}

/// Bytes of an extension's type and length fields.
pub const EXTENSION_HEADER_BYTES: usize = 8;

/// One extension, kept verbatim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// What it is.
    pub magic: u32,
    /// Host offset of its data, after type and length.
    pub offset: u64,
    /// Its data without padding.
    pub data: Vec<u8>,
}

/// Why the list of extensions ended before its end mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExtensionDefect {
    /// The length of an extension exceeds the space for extensions.
    TooLong {
        /// Host offset of the extension.
        offset: u64,
        /// Its type.
        magic: u32,
        /// The length it claims, in bytes.
        length: u32,
    },
    /// The list goes on without an end mark where fewer than 8 bytes are left before its end.
    Cut {
        /// Host offset of these bytes.
        offset: u64,
    },
}

/// Decodes the list from `header` (the image's first bytes), beginning at byte `start` and ending
/// before `end`. An end mark ends the list, or an extension that reaches up to `end`.
pub fn decode_extensions(
    header: &[u8],
    start: usize,
    end: usize,
) -> (Vec<Extension>, Option<ExtensionDefect>) {
    let (end, is_whole) = (end.min(header.len()), end <= header.len());
    let mut list = Vec::new();
    let mut at = start;
    while at < end {
        if end - at < EXTENSION_HEADER_BYTES {
            return (list, is_whole.then_some(ExtensionDefect::Cut { offset: at as u64 }));
        }
        let magic = BigEndian::read_u32(&header[at..]);
        let length = BigEndian::read_u32(&header[at + 4..]);
        let data_at = at + EXTENSION_HEADER_BYTES;
        if u64::from(length) > (end - data_at) as u64 {
            let defect = ExtensionDefect::TooLong { offset: at as u64, magic, length };
            return (list, Some(defect));
        }
        if magic == END {
            break;
        }
        let data = header[data_at..data_at + length as usize].to_vec();
        at = data_at + data.len().next_multiple_of(8);
        list.push(Extension { magic, offset: data_at as u64, data });
    }
    (list, None)
}

/// Where a list of known extensions begins after a header of a length that the specification
/// defines.
pub fn known_list(header: &[u8], end: usize) -> Option<usize> {
    [V3_BYTES, V3_BYTES_WITH_COMPRESSION].into_iter().find(|&start| {
        let (list, defect) = decode_extensions(header, start, end);
        defect.is_none() && list.first().is_some_and(|first| is_known(first.magic))
    })
}

/// Whether a list of extensions is here, with one that the image cannot be read without: the name
/// of a data file, the offset of an encryption header or of bitmaps.
pub fn is_needed_list(header: &[u8], start: usize) -> bool {
    let (list, defect) = decode_extensions(header, start, header.len());
    defect.is_none() && list.iter().any(|e| [DATA_FILE, CRYPTO, BITMAPS].contains(&e.magic))
}

/// Appends one extension, padded to 8 bytes.
pub fn encode_extension(out: &mut Vec<u8>, magic: u32, data: &[u8]) {
    let mut head = [0; EXTENSION_HEADER_BYTES];
    BigEndian::write_u32(&mut head, magic);
    #[expect(clippy::cast_possible_truncation, reason = "an extension fits into a cluster")]
    BigEndian::write_u32(&mut head[4..], data.len() as u32);
    out.extend_from_slice(&head);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(8), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_survives_encoding_and_decoding() {
        let mut bytes = vec![0; 104];
        encode_extension(&mut bytes, BACKING_FORMAT, b"raw");
        encode_extension(&mut bytes, 0xDEAD_BEEF, b"12345678");
        encode_extension(&mut bytes, END, b"");
        let (list, defect) = decode_extensions(&bytes, 104, bytes.len());
        assert_eq!(defect, None);
        assert_eq!(list[0], Extension { magic: BACKING_FORMAT, offset: 112, data: b"raw".into() });
        assert_eq!(list[1].data, b"12345678");
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn a_length_past_the_end_of_the_space_is_a_defect_and_ends_the_list() {
        let mut bytes = vec![0; 32];
        BigEndian::write_u32(&mut bytes[8..], DATA_FILE);
        BigEndian::write_u32(&mut bytes[12..], u32::MAX);
        let (list, defect) = decode_extensions(&bytes, 8, 32);
        assert!(list.is_empty());
        let want = ExtensionDefect::TooLong { offset: 8, magic: DATA_FILE, length: u32::MAX };
        assert_eq!(defect, Some(want));
    }

    #[test]
    fn bytes_before_the_end_that_hold_no_whole_extension_are_a_defect() {
        let mut bytes = vec![0; 8];
        encode_extension(&mut bytes, DATA_FILE, b"raw");
        let (list, defect) = decode_extensions(&bytes, 8, bytes.len());
        assert_eq!((list.len(), defect), (1, None));
        bytes.resize(bytes.len() + 7, 0);
        let (list, defect) = decode_extensions(&bytes, 8, bytes.len());
        assert_eq!((list.len(), defect), (1, Some(ExtensionDefect::Cut { offset: 24 })));
    }
}
