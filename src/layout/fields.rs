//! The header field by field and its extensions, as stored in the file, with what they mean.

use crate::error::{Error, Result};
use crate::format::bitmap::BitmapsExtension;
use crate::format::crypto::CryptoHeader;
use crate::format::extension::{self, EXTENSION_HEADER_BYTES};
use crate::format::feature::{FEATURE_NAME_BYTES, FeatureKind, FeatureName, name_bits, named_bits};
use crate::format::header::{HeaderField, MAGIC, V2_BYTES, V3_BYTES, read_field};
use crate::storage::ReadAt;
use crate::tables::HeaderArea;

/// Bytes of an extension's text that are reported.
const MAX_TEXT: usize = 1023;

/// A field of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name in the specification.
    pub name: &'static str,
    /// Its position, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: usize,
    /// The number that it holds.
    pub value: u64,
    /// Its meaning, in a phrase; empty where the number needs none.
    pub meaning: String,
}

/// All fields of the header that the file is long enough for. Fails if it has no header.
pub fn fields(source: &dyn ReadAt) -> Result<Vec<Field>> {
    let mut bytes = [0; V3_BYTES + 8];
    let n = source.read_at(0, &mut bytes).map_err(|e| Error::io("read the header", 0, e))?;
    let bytes = &bytes[..n];
    if bytes.len() < 4 || read_field(bytes, 0, 4) != u64::from(MAGIC) {
        return Err(Error::NotQcow2);
    }
    if bytes.len() < V2_BYTES {
        let message = format!("the file ends after {n} bytes, inside the header");
        return Err(Error::Header { offset: 0, message });
    }
    let version = read_field(bytes, 4, 4);
    let length = read_field(bytes, 100, 4);
    let names = HeaderArea::load(source).map(|area| area.feature_names()).unwrap_or_default();
    let plain = |name, offset, meaning: &str| Field {
        name,
        offset,
        bytes: 4,
        value: read_field(bytes, offset, 4),
        meaning: meaning.to_owned(),
    };
    let mut fields = vec![plain("magic", 0, "QFI and 0xfb"), plain("version", 4, "")];
    for field in HeaderField::ALL {
        let (offset, width) = field.place();
        let end = offset + width as u64;
        let present = match field {
            _ if end <= V2_BYTES as u64 => true,
            _ if version < 3 => false,
            _ if end <= V3_BYTES as u64 => end <= bytes.len() as u64,
            _ => length > offset && end <= bytes.len() as u64,
        };
        if present {
            let value = read_field(bytes, offset, width);
            let meaning = meaning(field, value, bytes, &names);
            fields.push(Field { name: field.name(), offset, bytes: width, value, meaning });
        }
    }
    Ok(fields)
}

fn meaning(field: HeaderField, value: u64, header: &[u8], names: &[FeatureName]) -> String {
    let of = |field: HeaderField| read_field(header, field.place().0, field.place().1);
    let bits = |kind| match value {
        0 => "none".to_owned(),
        _ => name_bits(value, kind, &named_bits(names)).join(", "),
    };
    match field {
        HeaderField::BackingNameOffset | HeaderField::BackingNameLength
            if of(HeaderField::BackingNameOffset) == 0 =>
        {
            "no backing file".into()
        }
        HeaderField::ClusterBits if value < 64 => format!("clusters of {} bytes", 1u64 << value),
        HeaderField::Size => "bytes of the guest's disk".into(),
        HeaderField::CryptMethod => match value {
            0 => "not encrypted".into(),
            1 => "AES-CBC, legacy".into(),
            2 => "LUKS".into(),
            _ => "unknown".into(),
        },
        HeaderField::SnapshotTableOffset if of(HeaderField::SnapshotCount) == 0 => {
            "no snapshots".into()
        }
        HeaderField::Incompatible => bits(FeatureKind::Incompatible),
        HeaderField::Compatible => bits(FeatureKind::Compatible),
        HeaderField::Autoclear => bits(FeatureKind::Autoclear),
        HeaderField::RefcountOrder if value < 7 => format!("counts of {} bits", 1 << value),
        HeaderField::CompressionType => match value {
            0 => "zlib".into(),
            1 => "zstd".into(),
            _ => "unknown".into(),
        },
        HeaderField::BackingNameLength | HeaderField::HeaderLength => "bytes".into(),
        HeaderField::L1Entries => "entries".into(),
        HeaderField::ReftableClusters => "clusters".into(),
        HeaderField::BackingNameOffset
        | HeaderField::ClusterBits
        | HeaderField::L1Offset
        | HeaderField::ReftableOffset
        | HeaderField::SnapshotCount
        | HeaderField::SnapshotTableOffset
        | HeaderField::RefcountOrder => String::new(),
    }
}

/// A header extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionPlace {
    /// What it is.
    pub magic: u32,
    /// The name of its type.
    pub name: &'static str,
    /// Where it begins, with its type, in bytes from the start of the file.
    pub offset: u64,
    /// Bytes of its data.
    pub bytes: u64,
    /// Its meaning, in a phrase.
    pub meaning: String,
}

/// The header extensions in file order.
pub fn extensions(area: &HeaderArea) -> Vec<ExtensionPlace> {
    let place = |extension: &extension::Extension| ExtensionPlace {
        magic: extension.magic,
        name: extension::name(extension.magic),
        offset: extension.offset - EXTENSION_HEADER_BYTES as u64,
        bytes: extension.data.len() as u64,
        meaning: says(extension),
    };
    area.extensions.iter().map(place).collect()
}

fn says(extension: &extension::Extension) -> String {
    let data = &extension.data;
    match extension.magic {
        extension::BACKING_FORMAT | extension::DATA_FILE => {
            String::from_utf8_lossy(&data[..data.len().min(MAX_TEXT)]).into_owned()
        }
        extension::FEATURE_NAMES => format!("{} names", data.len() / FEATURE_NAME_BYTES),
        extension::BITMAPS => BitmapsExtension::decode(data).map_or_else(wrong_length, |bitmaps| {
            let (count, bytes) = (bitmaps.count, bitmaps.directory_bytes);
            let at = bitmaps.directory.get();
            format!("{count} bitmaps, directory of {bytes} bytes at {at:#x}")
        }),
        extension::CRYPTO => CryptoHeader::decode(data).map_or_else(wrong_length, |crypto| {
            format!("{} bytes at {:#x}", crypto.length, crypto.offset.get())
        }),
        _ => String::new(),
    }
}

fn wrong_length() -> String {
    "a wrong length".into()
}
