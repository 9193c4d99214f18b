//! Writing a new image: large pieces in file order, the header last.

use super::blueprint::Run;
use super::new_image::{NewImage, round_up};
use crate::crypt::luks::NewHeader;
use crate::error::{Error, Result};
use crate::format::encode_entries;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::{COPIED, L1Entry};
use crate::format::refcount::count_once;
use crate::format::{ClusterCount, Geometry, HostOffset};
use crate::image::Preallocation;
use crate::progress::Progress;
use crate::sector::{SECTOR, SECTOR_LEN};
use crate::storage::{Capacity, Storage};

/// Bytes that are written at once.
const PIECE_BYTES: u64 = 1 << 20;
/// Bytes of the first block of a raw disk.
const FIRST_BLOCK_BYTES: usize = 4096;

impl NewImage {
    /// Writes the image over whatever the storage has, and its data file where it has one. Once
    /// this has begun, the old content is lost.
    pub fn write(
        &self,
        storage: &dyn Storage,
        data_file: Option<&dyn Storage>,
        progress: &dyn Progress,
    ) -> Result<()> {
        if self.external != data_file.is_some() {
            return Err(Error::Refused("the data file has to be given where there is one".into()));
        }
        self.preallocation.require_on(data_file.unwrap_or(storage))?;
        need_room(storage, self.blueprint.file_bytes(&self.geometry), "the new image")?;
        if let Some(data_file) = data_file {
            raw(data_file, self.geometry.virtual_size(), self.preallocation, progress)?;
        }
        image(self, storage, progress)
    }
}

/// Writes a raw image: nothing but `size` bytes, rounded up to sectors, that read as zeroes.
pub fn create_raw(
    storage: &dyn Storage,
    size: u64,
    preallocation: Preallocation,
    progress: &dyn Progress,
) -> Result<()> {
    preallocation.require_on_raw(storage)?;
    raw(storage, round_up(size)?, preallocation, progress)
}

/// Writes a LUKS image: a header, and what `size` bytes, rounded up to sectors, that are not
/// encrypted are decrypted to.
pub fn create_luks(
    storage: &dyn Storage,
    size: u64,
    header: &NewHeader,
    preallocation: Preallocation,
    progress: &dyn Progress,
) -> Result<()> {
    begin_luks(storage, size, header, preallocation, progress)?;
    header_last(storage, header.bytes())
}

/// Makes what has the payload of a LUKS image. It is not an image before it has its header.
pub fn begin_luks(
    storage: &dyn Storage,
    size: u64,
    header: &NewHeader,
    preallocation: Preallocation,
    progress: &dyn Progress,
) -> Result<()> {
    preallocation.require_on_raw(storage)?;
    let payload = HostOffset::new(header.payload_offset());
    let end = payload.saturating_add(round_up(size)?).get();
    need_room(storage, end, "the new image")?;
    empty(storage, payload.get())?;
    if storage.capacity() == Capacity::Growable {
        storage.set_len(end).map_err(|e| Error::io("set the length", end, e))?;
    }
    fill(storage, payload, end - payload.get(), preallocation, progress)
}

fn need_room(storage: &dyn Storage, needed: u64, purpose: &str) -> Result<()> {
    match storage.capacity() {
        Capacity::Fixed(bytes) if bytes < needed => {
            Err(Error::NoRoom { needed, purpose: purpose.into() })
        }
        _ => Ok(()),
    }
}

/// Writes everything but the header, flushes, and then the header.
pub fn image(new: &NewImage, storage: &dyn Storage, progress: &dyn Progress) -> Result<()> {
    let geometry = &new.geometry;
    let blueprint = &new.blueprint;
    empty(storage, geometry.cluster_bytes())?;
    let tables = blueprint.reftable.count
        + blueprint.refblocks.count
        + blueprint.l1.count
        + blueprint.l2.count;
    progress.stage("writing tables", geometry.bytes_of(tables));
    let length = blueprint.file_bytes(geometry);
    if storage.capacity() == Capacity::Growable {
        storage.set_len(length).map_err(|e| Error::io("set the length", length, e))?;
        // QEMU looks for holes below images that have less space than clusters in use: short tables
        // are not holes. It does not matter where the space is missing.
        let space = match blueprint.crypto.count.get() {
            0 => blueprint.l1.first,
            _ => blueprint.crypto.end(),
        };
        let _ = storage.allocate(0, geometry.offset_of(space).get());
    }
    reftable(new, storage)?;
    refblocks(new, storage, progress)?;
    l1_table(new, storage)?;
    if let Some(header) = new.encryption() {
        let at = geometry.offset_of(blueprint.crypto.first);
        put(storage, at, header.bytes(), "the encryption header")?;
    }
    l2_tables(new, storage, progress)?;
    if !new.external {
        let bytes = geometry.bytes_of(blueprint.data.count);
        fill(
            storage,
            geometry.offset_of(blueprint.data.first),
            bytes,
            new.preallocation,
            progress,
        )?;
    }
    header_last(storage, &new.header)
}

/// Writes the header once all else is on stable storage: what a failure leaves before is not an
/// image.
pub fn header_last(storage: &dyn Storage, header: &[u8]) -> Result<()> {
    // A sector is written whole or not at all, so the header cannot be there without its names.
    let (first_sector, rest) = header.split_at(header.len().min(SECTOR_LEN));
    put(storage, HostOffset::new(SECTOR), rest, "the header's extensions")?;
    sync(storage)?;
    put(storage, HostOffset::new(0), first_sector, "the header")?;
    sync(storage)
}

/// Writes `size` bytes that read as zeroes.
pub fn raw(
    storage: &dyn Storage,
    size: u64,
    preallocation: Preallocation,
    progress: &dyn Progress,
) -> Result<()> {
    need_room(storage, size, "the disk")?;
    match storage.capacity() {
        Capacity::Growable => {
            cut_off(storage).map_err(|e| Error::file("empty the file", e))?;
            storage.set_len(size).map_err(|e| Error::io("set the length", size, e))?;
        }
        Capacity::Fixed(_) => {}
    }
    fill(storage, HostOffset::new(0), size, preallocation, progress)?;
    // Of a file: where the first block is not a hole, reading it shows QEMU which alignment the
    // file system needs. Of a device, which otherwise keeps its content: what it held before could
    // be an image, and would look like one.
    let first = match storage.capacity() {
        Capacity::Growable => size,
        Capacity::Fixed(bytes) => bytes,
    };
    let first = usize::try_from(first).unwrap_or(usize::MAX).min(FIRST_BLOCK_BYTES);
    put(storage, HostOffset::new(0), &vec![0; first], "the first block")?;
    sync(storage)
}

/// Makes a file empty. One that is empty stays as it is: some file systems take cutting it off,
/// even at 0, for the beginning of a replacement, and write everything out when it is closed.
pub fn cut_off(storage: &dyn Storage) -> std::io::Result<()> {
    if storage.len()? > 0 { storage.set_len(0) } else { Ok(()) }
}

/// Makes sure that what was there before no longer looks like an image.
fn empty(storage: &dyn Storage, cluster_bytes: u64) -> Result<()> {
    let result = match storage.capacity() {
        Capacity::Growable => cut_off(storage),
        Capacity::Fixed(_) => storage.write_zeroes(0, cluster_bytes),
    };
    result.map_err(|e| Error::file("empty the file", e))?;
    sync(storage)
}

/// Flushes a new image.
pub fn sync(storage: &dyn Storage) -> Result<()> {
    storage.sync().map_err(|e| Error::file("flush the new image", e))
}

/// Writes a part of a new image, whose name is in the error.
pub fn put(storage: &dyn Storage, at: HostOffset, bytes: &[u8], what: &str) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    storage.write_at(at.get(), bytes).map_err(|e| Error::io(format!("write {what}"), at.get(), e))
}

/// `entries`, padded with zeroes to whole clusters where the storage has an old content.
fn padded(entries: &[u64], run: Run, geometry: &Geometry, storage: &dyn Storage) -> Vec<u8> {
    let mut bytes = encode_entries(entries);
    if let Capacity::Fixed(_) = storage.capacity() {
        let full = usize::try_from(geometry.bytes_of(run.count)).unwrap_or(bytes.len());
        bytes.resize(full.max(bytes.len()), 0);
    }
    bytes
}

fn reftable(new: &NewImage, storage: &dyn Storage) -> Result<()> {
    let geometry = &new.geometry;
    let blocks = new.blueprint.refblocks;
    let entries: Vec<u64> = (0..blocks.count.get())
        .map(|n| geometry.offset_of(blocks.first + ClusterCount::new(n)).get())
        .collect();
    let run = new.blueprint.reftable;
    let bytes = padded(&entries, run, geometry, storage);
    put(storage, geometry.offset_of(run.first), &bytes, "the refcount table")
}

/// Every cluster up to the last one has the count 1.
fn refblocks(new: &NewImage, storage: &dyn Storage, progress: &dyn Progress) -> Result<()> {
    let geometry = &new.geometry;
    let run = new.blueprint.refblocks;
    let order = geometry.refcount_order();
    let described = new.blueprint.end().get();
    let full_blocks = described / geometry.refblock_entries();
    let mut full = vec![0; geometry.cluster_len()];
    count_once(&mut full, order, 0..geometry.refblock_len());

    let at_once = (PIECE_BYTES / geometry.cluster_bytes()).max(1).min(full_blocks.max(1));
    let piece = full.repeat(usize::try_from(at_once).unwrap_or(1));
    let mut done = 0;
    while done < full_blocks {
        let count = at_once.min(full_blocks - done);
        let length = usize::try_from(count * geometry.cluster_bytes()).unwrap_or(piece.len());
        let at = geometry.offset_of(run.first + ClusterCount::new(done));
        put(storage, at, &piece[..length], "refcount blocks")?;
        progress.advance(length as u64);
        done += count;
    }
    if done < run.count.get() {
        let mut last = vec![0; geometry.cluster_len()];
        let rest = usize::try_from(described - full_blocks * geometry.refblock_entries());
        count_once(&mut last, order, 0..rest.unwrap_or(0));
        let at = geometry.offset_of(run.first + ClusterCount::new(done));
        put(storage, at, &last, "a refcount block")?;
        progress.advance(geometry.cluster_bytes());
    }
    Ok(())
}

fn l1_table(new: &NewImage, storage: &dyn Storage) -> Result<()> {
    let geometry = &new.geometry;
    let l2 = new.blueprint.l2;
    let entries: Vec<u64> = (0..u64::from(new.blueprint.l1_entries))
        .map(|n| match l2.count.get() {
            0 => 0,
            _ => L1Entry::new(geometry.offset_of(l2.first + ClusterCount::new(n)), true).0,
        })
        .collect();
    let run = new.blueprint.l1;
    let bytes = padded(&entries, run, geometry, storage);
    put(storage, geometry.offset_of(run.first), &bytes, "the L1 table")
}

/// Maps every guest cluster to its place: in order in the image, or at the guest's own
/// offset in an external data file.
fn l2_tables(new: &NewImage, storage: &dyn Storage, progress: &dyn Progress) -> Result<()> {
    let geometry = &new.geometry;
    let run = new.blueprint.l2;
    let first = if new.external { 0 } else { geometry.offset_of(new.blueprint.data.first).get() };
    let clusters = geometry.guest_clusters().get();
    let table_bytes = geometry.bytes_of(run.count);
    let entry_bytes = geometry.l2_entry_bytes() as u64;
    let step = if geometry.extended_l2() { 2 } else { 1 };
    let mut entries: Vec<u64> = Vec::new();
    let mut done = 0;
    while done < table_bytes {
        let piece = PIECE_BYTES.min(table_bytes - done);
        let (start, count) = (done / entry_bytes, piece / entry_bytes);
        entries.clear();
        entries.resize(usize::try_from(piece / TABLE_ENTRY_BYTES).unwrap_or(0), 0);
        let mapped = usize::try_from(clusters.saturating_sub(start).min(count)).unwrap_or(0);
        // Of an extended entry the second word stays 0: no subcluster is allocated yet.
        for (index, entry) in (start..).zip(entries.iter_mut().step_by(step).take(mapped)) {
            *entry = COPIED | (first + (index << geometry.cluster_bits()));
        }
        let at = geometry.offset_of(run.first).saturating_add(done);
        put(storage, at, &encode_entries(&entries), "L2 tables")?;
        progress.advance(piece);
        done += piece;
    }
    Ok(())
}

/// Allocates disk space for a range, or writes it, as requested.
fn fill(
    storage: &dyn Storage,
    at: HostOffset,
    bytes: u64,
    preallocation: Preallocation,
    progress: &dyn Progress,
) -> Result<()> {
    match preallocation {
        Preallocation::Off | Preallocation::Metadata => return Ok(()),
        Preallocation::Falloc => {
            progress.stage("reserving space", 0);
            return storage
                .allocate(at.get(), bytes)
                .map_err(|e| Error::io("reserve space on the disk", at.get(), e));
        }
        Preallocation::Full => {}
    }
    progress.stage("writing zeroes", bytes);
    let zeroes = vec![0; usize::try_from(PIECE_BYTES.min(bytes)).unwrap_or(0)];
    let mut done = 0;
    while done < bytes {
        let piece = PIECE_BYTES.min(bytes - done);
        let length = usize::try_from(piece).unwrap_or(zeroes.len());
        put(storage, at.saturating_add(done), &zeroes[..length], "zeroes")?;
        progress.advance(piece);
        done += piece;
    }
    Ok(())
}
