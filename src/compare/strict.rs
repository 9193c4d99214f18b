//! What the images of two disks record of each range.

use super::outcome::{Failure, Phase, Side};
use crate::disk::{Disk, Extent, ExtentKind, Extents};
use crate::error::Result;
use crate::image::{Backing, Image};

/// QEMU looks at most at this many bytes of an L2 table at once, and reports a range only up to
/// their end.
const SLICE_BYTES: u64 = 4096;

/// What is compared of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Status {
    data: bool,
    zero: bool,
    allocated: bool,
    compressed: bool,
    has_offset: bool,
    /// Whether it reaches the end of the disk.
    last: bool,
}

/// The guest offset of the first range of which the images record other things.
pub(super) fn first_difference(
    first: &Disk,
    second: &Disk,
    size: u64,
) -> std::result::Result<Option<u64>, Failure> {
    let mut sides = [(first, Side::First), (second, Side::Second)]
        .map(|(disk, side)| (Statuses { disk, extents: disk.extents(0..size), size }, side));
    let mut at = 0;
    while at < size {
        let mut found = [None, None];
        for ((statuses, side), found) in sides.iter_mut().zip(&mut found) {
            let status = statuses.at(at);
            let (side, phase) = (*side, Phase::Mapping);
            *found = Some(status.map_err(|error| Failure { side, phase, offset: at, error })?);
        }
        let [Some((first, first_bytes)), Some((second, second_bytes))] = found else { break };
        if first != second {
            return Ok(Some(at));
        }
        at += first_bytes.min(second_bytes).max(1);
    }
    Ok(None)
}

struct Statuses<'a> {
    disk: &'a Disk,
    extents: Extents<'a>,
    size: u64,
}

impl Statuses<'_> {
    /// What is recorded from `at` on, and for how many bytes.
    fn at(&mut self, at: u64) -> Result<(Status, u64)> {
        let Some(extent) = self.extents.at(at)? else {
            return Ok((Status::of(&Extent::nothing(at), true), self.size - at));
        };
        let images = self.images(extent.depth);
        let slices = images.iter().map(|image| {
            let geometry = image.geometry();
            let table = geometry.cluster_bytes();
            let slice = geometry.bytes_per_l2_table() / (table / SLICE_BYTES.min(table));
            (at / slice + 1).saturating_mul(slice)
        });
        let end = slices.min().unwrap_or(u64::MAX).min(extent.end());
        Ok((Status::of(&extent, end >= self.size), end - at))
    }

    /// The images that are asked: the first, and so many below it.
    fn images(&self, depth: usize) -> Vec<&Image> {
        let mut images = Vec::new();
        let mut next = match self.disk {
            Disk::Raw(_) => None,
            Disk::Qcow2(image) => Some(image.as_ref()),
        };
        while let Some(image) = next {
            images.push(image);
            next = match image.backing() {
                Some(Backing::Qcow2(below)) if images.len() <= depth => Some(below),
                _ => None,
            };
        }
        images
    }
}

impl Status {
    fn of(extent: &Extent<'_>, last: bool) -> Self {
        // What is past the end of a backing file counts as recorded by that one.
        let is_past = extent.left > extent.depth;
        Self {
            data: extent.kind == ExtentKind::Data,
            zero: extent.zero,
            allocated: is_past || extent.kind != ExtentKind::Unallocated,
            compressed: extent.compressed,
            has_offset: extent.host.is_some() && !is_past,
            last,
        }
    }
}
