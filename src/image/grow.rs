//! A longer disk: what is new of it is mapped where that is asked for, or where a backing file would show through.
//!
//! New L2 tables and the L1 table are built beside the old ones; one write to the header switches to them
//! and to the new size, so that no crash leaves entries beyond the disk's end.

use crate::error::{Error, Result};
use crate::format::feature::autoclear;
use crate::format::header::HeaderField;
use crate::format::l1::{COPIED, L1Entry};
use crate::format::l2::L2Entry;
use crate::format::{ClusterCount, GuestCluster, encode_entries};
use crate::storage::{Capacity, Storage};

use super::alloc::Allocation;
use super::meta::Meta;
use super::ordering::Side;
use super::regions::Owner;
use super::{Backing, ClusterRun, Image};

/// Zeroes that are written at once.
const PIECE_BYTES: u64 = 1 << 20;

/// What a new part of a disk has from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preallocation {
    /// Nothing.
    #[default]
    Off,
    /// Everything is mapped; no room is taken on the disk.
    Metadata,
    /// Everything is mapped, and has room on the disk.
    Falloc,
    /// Everything is mapped and written with zeroes.
    Full,
}

impl Preallocation {
    /// An error where the storage cannot be given space ahead: a block device has all its space already. qemu-img refuses
    /// this too, and programs that match its words choose another mode then.
    pub(crate) fn require_on(self, storage: &dyn Storage) -> Result<()> {
        let mode = match (self, storage.capacity()) {
            (Self::Falloc, Capacity::Fixed(_)) => "falloc",
            (Self::Full, Capacity::Fixed(_)) => "full",
            _ => return Ok(()),
        };
        Err(Error::Unsupported(format!(
            "Unsupported preallocation mode '{mode}': a block device has all its space already"
        )))
    }

    /// An error where a raw image cannot have this.
    pub(crate) fn require_on_raw(self, storage: &dyn Storage) -> Result<()> {
        if self == Self::Metadata {
            let why = "Unsupported preallocation mode 'metadata': a raw image has no metadata";
            return Err(Error::Unsupported(why.into()));
        }
        self.require_on(storage)
    }
}

/// What the entries of the new part become.
struct Fill {
    /// The first cluster that is wholly new.
    first: GuestCluster,
    /// The cluster behind the last one to be mapped.
    end: GuestCluster,
    how: Preallocation,
    /// From here on an external data file is known to hold nothing.
    nothing_from: u64,
}

/// What was allocated for the new part, and the tables that it replaces.
#[derive(Default)]
struct Built {
    allocations: Vec<Allocation>,
    replaced: Vec<ClusterRun>,
}

impl Image {
    /// Makes the disk longer; what is new reads as zeroes, also where the backing file reaches there.
    pub(crate) fn grow(&mut self, size: u64, preallocation: Preallocation) -> Result<()> {
        let data = self.data_file.as_ref().unwrap_or(&self.file);
        preallocation.require_on(data.as_ref())?;
        let old = self.virtual_size();
        let hidden = match &self.backing {
            Some(backing) => Backing::virtual_size(backing)?.min(size),
            None => 0,
        };
        let header = self.header()?;
        let raw = header.autoclear & autoclear::DATA_FILE_RAW != 0;
        let mut how = preallocation;
        let mut nothing_from = 0;
        if let Some(data) = &self.data_file {
            nothing_from = lengthen(data.as_ref(), old, size, raw)?;
            self.meta()?.ordering.disk.note_data();
            if raw && how == Preallocation::Off {
                how = Preallocation::Metadata;
            }
        }
        let end = if how == Preallocation::Off { hidden.max(old) } else { size };
        if header.version < 3 && how == Preallocation::Off && hidden > old {
            // Version 2 has no entries for zeroes: clusters that are holes read as such.
            how = Preallocation::Metadata;
        }
        let geometry = self.geometry;
        let clusters = |bytes| GuestCluster::new(0) + geometry.clusters_for(bytes);
        let fill = Fill { first: clusters(old), end: clusters(end), how, nothing_from };
        self.meta.get_mut().map_err(|_| super::panicked())?.grow(size, &fill)?;
        self.geometry = self.geometry.with_virtual_size(size);
        Ok(())
    }

    /// Makes an external data file end where the disk does.
    pub(super) fn cut_data_file(&self, size: u64) -> Result<()> {
        let Some(data) = &self.data_file else { return Ok(()) };
        if data.capacity() == Capacity::Growable {
            data.set_len(size).map_err(|e| Error::io("shorten the data file", size, e))?;
            self.meta()?.ordering.disk.note_data();
        }
        Ok(())
    }
}

/// Makes a data file as long as the new disk. Beyond the old one's end it has zeroes, unless the file is the disk by
/// itself (`raw`): then what it has there already is the guest's. Returns from where on it holds nothing.
fn lengthen(data: &dyn Storage, old: u64, size: u64, raw: bool) -> Result<u64> {
    let failed = |e| Error::io("lengthen the data file", old, e);
    if matches!(data.capacity(), Capacity::Fixed(bytes) if bytes < size) {
        let needed = size - old;
        return Err(Error::NoRoom { needed, purpose: "guest data in the data file".into() });
    }
    let length = data.len().map_err(failed)?;
    if length > old && !raw {
        data.write_zeroes(old, length.min(size) - old).map_err(failed)?;
    }
    if length < size {
        data.set_len(size).map_err(failed)?;
    }
    Ok(if raw { old.max(length) } else { old })
}

impl Meta {
    fn grow(&mut self, size: u64, fill: &Fill) -> Result<()> {
        let needed = usize::try_from(self.geometry.l1_entries_for(size)).unwrap_or(usize::MAX);
        self.prepare_write()?;
        if fill.first >= fill.end && needed <= self.l1_entries().len() {
            let bitmaps = self.resized_bitmaps(size)?;
            let outcome = self.switch_header(&[(HeaderField::Size, size)], bitmaps.as_ref());
            self.finish_bitmaps(bitmaps, outcome)?;
            self.set_size(size);
            self.ordering.disk.sync()?;
            return self.flush(true);
        }
        self.flush(true)?;
        let mut l1 = self.l1_entries().to_vec();
        l1.resize(needed.max(l1.len()), 0);
        let mut built = Built::default();
        let outcome = self
            .map_new_part(&mut l1, fill, &mut built)
            .and_then(|()| self.resized_bitmaps(size))
            .and_then(|bitmaps| self.switch_active(l1, size, bitmaps));
        for allocation in built.allocations {
            match outcome {
                Ok(()) => drop(allocation.commit()),
                // Failing to give back leaks, at worst; the first error is the one to tell.
                Err(_) => drop(allocation.release(self)),
            }
        }
        outcome?;
        built.replaced.into_iter().for_each(|run| self.free_later(run));
        self.flush(true)
    }

    /// Builds the L2 tables that map the new part, and notes them in `l1`.
    fn map_new_part(&mut self, l1: &mut [u64], fill: &Fill, built: &mut Built) -> Result<()> {
        let per_table = self.geometry.bytes_per_l2_table() / self.geometry.cluster_bytes();
        let width = self.geometry.l2_entry_bytes();
        let mut next = fill.first.get();
        while next < fill.end.get() {
            let table = next / per_table;
            let stop = fill.end.get().min((table + 1) * per_table);
            let slot = usize::try_from(table).unwrap_or(usize::MAX);
            let old = L1Entry(l1[slot]).offset();
            let mut bytes = match old.get() {
                0 => vec![0; self.geometry.cluster_len()],
                _ => self.ordering.table(Side::Mappings, old)?.to_vec(),
            };
            let start = usize::try_from(next % per_table).unwrap_or(usize::MAX) * width;
            let entries = self.new_entries(next, stop, fill, built)?;
            let entries = encode_entries(&entries);
            bytes[start..start + entries.len()].copy_from_slice(&entries);
            let allocation = self.write_aside(Owner::L2, &bytes, "an L2 table")?;
            l1[slot] = L1Entry::new(self.geometry.offset_of(allocation.run().first), true).0;
            built.allocations.push(allocation);
            if old.get() != 0 {
                built.replaced.push(ClusterRun::one(self.geometry.cluster_floor(old)));
            }
            next = stop;
        }
        Ok(())
    }

    /// The entries, in words, of guest clusters from `next` up to `stop`.
    fn new_entries(
        &mut self,
        mut next: u64,
        stop: u64,
        fill: &Fill,
        built: &mut Built,
    ) -> Result<Vec<u64>> {
        let extended = self.geometry.extended_l2();
        let mut words = Vec::new();
        let mut push = |entry: L2Entry| {
            words.push(entry.bits);
            words.extend(extended.then_some(entry.bitmap));
        };
        while next < stop {
            if fill.how == Preallocation::Off {
                push(L2Entry::all_zero(&self.geometry));
                next += 1;
                continue;
            }
            let first = GuestCluster::new(next);
            let wanted = ClusterCount::new(stop - next);
            let (at, count) = match self.has_data_file() {
                true => {
                    let at = next << self.geometry.cluster_bits();
                    let from = at.max(fill.nothing_from);
                    let end = at + self.geometry.bytes_of(wanted);
                    self.reserve_data(from, end.saturating_sub(from), fill.how)?;
                    (at, wanted)
                }
                false => {
                    let allocation = self.allocate(wanted)?;
                    let run = allocation.run();
                    built.allocations.push(allocation);
                    let at = self.geometry.offset_of(run.first).get();
                    self.reserve_data(at, self.geometry.bytes_of(run.count), fill.how)?;
                    (at, run.count)
                }
            };
            for n in 0..count.get() {
                let bits = (at + (n << self.geometry.cluster_bits())) | COPIED;
                push(L2Entry { bits, bitmap: L2Entry::ALLOCATED_SUBCLUSTERS });
            }
            next = (first + count).get();
        }
        Ok(words)
    }

    /// Makes new data clusters read as zeroes, with as much room on the disk as asked for.
    fn reserve_data(&mut self, at: u64, bytes: u64, how: Preallocation) -> Result<()> {
        let disk = &mut self.ordering.disk;
        let storage = disk.data_file.clone().unwrap_or_else(|| disk.file.clone());
        // A data file is as long as the disk, which may end within a cluster.
        let bytes = match &disk.data_file {
            Some(data) => {
                let length = data.len().map_err(|e| Error::file("get the length", e))?;
                bytes.min(length.saturating_sub(at))
            }
            None => bytes,
        };
        disk.note_data();
        let failed = |e| Error::io("reserve room for guest data", at, e);
        if how == Preallocation::Full {
            return write_zero_buffers(storage.as_ref(), at, bytes).map_err(failed);
        }
        storage.write_zeroes(at, bytes).map_err(failed)?;
        match how {
            Preallocation::Falloc => storage.allocate(at, bytes).map_err(failed),
            _ => Ok(()),
        }
    }
}

/// Writes zeroes as bytes, which takes the room that they need.
pub(crate) fn write_zero_buffers(
    storage: &dyn Storage,
    at: u64,
    bytes: u64,
) -> std::io::Result<()> {
    let zeroes = vec![0; usize::try_from(PIECE_BYTES.min(bytes)).unwrap_or(0)];
    let mut done = 0;
    while done < bytes {
        let length = usize::try_from(PIECE_BYTES.min(bytes - done)).unwrap_or(zeroes.len());
        storage.write_at(at + done, &zeroes[..length])?;
        done += length as u64;
    }
    Ok(())
}
