//! What an image may have: for those that come from somebody else. Decided from the image file
//! alone; nothing that it names is opened.

use std::fmt::{self, Write as _};

use crate::check::CheckReport;
use crate::error::{Error, Result};
use crate::format::crypto::CryptMethod;
use crate::format::extension;
use crate::format::feature::{FeatureKind, autoclear, compatible, incompatible, name_bits};
use crate::format::header::{Header, MAX_BACKING_NAME_BYTES, V3_BYTES_WITH_COMPRESSION};
use crate::format::snapshot::MAX_SNAPSHOTS;
use crate::storage::ReadAt;
use crate::tables::{HeaderArea, SnapshotTable};

/// Something that an image may be denied to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Trait {
    /// A backing file: the image reads from a file that it names.
    Backing,
    /// An external data file: the image reads from and writes to a file that it names.
    DataFile,
    /// Encryption: the content cannot be read without the key.
    Encryption,
    /// Internal snapshots: disks beside the one that is seen.
    Snapshots,
    /// Persistent bitmaps.
    Bitmaps,
    /// Feature bits that are not known.
    UnknownFeatures,
    /// Header extensions that are not known.
    UnknownExtensions,
    /// The dirty bit: refcounts may be stale.
    Dirty,
    /// The corrupt bit: damage was met.
    Corrupt,
    /// Compressed clusters.
    Compressed,
    /// A format other than qcow2 and raw.
    OtherFormat,
}

impl Trait {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 11] = [
        Self::Backing,
        Self::DataFile,
        Self::Encryption,
        Self::Snapshots,
        Self::Bitmaps,
        Self::UnknownFeatures,
        Self::UnknownExtensions,
        Self::Dirty,
        Self::Corrupt,
        Self::Compressed,
        Self::OtherFormat,
    ];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Backing => "backing",
            Self::DataFile => "data-file",
            Self::Encryption => "encryption",
            Self::Snapshots => "snapshots",
            Self::Bitmaps => "bitmaps",
            Self::UnknownFeatures => "unknown-features",
            Self::UnknownExtensions => "unknown-extensions",
            Self::Dirty => "dirty",
            Self::Corrupt => "corrupt",
            Self::Compressed => "compressed",
            Self::OtherFormat => "other-format",
        }
    }

    /// What the word means.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|denied| denied.word() == word)
    }
}

/// What images may not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What is denied.
    pub denied: Vec<Trait>,
    /// Most bytes of the disk.
    pub max_virtual_bytes: Option<u64>,
    /// Most bytes of guest data for each byte of the file.
    pub max_ratio: Option<u64>,
}

/// The word of images that hold too much for their size.
pub const MAX_RATIO: &str = "max-ratio";

/// How an image violates a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The word that denies it.
    pub word: &'static str,
    /// What the image has; names out of it as they are, so perhaps with control characters.
    pub message: String,
}

/// One line, whatever the message quotes.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "denied: {}: ", self.word)?;
        self.message.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_debug()),
            false => f.write_char(c),
        })
    }
}

impl Policy {
    /// For images from somewhere else: only what a plain disk needs. Compression is common there
    /// and stays allowed.
    pub fn untrusted() -> Self {
        let denied = Trait::ALL.into_iter().filter(|&denied| denied != Trait::Compressed).collect();
        Self { denied, ..Self::default() }
    }

    /// Whether anything is denied.
    pub fn is_active(&self) -> bool {
        *self != Self::default()
    }

    /// Violations that the header of a qcow2 image shows. Where the rest of the header cannot be
    /// read, its fields still count.
    pub fn inspect(&self, source: &dyn ReadAt) -> Result<Vec<Violation>> {
        let mut bytes = vec![0; V3_BYTES_WITH_COMPRESSION];
        let n = source.read_at(0, &mut bytes).map_err(|e| Error::io("read the header", 0, e))?;
        let Ok(header) = Header::decode(&bytes[..n]) else { return Ok(Vec::new()) };
        let area = HeaderArea::load(source).ok();
        let mut found: Vec<Violation> = Trait::ALL
            .into_iter()
            .filter(|denied| self.denied.contains(denied))
            .filter_map(|denied| {
                let message = has(denied, &header, area.as_ref())?;
                Some(Violation { word: denied.word(), message })
            })
            .collect();
        found.extend(
            self.inspect_size(header.size).or_else(|| self.inspect_snapshots(source, &header)),
        );
        Ok(found)
    }

    /// What the size of a disk means.
    pub fn inspect_size(&self, bytes: u64) -> Option<Violation> {
        let most = self.max_virtual_bytes.filter(|&most| bytes > most)?;
        let message = format!("its disk has {bytes} bytes, {most} are allowed");
        Some(Violation { word: "max-virtual-size", message })
    }

    /// What the size of the largest disk among the snapshots means.
    fn inspect_snapshots(&self, source: &dyn ReadAt, header: &Header) -> Option<Violation> {
        let most = self.max_virtual_bytes.filter(|_| header.snapshot_count > 0)?;
        let count = header.snapshot_count.min(MAX_SNAPSHOTS);
        let table = SnapshotTable::load(source, header.snapshot_table, count);
        let bytes = table.entries.iter().filter_map(|entry| entry.disk_bytes()).max()?;
        let message = format!("a snapshot's disk has {bytes} bytes, {most} are allowed");
        (bytes > most).then_some(Violation { word: "max-virtual-size", message })
    }

    /// What a format other than qcow2 and raw means.
    pub fn inspect_other_format(&self, name: &str) -> Option<Violation> {
        let denied = self.denied.contains(&Trait::OtherFormat);
        denied.then(|| Violation {
            word: Trait::OtherFormat.word(),
            message: format!("its format is {name}"),
        })
    }

    /// Violations that a check of the image shows.
    pub fn judge(&self, report: &CheckReport, file_bytes: u64) -> Vec<Violation> {
        let allocation = report.allocation;
        let mut found = Vec::new();
        if self.denied.contains(&Trait::Compressed) && allocation.compressed > 0 {
            let message = format!("it has {} compressed clusters", allocation.compressed);
            found.push(Violation { word: Trait::Compressed.word(), message });
        }
        let guest = u128::from(allocation.allocated) * u128::from(report.geometry.cluster_bytes());
        let most = |ratio| u128::from(ratio) * u128::from(file_bytes);
        if let Some(ratio) = self.max_ratio.filter(|&ratio| guest > most(ratio)) {
            let message = format!(
                "its {file_bytes} bytes hold {guest} bytes of guest data, {ratio} for each are \
                 allowed"
            );
            found.push(Violation { word: MAX_RATIO, message });
        }
        found
    }
}

/// What the header has of something that is denied; `area` is missing where no program may read the
/// rest.
fn has(denied: Trait, header: &Header, area: Option<&HeaderArea>) -> Option<String> {
    let extension = |magic| area.and_then(|area| area.extension(magic));
    let told = |is: bool, message: &str| is.then(|| message.to_owned());
    match denied {
        Trait::Backing => backing(header, area),
        Trait::DataFile => {
            let name = extension(extension::DATA_FILE);
            let named = name.map(|name| format!("it has the external data file {}", shown(name)));
            named.or_else(|| told(header.has_data_file(), "it has an external data file"))
        }
        Trait::Encryption => {
            let is = header.crypt_method != CryptMethod::None;
            told(is || extension(extension::CRYPTO).is_some(), "it is encrypted")
        }
        Trait::Snapshots => {
            let count = header.snapshot_count;
            (count > 0).then(|| format!("it has {count} internal snapshots"))
        }
        Trait::Bitmaps => {
            let is = header.autoclear & autoclear::BITMAPS != 0;
            told(is || extension(extension::BITMAPS).is_some(), "it has persistent bitmaps")
        }
        Trait::UnknownFeatures => unknown_features(header),
        Trait::UnknownExtensions => {
            let known = |e: &&extension::Extension| !extension::is_known(e.magic);
            let unknown = area.and_then(|area| area.extensions.iter().find(known));
            unknown.map(|e| format!("it has a header extension of the type {:#010x}", e.magic))
        }
        Trait::Dirty => told(header.has_incompatible(incompatible::DIRTY), "its dirty bit is set"),
        Trait::Corrupt => {
            told(header.has_incompatible(incompatible::CORRUPT), "its corrupt bit is set")
        }
        // The check reports these two.
        Trait::Compressed | Trait::OtherFormat => None,
    }
}

fn backing(header: &Header, area: Option<&HeaderArea>) -> Option<String> {
    if header.backing_name_offset == 0 {
        return None;
    }
    Some(match area.and_then(|area| area.backing_name.as_deref()) {
        Some(name) => format!("it has the backing file {}", shown(name)),
        None => "it has a backing file".into(),
    })
}

fn unknown_features(header: &Header) -> Option<String> {
    // The image's own names for its bits are left out: whoever made it chose them.
    let names: Vec<String> = [
        (header.incompatible & !incompatible::KNOWN, "incompatible", FeatureKind::Incompatible),
        (header.compatible & !compatible::KNOWN, "compatible", FeatureKind::Compatible),
        (header.autoclear & !autoclear::KNOWN, "autoclear", FeatureKind::Autoclear),
    ]
    .into_iter()
    .filter(|(bits, _, _)| *bits != 0)
    .map(|(bits, field, kind)| format!("{field} {}", name_bits(bits, kind, &[]).join(", ")))
    .collect();
    (!names.is_empty()).then(|| format!("it has unknown feature bits: {}", names.join("; ")))
}

/// A name out of the image, no longer than a name may be.
fn shown(name: &[u8]) -> String {
    let name = &name[..name.len().min(MAX_BACKING_NAME_BYTES as usize)];
    format!("'{}'", String::from_utf8_lossy(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_means_one_trait() {
        for denied in Trait::ALL {
            assert_eq!(Trait::from_word(denied.word()), Some(denied));
        }
        assert_eq!(Trait::from_word("nonsense"), None);
    }

    #[test]
    fn a_policy_without_a_rule_denies_nothing() {
        assert!(!Policy::default().is_active());
        assert!(Policy::untrusted().is_active());
        assert!(!Policy::untrusted().denied.contains(&Trait::Compressed));
        assert!(Policy { max_ratio: Some(1), ..Policy::default() }.is_active());
    }

    #[test]
    fn a_name_stays_on_its_line_and_has_an_end() {
        let violation = Violation { word: "backing", message: shown(b"a\n\"b") };
        assert_eq!(violation.message, "'a\n\"b'");
        assert_eq!(violation.to_string(), "denied: backing: 'a\\n\"b'");
        assert_eq!(shown(&[b'x'; 5000]).len(), 1025);
    }
}
