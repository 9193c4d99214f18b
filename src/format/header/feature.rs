//! Feature bits of a version 3 header, and the names that an image gives them.

use byteorder::{BigEndian, ByteOrder};

/// Incompatible feature bits (specification, "Header", bytes 72 - 79): a program that does not
/// support one of them must not open the image.
pub mod incompatible {
    /// Refcounts may be stale; they must be repaired before the image is written.
    pub const DIRTY: u64 = 1 << 0;
    /// Metadata is damaged; the image must not be written before it is repaired.
    pub const CORRUPT: u64 = 1 << 1;
    /// Guest data is in an external data file.
    pub const DATA_FILE: u64 = 1 << 2;
    /// The header's compression type is other than zlib.
    pub const COMPRESSION: u64 = 1 << 3;
    /// L2 entries are 16 bytes long, with subclusters.
    pub const EXTENDED_L2: u64 = 1 << 4;
    /// All bits that this program supports.
    pub const KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;
}

/// Compatible feature bits (bytes 80 - 87): safe to ignore.
pub mod compatible {
    /// Refcount updates may be postponed, with the dirty bit set meanwhile.
    pub const LAZY_REFCOUNTS: u64 = 1 << 0;
    /// All bits that this program supports.
    pub const KNOWN: u64 = LAZY_REFCOUNTS;
}

/// Autoclear feature bits (bytes 88 - 95): cleared by a writer that does not support them.
pub mod autoclear {
    /// The bitmaps extension is consistent with the image.
    pub const BITMAPS: u64 = 1 << 0;
    /// The external data file reads as a raw image by itself.
    pub const DATA_FILE_RAW: u64 = 1 << 1;
    /// All bits that this program supports.
    pub const KNOWN: u64 = BITMAPS | DATA_FILE_RAW;
}

/// Which of the three bit fields a feature belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureKind {
    /// [`incompatible`], type 0 in the feature name table.
    Incompatible,
    /// [`compatible`], type 1.
    Compatible,
    /// [`autoclear`], type 2.
    Autoclear,
    /// A type that the specification does not have.
    Other(u8),
}

/// One entry of the feature name table (specification, "Feature name table").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureName {
    /// The bit field.
    pub kind: FeatureKind,
    /// The bit, 0..=63 if the entry is valid.
    pub bit: u8,
    /// The name, without its padding of zeroes; any bytes.
    pub name: Vec<u8>,
}

/// Bytes of an entry of the feature name table.
pub const FEATURE_NAME_BYTES: usize = 48;

/// Decodes the data of a feature name table extension. A last entry may be cut short: its name ends
/// there.
pub fn decode_feature_names(data: &[u8]) -> Vec<FeatureName> {
    data.chunks(FEATURE_NAME_BYTES)
        .filter(|entry| entry.len() >= 2)
        .map(|entry| FeatureName {
            kind: match entry[0] {
                0 => FeatureKind::Incompatible,
                1 => FeatureKind::Compatible,
                2 => FeatureKind::Autoclear,
                other => FeatureKind::Other(other),
            },
            bit: entry[1],
            name: entry[2..].iter().copied().take_while(|&b| b != 0).collect(),
        })
        .collect()
}

/// The names of the bits set in `bits`: from the image's own table where it has them, otherwise
/// "bit N".
pub fn name_bits(bits: u64, kind: FeatureKind, table: &[FeatureName]) -> Vec<String> {
    let name = |bit| name_bit(bit, kind, table).unwrap_or_else(|| format!("bit {bit}"));
    set_bits(bits).map(name).collect()
}

/// The numbers of the bits that are set, from the lowest.
pub fn set_bits(bits: u64) -> impl Iterator<Item = u8> {
    (0..64u8).filter(move |bit| bits >> bit & 1 == 1)
}

/// The name of a bit, where the image's own table has one.
pub fn name_bit(bit: u8, kind: FeatureKind, table: &[FeatureName]) -> Option<String> {
    let named = table.iter().find(|f| f.kind == kind && f.bit == bit && !f.name.is_empty());
    named.map(|f| String::from_utf8_lossy(&f.name).into_owned())
}

/// The image's own names, followed by those of the bits known here.
pub fn named_bits(own: &[FeatureName]) -> Vec<FeatureName> {
    let mut names = own.to_vec();
    names.extend(decode_feature_names(&encode_known_feature_names()));
    names
}

/// The feature name table that a new image carries: the bits known here, as QEMU names them.
pub fn encode_known_feature_names() -> Vec<u8> {
    const KNOWN: [(u8, u8, &str); 8] = [
        (0, 0, "dirty bit"),
        (0, 1, "corrupt bit"),
        (0, 2, "external data file"),
        (0, 3, "compression type"),
        (0, 4, "extended L2 entries"),
        (1, 0, "lazy refcounts"),
        (2, 0, "bitmaps"),
        (2, 1, "raw external data"),
    ];
    let mut out = vec![0; KNOWN.len() * FEATURE_NAME_BYTES];
    for (entry, (kind, bit, name)) in out.chunks_exact_mut(FEATURE_NAME_BYTES).zip(KNOWN) {
        BigEndian::write_u16(entry, u16::from(kind) << 8 | u16::from(bit));
        entry[2..2 + name.len()].copy_from_slice(name.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_named_from_the_images_own_table() {
        let mut data = vec![0; 2 * FEATURE_NAME_BYTES];
        data[1] = 40;
        data[2..7].copy_from_slice(b"magic");
        data[48] = 1;
        let table = decode_feature_names(&data);
        assert_eq!(
            name_bits(1 << 40 | 1 << 41, FeatureKind::Incompatible, &table),
            ["magic", "bit 41"]
        );
    }

    #[test]
    fn a_last_entry_cut_short_has_the_name_as_far_as_it_goes() {
        let table = decode_feature_names(b"\0\x3fTest feature");
        assert_eq!(name_bits(1 << 63, FeatureKind::Incompatible, &table), ["Test feature"]);
        assert!(decode_feature_names(&[0]).is_empty());
    }

    #[test]
    fn our_own_table_decodes_to_eight_names() {
        let table = decode_feature_names(&encode_known_feature_names());
        assert_eq!(table.len(), 8);
        assert_eq!(table[4].name, b"extended L2 entries");
        assert_eq!(table[7].kind, FeatureKind::Autoclear);
    }
}
