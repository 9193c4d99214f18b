//! Which guest clusters of a damaged image can be read for sure, so that they must read the same after a repair.

use crate::support::images::bytes::{header, peek, snapshot_entries};
use crate::support::images::reader::{Cluster, Reader};

/// Fields of the header that define how all the rest is read.
const PLAIN: [&str; 6] =
    ["magic", "version", "cluster_bits", "size", "crypt_method", "refcount_order"];
/// Incompatible features that change nothing about where guest data is: dirty and corrupt.
const HARMLESS: u64 = 3;
/// No table of these images is longer.
const MOST_ENTRIES: u64 = 4096;
/// No image here has more snapshots.
const MOST_SNAPSHOTS: u64 = 4;

/// An image whose header means the same as the valid one's.
pub struct Readable<'a> {
    bytes: &'a [u8],
    reader: Reader<'a>,
}

impl<'a> Readable<'a> {
    /// The image, if its header still defines how it is read.
    pub fn of(bytes: &'a [u8], sound: &[u8]) -> Option<Self> {
        let version = header(sound, "version");
        let fields = if version < 3 { &PLAIN[..5] } else { &PLAIN[..] };
        if bytes.len() < 112 || fields.iter().any(|f| header(bytes, f) != header(sound, f)) {
            return None;
        }
        let features = |image| header(image, "incompatible_features") & !HARMLESS;
        if version >= 3 && features(bytes) != features(sound) {
            return None;
        }
        let roots = ["l1_table_offset", "refcount_table_offset", "snapshots_offset"];
        let near = roots.iter().all(|root| header(bytes, root) < 1 << 40);
        let short = header(bytes, "l1_size") <= MOST_ENTRIES
            && header(bytes, "nb_snapshots") == header(sound, "nb_snapshots")
            && header(bytes, "nb_snapshots") <= MOST_SNAPSHOTS;
        (near && short && plain_snapshots(bytes, sound))
            .then(|| Self { bytes, reader: Reader::new(bytes) })
    }
}

/// Whether the snapshot table is where it was and defines the same disks.
fn plain_snapshots(bytes: &[u8], sound: &[u8]) -> bool {
    let mut at = header(sound, "snapshots_offset") as usize;
    if header(bytes, "snapshots_offset") as usize != at {
        return header(sound, "nb_snapshots") == 0;
    }
    for _ in 0..header(sound, "nb_snapshots") {
        let names = peek(sound, at + 12, 2) + peek(sound, at + 14, 2);
        let end = at + 40 + peek(sound, at + 36, 4) as usize;
        if bytes.get(at..end) != sound.get(at..end) {
            return false;
        }
        at = (end + names as usize).next_multiple_of(8);
    }
    true
}

/// The image with the L1 tables of the valid one: lost L2 tables in their places, with what is damaged in them.
fn with_l1_tables(bytes: &[u8], sound: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let active = [(header(sound, "l1_table_offset"), header(sound, "l1_size"))];
    let snapshots = snapshot_entries(sound);
    let snapshots = snapshots.iter().map(|&at| (peek(sound, at, 8), peek(sound, at + 8, 4)));
    for (table, entries) in active.into_iter().chain(snapshots) {
        let range = table as usize..(table + 8 * entries) as usize;
        if let Some(place) = bytes.get_mut(range.clone()) {
            place.copy_from_slice(&sound[range]);
        }
    }
    bytes[..112].copy_from_slice(&sound[..112]);
    bytes
}

/// A guest cluster that could be read and reads otherwise now: neither as before the repair, nor as before the damage,
/// nor as it would with all L2 tables in their places.
pub fn lost(before: &Readable, after: &Readable, sound: &[u8]) -> Option<String> {
    let in_place = with_l1_tables(before.bytes, sound);
    let (in_place, sound) = (Reader::new(&in_place), Reader::new(sound));
    let (in_place, sound) = (in_place.views(), sound.views());
    let unsure = before.reader.unsure();
    let (old, new) = (before.reader.views(), after.reader.views());
    for (disk, (old, new)) in old.iter().zip(new).enumerate() {
        let same = |guest: usize, was: &Cluster| {
            was.is_none()
                || new.get(guest) == Some(was)
                || [&sound, &in_place]
                    .iter()
                    .any(|other| other.get(disk).is_some_and(|o| o.get(guest) == new.get(guest)))
                || unsure.contains(&(disk, guest as u64))
        };
        if let Some((guest, _)) = old.iter().enumerate().find(|(guest, was)| !same(*guest, was)) {
            return Some(format!("disk {disk} reads otherwise at guest cluster {guest}"));
        }
    }
    None
}
