//! Findings in words. The lines that qemu-img prints too are the same to the letter, since scripts
//! parse them; the others are ours.

use std::fmt::Write;

use super::finding::Finding;
use super::kind::{Kind, Severity};
use super::orphan::Orphan;
use super::place::{Place, RegionKind, Source};
use crate::format::HostOffset;
use crate::format::snapshot::{MAX_EXTRA_BYTES, MAX_SNAPSHOTS};

/// Whether a finding is only reported or is being repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// "ERROR", or "Leaked".
    Tell,
    /// "Repairing".
    Repair,
}

impl Finding {
    /// How many lines it takes: one for each cluster of a run of counts, else one.
    pub fn line_count(&self) -> u64 {
        match (&self.kind, self.place) {
            (Kind::Count { .. } | Kind::Overflow { .. }, Place::Clusters(_, count)) => count.get(),
            _ => 1,
        }
    }

    /// The line with this number, from 0.
    pub fn line(&self, number: u64, verb: Verb) -> String {
        let word = match verb {
            Verb::Tell => "ERROR",
            Verb::Repair => "Repairing",
        };
        match (&self.kind, self.place) {
            (Kind::Count { stored, referenced }, Place::Clusters(first, _)) => {
                let word = if verb == Verb::Tell && stored > referenced { "Leaked" } else { word };
                let cluster = first.get() + number;
                format!("{word} cluster {cluster} refcount={stored} reference={referenced}")
            }
            (Kind::Overflow { cluster_bytes, .. }, Place::Clusters(first, _)) => {
                let offset = (first.get() + number) * cluster_bytes;
                format!("ERROR: overflow cluster offset=0x{offset:x}")
            }
            (kind, place) => self
                .mapping_line(word)
                .or_else(|| self.flag_line(word))
                .or_else(|| refcount_line(kind, place, word))
                .or_else(|| snapshot_line(kind, place, verb))
                .unwrap_or_else(|| {
                    let word = match self.severity() {
                        Severity::Notice => "NOTICE",
                        _ => "ERROR",
                    };
                    format!("{word} {}: {}", place_text(place), own_words(kind))
                }),
        }
    }

    /// qemu-img's lines about L1 and L2 tables.
    fn mapping_line(&self, word: &str) -> Option<String> {
        let l2_index = match self.place {
            Place::L2(_, _, l2) => l2.get(),
            _ => 0,
        };
        Some(match &self.kind {
            Kind::L1Reserved(entry) => {
                format!("ERROR found L1 entry with reserved bits set: {entry:x}")
            }
            Kind::L2TableUnaligned(at) => format!(
                "ERROR l2_offset={:x}: Table is not cluster aligned; L1 entry corrupted",
                at.get()
            ),
            Kind::L2Reserved(entry) => {
                format!("ERROR found l2 entry with reserved bits set: {entry:x}")
            }
            Kind::CompressedCopied { offset } => format!(
                "ERROR: coffset=0x{:x}: copied flag must never be set for compressed clusters",
                offset.get()
            ),
            Kind::CompressedWithDataFile(entry) => {
                format!("ERROR compressed cluster {l2_index} with data file, entry=0x{entry:x}")
            }
            Kind::CompressedWithBitmap(entry) => format!(
                "ERROR compressed cluster {l2_index} with non-zero subcluster allocation bitmap, \
                 entry=0x{entry:x}"
            ),
            Kind::SubclusterConflict(at) => format!(
                "ERROR offset={:x}: Allocated cluster has corrupted subcluster allocation bitmap",
                at.get()
            ),
            Kind::SubclustersWithoutCluster => {
                "ERROR: Unallocated cluster has non-zero subcluster allocation map".into()
            }
            Kind::DataUnaligned(at) => format!(
                "ERROR offset={:x}: Data cluster is not properly aligned; L2 entry corrupted.",
                at.get()
            ),
            Kind::PreallocatedUnaligned(at) => format!(
                "{word} offset={:x}: Preallocated cluster is not properly aligned; L2 entry \
                 corrupted.",
                at.get()
            ),
            Kind::BeyondEnd { offset, bytes } => format!(
                "ERROR: counting reference for region exceeding the end of the file by one \
                 cluster or more: offset 0x{:x} size 0x{bytes:x}",
                offset.get()
            ),
            _ => return None,
        })
    }

    /// qemu-img's lines about COPIED flags.
    fn flag_line(&self, word: &str) -> Option<String> {
        Some(match &self.kind {
            Kind::DataCopied { entry, count } => {
                format!("{word} OFLAG_COPIED data cluster: l2_entry={entry:x} refcount={count}")
            }
            Kind::L2TableCopied { entry, count } => {
                let Place::L1(_, index) = self.place else { return None };
                format!(
                    "{word} OFLAG_COPIED L2 cluster: l1_index={index} l1_entry={entry:x} \
                     refcount={count}"
                )
            }
            _ => return None,
        })
    }
}

/// qemu-img's lines about refcount structures.
fn refcount_line(kind: &Kind, place: Place, word: &str) -> Option<String> {
    let Place::Refblock(index) = place else { return None };
    Some(match kind {
        Kind::ReftableReserved => {
            format!("ERROR refcount table entry {index} has reserved bits set")
        }
        Kind::RefblockUnaligned => format!(
            "ERROR refcount block {index} is not cluster aligned; refcount table entry corrupted"
        ),
        Kind::RefblockOutside => format!("{word} refcount block {index} is outside image"),
        Kind::RefblockShared { references } => {
            format!("ERROR refcount block {index} refcount={references}")
        }
        _ => return None,
    })
}

/// qemu-img's lines about the snapshot table.
fn snapshot_line(kind: &Kind, place: Place, verb: Verb) -> Option<String> {
    let index = match place {
        Place::Snapshot(index) => index,
        _ => 0,
    };
    let repair = verb == Verb::Repair;
    Some(match kind {
        Kind::SnapshotIncomplete => {
            let word = if repair { "Repairing" } else { "ERROR" };
            format!("{word} snapshot table entry {index} is incomplete")
        }
        Kind::TooManySnapshots(count) if repair => {
            format!("Discarding {} overhanging snapshots", count - MAX_SNAPSHOTS)
        }
        Kind::SnapshotTableTooBig { overhanging } if repair => {
            format!("Discarding {overhanging} overhanging snapshots (snapshot table is too big)")
        }
        Kind::SnapshotExtraTooLarge(bytes) if repair => format!(
            "Discarding too much extra metadata in snapshot table entry {index} ({bytes} > \
             {MAX_EXTRA_BYTES})"
        ),
        Kind::SnapshotsWithDataFile(count) => {
            format!("ERROR {count} snapshots in image with data file")
        }
        Kind::SnapshotL1Unaligned { id, name, offset } => format!(
            "ERROR snapshot {id} ({name}) l1_offset={:#x}: L1 table is not cluster aligned; \
             snapshot table entry corrupted",
            offset.get()
        ),
        Kind::SnapshotL1TooLarge { id, name, entries } => format!(
            "ERROR snapshot {id} ({name}) l1_size={entries:#x}: L1 table is too large; snapshot \
             table entry corrupted"
        ),
        _ => return None,
    })
}

/// What only qcheck reports.
fn own_words(kind: &Kind) -> String {
    let mut text = String::new();
    let _ = match kind {
        Kind::HeaderField(problem)
        | Kind::BackingFormat(problem)
        | Kind::EncryptionHeader(problem)
        | Kind::SnapshotTableBroken(problem)
        | Kind::BitmapDirectory(problem) => write!(text, "{problem}"),
        Kind::DataFileUnnamed => write!(
            text,
            "the image does not name its external data file; QEMU takes the name from the option \
             data-file.filename"
        ),
        Kind::TooManySnapshots(count) => {
            write!(text, "{count} snapshots are over the limit of {MAX_SNAPSHOTS}")
        }
        Kind::SnapshotTableTooBig { overhanging } => {
            write!(text, "its last {overhanging} entries are over the limit of 64 MiB")
        }
        Kind::SnapshotExtraTooLarge(bytes) => {
            write!(text, "{bytes} bytes of extra data are over the limit of {MAX_EXTRA_BYTES}")
        }
        Kind::SnapshotIdTwice(id) => write!(text, "another snapshot has the id {id} too"),
        Kind::SnapshotL1TooSmall { entries, needed } => {
            write!(text, "its L1 table has {entries} entries where its disk needs {needed}")
        }
        Kind::BitmapEntry { name, problem } => write!(text, "{name}: {problem}"),
        Kind::BitmapTable { name, entries } => {
            let noun = if *entries == 1 { "entry" } else { "entries" };
            write!(text, "{name}: {entries} damaged {noun} in its table")
        }
        Kind::BitmapInUse { name } => {
            write!(text, "{name}: it was left in use, so that its bits are not known")
        }
        Kind::Dirty => write!(text, "the dirty bit is set: refcounts may be stale"),
        Kind::MarkedCorrupt => write!(text, "the corrupt bit is set"),
        other => return words_of_tables(other),
    };
    text
}

/// What is wrong with tables and with what they refer to.
fn words_of_tables(kind: &Kind) -> String {
    let mut text = String::new();
    let at = |offset: &HostOffset| format!("{:#x}", offset.get());
    let _ = match kind {
        Kind::L1TablesOverlap => write!(text, "overlaps other L1 tables; it was not read"),
        Kind::L2ZeroReserved(entry) => {
            write!(text, "extended entry with the reserved zero flag set: {entry:x}")
        }
        Kind::L2ZeroInVersion2(entry) => {
            write!(text, "entry with a zero flag, which version 2 does not have: {entry:x}")
        }
        Kind::CompressedOverlap { offset, .. } => {
            write!(text, "compressed data at {} overlaps other compressed data", at(offset))
        }
        Kind::DataFileOffset(offset) => {
            write!(text, "offset {} in the external data file is not the guest's", at(offset))
        }
        Kind::Overlap { owner, other, .. } => {
            let other = other.map_or("guest data", region_text);
            write!(text, "{} and {other} use the same clusters", region_text(*owner))
        }
        Kind::L2TableTwice { table, .. } => {
            write!(text, "the L2 table at {} is used at another guest position too", at(table))
        }
        Kind::SharedData => write!(text, "several guest positions use the same clusters"),
        Kind::StillShared => {
            write!(text, "several guest positions use the same clusters; one of them lost its own")
        }
        Kind::CutOff { owner, bytes } => {
            let noun = if *bytes == 1 { "byte is" } else { "bytes are" };
            let owner = region_text(*owner);
            write!(text, "the file ends before {owner} does: {bytes} {noun} missing")
        }
        Kind::CountedBeyondEnd => write!(text, "counted as used past the end of the file"),
        other => return words_of_loss(other),
    };
    text
}

/// What may be lost.
fn words_of_loss(kind: &Kind) -> String {
    let mut text = String::new();
    let _ = match kind {
        Kind::OrphanTable(orphan) => write!(text, "{}", orphan_text(orphan)),
        Kind::BlankTable { what, clusters } => {
            let hold = if *clusters == 1 { "leaked cluster holds" } else { "leaked clusters hold" };
            write!(
                text,
                "the {what} is blank, while {clusters} {hold} data: its entries may be lost"
            )
        }
        Kind::SnapshotBlank => {
            write!(text, "the entry's id is not text: the table was overwritten")
        }
        Kind::SnapshotsUncounted(count) => {
            write!(
                text,
                "the header counts {count} snapshots, and another entry follows the last one"
            )
        }
        Kind::Unaccounted { clusters, entries, more } => {
            write!(text, "{}", unaccounted_text(*clusters, entries, *more))
        }
        other => return words_of_reading(other),
    };
    text
}

/// What was met on reading the metadata, and on reading everything else too.
fn words_of_reading(kind: &Kind) -> String {
    let mut text = String::new();
    let at = |offset: &HostOffset| format!("{:#x}", offset.get());
    let _ = match kind {
        Kind::Unreadable { what, offset, error } => {
            write!(text, "could not read the {what} at {}: {error}", at(offset))
        }
        Kind::InFlux(code) => {
            write!(text, "{code}: not decided, since the image is in use")
        }
        Kind::CompressedData { offset, problem } => {
            write!(text, "compressed data at {} {problem}", at(offset))
        }
        Kind::DataUnreadable { offset, external, error } => {
            let file = if *external { " in the external data file" } else { "" };
            write!(text, "could not read guest data at {}{file}: {error}", at(offset))
        }
        Kind::DataBeyondEnd(offset) => {
            write!(text, "guest data at {} is past the end of the external data file", at(offset))
        }
        Kind::DataFile { problem, .. } => write!(text, "external data file: {problem}"),
        Kind::BackingFile { problem, .. } => write!(text, "backing file: {problem}"),
        Kind::BitmapData { name, problem } => write!(text, "{name}: {problem}"),
        Kind::NotOpened(what) => write!(text, "{what} was not opened, since the policy denies it"),
        Kind::NoDigest { reason, .. } => write!(text, "no digest: {reason}"),
        other => write!(text, "{other:?}"),
    };
    text
}

/// Which damaged places may have pointed to leaked clusters.
fn unaccounted_text(clusters: u64, entries: &[Place], more: u64) -> String {
    let mut places: Vec<String> = entries.iter().map(|&place| place_text(place)).collect();
    places.dedup();
    let noun = if clusters == 1 { "leaked cluster" } else { "leaked clusters" };
    let rest = if more > 0 { format!(" or {more} more") } else { String::new() };
    format!(
        "{clusters} {noun} may be what a damaged pointer referred to: {}{rest}",
        places.join(", ")
    )
}

/// What an orphan holds and where it may belong.
fn orphan_text(orphan: &Orphan) -> String {
    let slots: Vec<String> =
        orphan.slots.iter().map(|&(source, index)| place_text(Place::L1(source, index))).collect();
    let owners = match (slots.join(", "), orphan.more_slots) {
        (named, 0) if named.is_empty() => "an L1 entry past the end of the virtual disk".to_owned(),
        (named, 0) => named,
        (named, more) if named.is_empty() => format!("any of {more} L1 entries"),
        (named, more) => format!("{named} or {more} more"),
    };
    format!(
        "an L2 table that no L1 entry points to maps {} {} of possible data; it can belong to \
         {owners}",
        orphan.entries,
        if orphan.entries == 1 { "cluster" } else { "clusters" }
    )
}

/// The name of a metadata structure.
pub const fn region_text(kind: RegionKind) -> &'static str {
    match kind {
        RegionKind::Header => "the header",
        RegionKind::L1Table(Source::Active) => "the active L1 table",
        RegionKind::L1Table(Source::Snapshot(_)) => "a snapshot's L1 table",
        RegionKind::L2Table => "an L2 table",
        RegionKind::SnapshotTable => "the snapshot table",
        RegionKind::Reftable => "the refcount table",
        RegionKind::Refblock => "a refcount block",
        RegionKind::CryptoHeader => "the encryption header",
        RegionKind::BitmapDirectory => "the bitmap directory",
        RegionKind::BitmapTable(_) => "a bitmap table",
        RegionKind::BitmapData(_) => "bitmap data",
    }
}

/// Where something was found, in words.
pub fn place_text(place: Place) -> String {
    let of = |source: Source| match source {
        Source::Active => String::new(),
        Source::Snapshot(index) => format!(" of snapshot table entry {index}"),
    };
    match place {
        Place::Header(offset) => format!("header offset {offset}"),
        Place::SnapshotTable => "snapshot table".into(),
        Place::Snapshot(index) => format!("snapshot table entry {index}"),
        Place::L1Table(source) => format!("L1 table{}", of(source)),
        Place::L1(source, index) => format!("L1 entry {index}{}", of(source)),
        Place::L2(source, l1, l2) => format!("L2 entry {l2} below L1 entry {l1}{}", of(source)),
        Place::Reftable => "refcount table".into(),
        Place::Refblock(index) => format!("refcount table entry {index}"),
        Place::Clusters(first, count) if count.get() == 1 => format!("cluster {first}"),
        Place::Clusters(first, count) => {
            format!("clusters {first} to {}", first.get() + count.get() - 1)
        }
        Place::CryptoHeader => "encryption header".into(),
        Place::BitmapDirectory => "bitmap directory".into(),
        Place::Bitmap(index) => format!("bitmap directory entry {index}"),
        Place::Disk(source) => format!("disk{}", of(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ClusterCount, HostCluster};

    #[test]
    fn a_run_of_leaks_is_a_line_for_each_cluster() {
        let place = Place::Clusters(HostCluster::new(5), ClusterCount::new(2));
        let finding = Finding::new(Kind::Count { stored: 1, referenced: 0 }, place);
        assert_eq!(finding.line_count(), 2);
        assert_eq!(finding.line(0, Verb::Tell), "Leaked cluster 5 refcount=1 reference=0");
        assert_eq!(finding.line(1, Verb::Repair), "Repairing cluster 6 refcount=1 reference=0");
    }

    #[test]
    fn a_count_that_is_too_low_is_an_error() {
        let place = Place::Clusters(HostCluster::new(5), ClusterCount::new(1));
        let finding = Finding::new(Kind::Count { stored: 0, referenced: 1 }, place);
        assert_eq!(finding.line(0, Verb::Tell), "ERROR cluster 5 refcount=0 reference=1");
    }
}
