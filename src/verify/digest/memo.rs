//! Pieces that several disks of an image have in common: with BLAKE3 they are read and hashed once.
//!
//! The position of a piece's bytes is a few numbers; the same numbers are the same bytes, since
//! below all disks of an image is the same chain.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use blake3::hazmat::ChainingValue;

use crate::disk::Disk;
use crate::format::GuestOffset;
use crate::image::RunKind;

/// Pieces that are remembered: 512 GiB of a disk in pieces of 1 MiB.
const MAX_PIECES: usize = 1 << 19;

/// The positions of a piece's bytes, in short.
pub(super) type Place = [u8; 32];

/// What was hashed of the disks before.
#[derive(Debug, Default)]
pub(super) struct Memo(Mutex<HashMap<u64, (Place, ChainingValue)>>);

impl Memo {
    /// The root of a piece's subtree, if the same bytes were hashed for it before.
    pub(super) fn find(&self, start: u64, place: &Place) -> Option<ChainingValue> {
        let pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.get(&start).filter(|(known, _)| known == place).map(|&(_, root)| root)
    }

    /// Remembers a piece, in place of what the last disk had there.
    pub(super) fn keep(&self, start: u64, place: Place, root: ChainingValue) {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pieces.len() < MAX_PIECES || pieces.contains_key(&start) {
            pieces.insert(start, (place, root));
        }
    }
}

/// The positions of a piece's bytes; `None` where they are not known.
pub(super) fn place(disk: &Disk, start: u64, bytes: u64) -> Option<Place> {
    let Disk::Qcow2(image) = disk else { return None };
    let mut hasher = blake3::Hasher::new();
    let (mut at, end) = (start, start.checked_add(bytes)?);
    while at < end {
        let run = image.map(GuestOffset::new(at), end - at).ok()?;
        let (kind, host, length) = match run.kind {
            RunKind::Unallocated => (0u64, 0, 0),
            RunKind::Zero => (1, 0, 0),
            RunKind::Data(host) => (2, host.get(), 0),
            RunKind::Compressed(extent) => (3, extent.offset.get(), extent.bytes),
        };
        for number in [run.length, kind, host, length] {
            hasher.update(&number.to_be_bytes());
        }
        at += run.length;
    }
    Some(*hasher.finalize().as_bytes())
}
