//! How long the file of a new image will be, before it is made.

use crate::create::{self, CreateOptions};
use crate::crypt::luks::LuksOptions;
use crate::disk::Disk;
use crate::error::Result;
use crate::format::bitmap::BitmapEntry;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::{ClusterCount, Geometry};
use crate::image::Preallocation;

/// What is measured for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TargetFormat<'a> {
    /// A raw image.
    Raw,
    /// A qcow2 image with these options; its size is that of what is measured.
    Qcow2(&'a CreateOptions),
    /// The same, encrypted like this.
    EncryptedQcow2(&'a CreateOptions, LuksOptions),
    /// A LUKS image.
    Luks(LuksOptions),
}

impl<'a> TargetFormat<'a> {
    /// The options of a qcow2 image, and the bytes of its encryption header.
    fn of_qcow2(&self) -> Option<(&'a CreateOptions, u64)> {
        match self {
            Self::Qcow2(options) => Some((options, 0)),
            Self::EncryptedQcow2(options, luks) => Some((options, luks.header_bytes())),
            Self::Raw | Self::Luks(_) => None,
        }
    }

    /// What a file has before its disk, where that is all.
    fn header_bytes(&self) -> u64 {
        match self {
            Self::Luks(luks) => luks.header_bytes(),
            _ => 0,
        }
    }
}

/// Lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measure {
    /// Of the new file, with all data that there is now, at most.
    pub required: u64,
    /// Of the new file, once a guest has written everything.
    pub fully_allocated: u64,
    /// What copies of the persistent bitmaps add; `None` where copies are impossible.
    pub bitmaps: Option<u64>,
}

/// Measures a new image of `size` bytes without data.
pub fn measure_size(size: u64, format: &TargetFormat<'_>) -> Result<Measure> {
    let Some((options, crypto_bytes)) = format.of_qcow2() else {
        let bytes = format.header_bytes().saturating_add(create::in_sectors(size)?);
        return Ok(Measure { required: bytes, fully_allocated: bytes, bitmaps: None });
    };
    let options = CreateOptions { size, ..options.clone() };
    of_qcow2(&options, crypto_bytes, ClusterCount::new(0))
}

/// Measures an image with the content of a disk: what it copies, and what is preallocated.
pub fn measure_disk(disk: &Disk, format: &TargetFormat<'_>) -> Result<Measure> {
    let size = disk.size()?;
    let Some((options, crypto_bytes)) = format.of_qcow2() else {
        return measure_size(size, format);
    };
    let options = CreateOptions { size, ..options.clone() };
    let geometry = create::geometry(&options)?;
    let data = match options.backing {
        // What the new backing file has is not known.
        Some(_) => geometry.guest_clusters(),
        None => data_clusters(disk, &geometry)?,
    };
    let bitmaps = match disk {
        Disk::Qcow2(image) if options.version == create::Version::V3 => {
            (image.header()?.version >= 3).then(|| image.stored_bitmaps()).transpose()?
        }
        _ => None,
    };
    let bitmaps = bitmaps.map(|entries| bitmap_bytes(&entries, &geometry));
    Ok(Measure { bitmaps, ..of_qcow2(&options, crypto_bytes, data)? })
}

/// How many clusters of the new image have data in them.
fn data_clusters(disk: &Disk, geometry: &Geometry) -> Result<ClusterCount> {
    let size = geometry.cluster_bytes();
    // The first cluster that is not counted yet.
    let (mut count, mut next) = (0, 0);
    for extent in disk.extents(0..u64::MAX) {
        let extent = extent?;
        if extent.zero {
            continue;
        }
        let (first, end) = ((extent.start / size).max(next), extent.end().div_ceil(size));
        count += end.saturating_sub(first);
        next = next.max(end);
    }
    Ok(ClusterCount::new(count))
}

fn of_qcow2(options: &CreateOptions, crypto_bytes: u64, data: ClusterCount) -> Result<Measure> {
    let geometry = create::geometry(options)?;
    let all = geometry.guest_clusters();
    let tables = geometry.l1_entries_for(geometry.virtual_size());
    let l1 = geometry.clusters_for(create::checked_l1_bytes(&geometry)?);
    let crypto = geometry.clusters_for(crypto_bytes);
    let others = ClusterCount::new(1) + l1 + crypto + ClusterCount::new(tables) + all;
    let (reftable, refblocks) = create::counting_clusters(&geometry, others);
    let fully_allocated = geometry.bytes_of(others + reftable + refblocks);
    let data = match options.preallocation {
        Preallocation::Falloc | Preallocation::Full => all,
        Preallocation::Off | Preallocation::Metadata => data,
    };
    let left_out = geometry.bytes_of(all) - geometry.bytes_of(data);
    Ok(Measure { required: fully_allocated - left_out, fully_allocated, bitmaps: None })
}

/// What copies of these bitmaps take, with no bit clear.
fn bitmap_bytes(entries: &[BitmapEntry], geometry: &Geometry) -> u64 {
    let in_clusters = |bytes: u64| geometry.bytes_of(geometry.clusters_for(bytes));
    let kept = entries.iter().filter(|entry| !entry.is_in_use());
    let (mut bytes, mut directory) = (0u64, 0u64);
    for entry in kept {
        let bits = entry.bits_for(geometry.virtual_size());
        let data = geometry.clusters_for(bits.div_ceil(8));
        bytes += geometry.bytes_of(data) + in_clusters(data.get() * TABLE_ENTRY_BYTES);
        let bare = BitmapEntry { extra: Vec::new(), ..entry.clone() };
        directory += bare.entry_bytes();
    }
    bytes + in_clusters(directory)
}
