//! Tolerant loading of qcow2 structures: damage is reported, not refused.
//!
//! Used by the checker, which must see what a driver would refuse or mask, and by whatever only
//! describes an image.

use std::{fmt, io};

use crate::error::{Error, Result};
use crate::format::bitmap::{BitmapEntry, BitmapsExtension, MAX_DIRECTORY_BYTES};
use crate::format::crypto::CryptoHeader;
use crate::format::extension::{self, Extension, ExtensionDefect, decode_extensions};
use crate::format::feature::{self, FeatureKind, FeatureName, decode_feature_names};
use crate::format::geometry::{GeometryError, MAX_CLUSTER_BITS, MIN_CLUSTER_BITS};
use crate::format::header::{
    Header, HeaderError, HeaderField, MAX_BACKING_NAME_BYTES, V2_BYTES, V3_BYTES_WITH_COMPRESSION,
};
use crate::format::probe::{ImageFormat, PROBE_BYTES, probe};
use crate::format::snapshot::{
    KNOWN_EXTRA_BYTES, MAX_EXTRA_BYTES, MAX_TABLE_BYTES, SNAPSHOT_HEADER_BYTES, SnapshotEntry,
    SnapshotHeader,
};
use crate::format::{Geometry, HostOffset};
use crate::storage::ReadAt;

/// The format that a file's first bytes announce.
pub fn announced_format(source: &dyn ReadAt) -> Result<ImageFormat> {
    let mut head = [0; PROBE_BYTES];
    let n = source.read_at(0, &mut head).map_err(|e| Error::io("read the first bytes", 0, e))?;
    Ok(probe(&head[..n]))
}

/// The header and what hangs off it in the first cluster.
#[derive(Debug, Clone)]
pub struct HeaderArea {
    /// The fields.
    pub header: Header,
    /// The sizes that follow from them.
    pub geometry: Geometry,
    /// The extensions in file order.
    pub extensions: Vec<Extension>,
    /// Where the list of extensions breaks off, if it does.
    pub extension_defect: Option<ExtensionDefect>,
    /// Extensions that a header field hides from QEMU.
    pub hidden_extensions: Option<HiddenExtensions>,
    /// The backing file's name as stored; `None` without one or if it is out of range.
    pub backing_name: Option<Vec<u8>>,
}

impl HeaderArea {
    /// Loads the first cluster. Fails where the rest cannot be read: not a qcow2 image, an
    /// unknown version or incompatible feature, a cluster size or refcount width out of range.
    pub fn load(source: &dyn ReadAt) -> Result<Self> {
        let mut bytes = vec![0; 1 << MIN_CLUSTER_BITS];
        let n = read_some(source, &mut bytes)?;
        let header = Header::decode(&bytes[..n]).map_err(|e| match e {
            HeaderError::NoMagic => Error::NotQcow2,
            HeaderError::TooShort => Error::Header {
                offset: 0,
                message: format!("the file ends after {n} bytes, inside the header"),
            },
        })?;
        if !(2..=3).contains(&header.version) {
            return Err(header_error(4, format!("unsupported qcow2 version {}", header.version)));
        }
        if (MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS).contains(&header.cluster_bits) {
            bytes.resize(1 << header.cluster_bits, 0);
            let n = read_some(source, &mut bytes)?;
            bytes.truncate(n.max(V2_BYTES));
        }
        let (extensions, extension_defect) = extensions_of(&header, &bytes);
        refuse_unknown_features(&header, &extensions)?;
        let geometry = header.geometry().map_err(geometry_error)?;
        let backing_name = backing_name(&header, &bytes);
        let hidden_extensions = hidden_extensions(&header, &bytes);
        Ok(Self { header, geometry, extensions, extension_defect, hidden_extensions, backing_name })
    }

    /// The extension of this type; the last of several, as in QEMU.
    pub fn whole_extension(&self, magic: u32) -> Option<&Extension> {
        self.extensions.iter().rfind(|e| e.magic == magic)
    }

    /// Its data.
    pub fn extension(&self, magic: u32) -> Option<&[u8]> {
        self.whole_extension(magic).map(|e| e.data.as_slice())
    }

    /// Where the list of extensions ends, in bytes from the start of the file: after the last,
    /// where its end mark is.
    pub fn extensions_end(&self) -> u64 {
        self.extensions.last().map_or(u64::from(self.header.header_length), |last| {
            last.offset + (last.data.len() as u64).next_multiple_of(8)
        })
    }

    /// The names that the image gives to feature bits.
    pub fn feature_names(&self) -> Vec<FeatureName> {
        feature_names(&self.extensions)
    }

    /// The format recorded for the backing file: up to a zero byte, as QEMU reads it. `None`
    /// without one, or where there is no backing file.
    pub fn backing_format(&self) -> Option<&[u8]> {
        let is_named = |name: &[u8]| name.first().is_some_and(|&byte| byte != 0);
        self.backing_name.as_deref().filter(|name| is_named(name))?;
        let format = self.extension(extension::BACKING_FORMAT)?;
        let name = format.split(|&byte| byte == 0).next()?;
        is_named(name).then_some(name)
    }

    /// Whether the image names its external data file.
    pub fn names_data_file(&self) -> bool {
        let name = self.extension(extension::DATA_FILE).unwrap_or_default();
        name.first().is_some_and(|&byte| byte != 0)
    }

    /// The bitmaps extension, where it is there and has the right length.
    pub fn bitmaps(&self) -> Option<BitmapsExtension> {
        self.extension(extension::BITMAPS).and_then(BitmapsExtension::decode)
    }

    /// The position of the encryption header, if the extension exists and has the right length.
    pub fn crypto_header(&self) -> Option<CryptoHeader> {
        self.extension(extension::CRYPTO).and_then(CryptoHeader::decode)
    }
}

fn read_some(source: &dyn ReadAt, bytes: &mut [u8]) -> Result<usize> {
    source.read_at(0, bytes).map_err(|e| Error::io("read the header", 0, e))
}

fn header_error(offset: u64, message: String) -> Error {
    Error::Header { offset, message }
}

fn geometry_error(error: GeometryError) -> Error {
    let (field, message) = match error {
        GeometryError::ClusterBits(bits) => {
            (HeaderField::ClusterBits, format!("unsupported cluster size 2^{bits}"))
        }
        GeometryError::RefcountOrder(order) => (
            HeaderField::RefcountOrder,
            format!("refcount width 2^{order} bits is over the limit of 64"),
        ),
        GeometryError::ExtendedL2(bits) => (
            HeaderField::ClusterBits,
            format!("extended L2 entries need clusters of 16 KiB at least, not 2^{bits} bytes"),
        ),
    };
    header_error(field.place().0, message)
}

fn extensions_of(header: &Header, bytes: &[u8]) -> (Vec<Extension>, Option<ExtensionDefect>) {
    if header.cluster_bits > MAX_CLUSTER_BITS {
        return (Vec::new(), None);
    }
    let end = usize::try_from(header.extensions_end()).unwrap_or(usize::MAX);
    let start = header.header_length as usize;
    if start < V2_BYTES { (Vec::new(), None) } else { decode_extensions(bytes, start, end) }
}

/// Extensions that QEMU does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenExtensions {
    /// They begin here, before the end of a header that is longer than any that is known.
    InHeader(usize),
    /// They end at the offset of the backing file's name, which has no length and is before them.
    AfterName,
}

fn hidden_extensions(header: &Header, bytes: &[u8]) -> Option<HiddenExtensions> {
    let (length, end) = (header.header_length as usize, header.extensions_end());
    if header.backing_name_len == 0 && end < u64::from(header.header_length) {
        let is_needed = extension::is_needed_list(bytes, length);
        return is_needed.then_some(HiddenExtensions::AfterName);
    }
    if header.version < 3 || length <= V3_BYTES_WITH_COMPRESSION {
        return None;
    }
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    let start = extension::known_list(bytes, end).filter(|&start| start < length);
    start.map(HiddenExtensions::InHeader)
}

fn feature_names(extensions: &[Extension]) -> Vec<FeatureName> {
    extensions
        .iter()
        .find(|e| e.magic == extension::FEATURE_NAMES)
        .map(|e| decode_feature_names(&e.data))
        .unwrap_or_default()
}

fn refuse_unknown_features(header: &Header, extensions: &[Extension]) -> Result<()> {
    let unknown = header.incompatible & !feature::incompatible::KNOWN;
    if unknown == 0 {
        return Ok(());
    }
    let table = feature_names(extensions);
    let (mut names, mut nameless) = (Vec::new(), 0u64);
    for bit in feature::set_bits(unknown) {
        match feature::name_bit(bit, FeatureKind::Incompatible, &table) {
            Some(name) => names.push(name),
            None => nameless |= 1 << bit,
        }
    }
    if nameless != 0 {
        names.push(format!("Unknown incompatible feature: {nameless:x}"));
    }
    // QEMU's words, which programs match.
    let names = names.join(", ");
    Err(Error::Unsupported(format!("header offset 72: Unsupported qcow2 feature(s): {names}")))
}

fn backing_name(header: &Header, bytes: &[u8]) -> Option<Vec<u8>> {
    if header.backing_name_offset == 0 || header.backing_name_len > MAX_BACKING_NAME_BYTES {
        return None;
    }
    let start = usize::try_from(header.backing_name_offset).ok()?;
    let end = start.checked_add(header.backing_name_len as usize)?;
    bytes.get(start..end).map(<[u8]>::to_vec)
}

/// Loads `entries` 64-bit table entries; entries past the end of the file read as 0.
pub fn load_entries(source: &dyn ReadAt, at: HostOffset, entries: u64) -> io::Result<Vec<u64>> {
    let len = usize::try_from(entries).map_err(io::Error::other)?;
    let mut bytes = vec![0; len * 8];
    source.read_padded_at(at.get(), &mut bytes)?;
    Ok(crate::format::decode_entries(&bytes))
}

/// Why the snapshot table could not be read to its end.
#[derive(Debug)]
pub enum SnapshotTableProblem {
    /// The entries from this one on make the table longer than QEMU's limit.
    TooBig(u32),
    /// The file ends inside this entry.
    Truncated(u32),
    /// Reading this entry failed.
    Unreadable(u32, io::Error),
}

impl fmt::Display for SnapshotTableProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooBig(entry) => write!(f, "from entry {entry} on it is over QEMU's limit"),
            Self::Truncated(entry) => write!(f, "the file ends inside entry {entry}"),
            Self::Unreadable(entry, error) => write!(f, "entry {entry} cannot be read: {error}"),
        }
    }
}

/// The snapshot table, as far as it could be read.
#[derive(Debug, Default)]
pub struct SnapshotTable {
    /// The entries in table order.
    pub entries: Vec<SnapshotEntry>,
    /// Bytes from the table's start to the end of the last entry.
    pub bytes: u64,
    /// Why there are fewer entries than requested.
    pub problem: Option<SnapshotTableProblem>,
}

impl SnapshotTable {
    /// Loads up to `count` entries at `at`. Extra data over QEMU's limit is cut to the limit; the
    /// entry's header still shows its length.
    pub fn load(source: &dyn ReadAt, at: HostOffset, count: u32) -> Self {
        Self::load_with(source, at, count, MAX_EXTRA_BYTES)
    }

    /// Loads the same, but of the extra data only what has a meaning: the rest can take 64 MiB.
    pub fn load_known(source: &dyn ReadAt, at: HostOffset, count: u32) -> Self {
        Self::load_with(source, at, count, KNOWN_EXTRA_BYTES)
    }

    fn load_with(source: &dyn ReadAt, at: HostOffset, count: u32, most_extra: u32) -> Self {
        let mut table = Self::default();
        let mut kept_bytes = 0u64;
        for index in 0..count {
            let start = table.bytes.next_multiple_of(8);
            match load_snapshot(source, at.saturating_add(start), most_extra) {
                Ok(Some(entry)) => {
                    let end = start + entry.header.entry_bytes();
                    let extra = entry.header.extra_len;
                    let dropped = u64::from(extra.saturating_sub(MAX_EXTRA_BYTES));
                    kept_bytes = kept_bytes.next_multiple_of(8) + entry.header.entry_bytes();
                    kept_bytes -= dropped;
                    if kept_bytes > MAX_TABLE_BYTES || end > i32::MAX as u64 {
                        table.problem = Some(SnapshotTableProblem::TooBig(index));
                        break;
                    }
                    table.entries.push(entry);
                    table.bytes = end;
                }
                Ok(None) => {
                    table.problem = Some(SnapshotTableProblem::Truncated(index));
                    break;
                }
                Err(error) => {
                    table.problem = Some(SnapshotTableProblem::Unreadable(index, error));
                    break;
                }
            }
        }
        table
    }
}

/// Loads one entry; `None` where the file ends before it does.
fn load_snapshot(
    source: &dyn ReadAt,
    at: HostOffset,
    most_extra: u32,
) -> io::Result<Option<SnapshotEntry>> {
    let file_end = source.len()?;
    let mut fixed = [0; SNAPSHOT_HEADER_BYTES];
    if at.saturating_add(SNAPSHOT_HEADER_BYTES as u64).get() > file_end {
        return Ok(None);
    }
    source.read_padded_at(at.get(), &mut fixed)?;
    let header = SnapshotHeader::decode(&fixed);
    if at.saturating_add(header.entry_bytes()).get() > file_end {
        return Ok(None);
    }
    let within_limit = header.extra_len.min(MAX_EXTRA_BYTES);
    let mut extra = vec![0; within_limit.min(most_extra) as usize];
    let extra_at = at.get() + SNAPSHOT_HEADER_BYTES as u64;
    source.read_padded_at(extra_at, &mut extra)?;
    let mut strings = vec![0; usize::from(header.id_len) + usize::from(header.name_len)];
    source.read_padded_at(extra_at + u64::from(header.extra_len), &mut strings)?;
    let name = strings.split_off(usize::from(header.id_len));
    let unloaded = within_limit.saturating_sub(most_extra);
    Ok(Some(SnapshotEntry { header, extra, unloaded, id: strings, name }))
}

/// The bitmap directory, as far as it could be read.
#[derive(Debug, Default)]
pub struct BitmapDirectory {
    /// The entries in directory order.
    pub entries: Vec<BitmapEntry>,
    /// What is wrong with the directory itself, in one phrase each.
    pub problems: Vec<String>,
}

impl BitmapDirectory {
    /// Loads the directory that the extension points to.
    pub fn load(source: &dyn ReadAt, extension: &BitmapsExtension) -> io::Result<Self> {
        let mut directory = Self::default();
        if extension.directory_bytes > MAX_DIRECTORY_BYTES {
            let bytes = extension.directory_bytes;
            directory.problems.push(format!("its length of {bytes} bytes is over QEMU's limit"));
            return Ok(directory);
        }
        let past_end = source.len()?.saturating_sub(extension.directory.get());
        let in_file = extension.directory_bytes.min(past_end);
        if in_file < extension.directory_bytes {
            directory.problems.push("it reaches past the end of the file".into());
        }
        let mut bytes = vec![0; usize::try_from(in_file).map_err(io::Error::other)?];
        source.read_exact_at(extension.directory.get(), &mut bytes)?;
        directory.decode(&bytes, extension.count);
        Ok(directory)
    }

    fn decode(&mut self, bytes: &[u8], count: u32) {
        let mut rest = bytes;
        while !rest.is_empty() && self.entries.len() < count as usize {
            let Ok((entry, length)) = BitmapEntry::decode(rest) else {
                self.problems.push(format!("entry {} is cut short", self.entries.len()));
                return;
            };
            self.entries.push(entry);
            rest = &rest[length..];
        }
        if self.entries.len() < count as usize {
            let found = self.entries.len();
            self.problems.push(format!("it has {found} entries where the header has {count}"));
        } else if !rest.is_empty() {
            self.problems.push(format!("it is longer than its {count} entries"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_longer_than_its_entries_is_reported() {
        let mut directory = BitmapDirectory::default();
        directory.decode(&[0; 8], 0);
        assert_eq!(directory.problems, ["it is longer than its 0 entries"]);
        let mut directory = BitmapDirectory::default();
        directory.decode(&[0; 8], 1);
        assert_eq!(directory.problems, ["entry 0 is cut short"]);
    }
}
