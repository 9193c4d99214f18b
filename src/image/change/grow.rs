//! A longer disk: what is new of it is mapped where that is requested, or where a backing file
//! would show through.
//!
//! New L2 tables and the L1 table are built aside and switched to together with the new size (see
//! `switch`), so that no crash leaves entries past the disk's end. What exists there, such as
//! VM state, does not become part of the disk.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::format::feature::autoclear;
use crate::format::l1::{COPIED, L1Entry};
use crate::format::l2::L2Entry;
use crate::format::{ClusterCount, GuestCluster, HostOffset, encode_entries};
use crate::storage::{Capacity, Storage, is_zero};

use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::order::regions::Owner;
use crate::image::run::ClusterRun;
use crate::image::space::refcounts::Change;
use crate::image::{Backing, Image};

/// Zeroes that are written at once.
const PIECE_BYTES: u64 = 1 << 20;

/// What a new part of a disk has from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Preallocation {
    /// Nothing.
    #[default]
    Off,
    /// Everything is mapped; no disk space is allocated.
    Metadata,
    /// Everything is mapped, and disk space is allocated.
    Falloc,
    /// Everything is mapped and written with zeroes.
    Full,
}

impl Preallocation {
    /// An error where the storage cannot be given space ahead: a block device has all its space
    /// already. qemu-img refuses this too, and programs that match its words choose another mode
    /// then.
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
    /// The cluster after the last one to be mapped.
    end: GuestCluster,
    how: Preallocation,
    /// From here on an external data file is known to hold nothing.
    nothing_from: u64,
}

impl Image {
    /// Makes the disk longer; what is new reads as zeroes, also where the backing file reaches
    /// there.
    pub(crate) fn grow(&mut self, size: u64, preallocation: Preallocation) -> Result<()> {
        let data = self.data_file.as_ref().unwrap_or(&self.file);
        preallocation.require_on(data.as_ref())?;
        let old = self.virtual_size();
        let hidden = match &self.backing {
            Some(backing) => Backing::virtual_size(backing)?.min(size),
            None => 0,
        };
        let Some(data) = self.data_file.clone() else {
            return self.grow_over(hidden, size, preallocation, 0);
        };
        let failed = |e| Error::io("lengthen the data file", old, e);
        let length = data.len().map_err(failed)?;
        let raw = self.header()?.autoclear & autoclear::DATA_FILE_RAW != 0;
        let how = match preallocation {
            Preallocation::Off if raw => Preallocation::Metadata,
            how => how,
        };
        let outcome = lengthen(data.as_ref(), old, size, raw).and_then(|nothing_from| {
            self.meta_mut()?.ordering.disk.note_data();
            self.grow_over(hidden, size, how, nothing_from)
        });
        // Where the switch itself failed, the disk may be the longer one.
        let is_old = outcome.is_err() && self.meta_mut()?.ordering.disk.usable().is_ok();
        let is_longer = data.len().is_ok_and(|bytes| bytes > length);
        if is_old && is_longer && data.capacity() == Capacity::Growable {
            // The first error is the one to report.
            let _ = data.set_len(length);
        }
        outcome
    }

    /// The image's part of it: where the backing file has `hidden` bytes.
    fn grow_over(
        &mut self,
        hidden: u64,
        size: u64,
        mut how: Preallocation,
        nothing_from: u64,
    ) -> Result<()> {
        let old = self.virtual_size();
        let end = if how == Preallocation::Off { hidden.max(old) } else { size };
        if self.header()?.version < 3 && how == Preallocation::Off && hidden > old {
            // Version 2 has no entries for zeroes: clusters that are holes read as such.
            how = Preallocation::Metadata;
        }
        let geometry = self.geometry;
        let clusters = |bytes| GuestCluster::new(0) + geometry.clusters_for(bytes);
        let fill = Fill { first: clusters(old), end: clusters(end), how, nothing_from };
        self.meta_mut()?.grow(size, &fill)?;
        self.geometry = self.geometry.with_virtual_size(size);
        Ok(())
    }

    /// Makes an external data file end where the disk does.
    pub(in crate::image) fn cut_data_file(&self, size: u64) -> Result<()> {
        let Some(data) = &self.data_file else { return Ok(()) };
        if data.capacity() == Capacity::Growable {
            data.set_len(size).map_err(|e| Error::io("shorten the data file", size, e))?;
            self.meta()?.ordering.disk.note_data();
        }
        Ok(())
    }
}

/// Makes a data file as long as the new disk. Past the old one's end it has zeroes, unless the
/// file is the disk by itself (`raw`): then what it has there already is the guest's. Returns from
/// where on it holds nothing.
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
        self.change_at_once(|meta| {
            let mut l1 = meta.l1_entries().to_vec();
            let needed = usize::try_from(meta.geometry.l1_entries_for(size)).unwrap_or(usize::MAX);
            let entries = needed.max(l1.len());
            meta.drop_past_end(&mut l1)?;
            l1.resize(entries, 0);
            meta.map_new_part(&mut l1, fill)?;
            let bitmaps = meta.resized_bitmaps(size)?;
            meta.switch_active(l1, size, bitmaps)
        })
    }

    /// Removes from the L1 table what is past the disk's end and would become part of it, such as
    /// VM state of a snapshot that was applied: nothing reads that, since each snapshot has
    /// its own.
    fn drop_past_end(&mut self, l1: &mut Vec<u64>) -> Result<()> {
        let size = self.geometry.virtual_size();
        let tables = usize::try_from(self.geometry.l1_entries_for(size)).unwrap_or(usize::MAX);
        let past = l1.split_off(tables.min(l1.len()));
        self.change_tree(&past, Change::Lower)?;
        let within = size % self.geometry.bytes_per_l2_table();
        let Some(slot) = l1.last_mut().filter(|_| within != 0) else { return Ok(()) };
        let table = L1Entry(*slot).offset();
        let first = usize::try_from(self.geometry.clusters_for(within).get()).unwrap_or(usize::MAX);
        let start = first * self.geometry.l2_entry_bytes();
        if table.get() == 0 {
            return Ok(());
        }
        let mut bytes = self.ordering.table(Side::Mappings, table)?.to_vec();
        if is_zero(&bytes[start..]) {
            return Ok(());
        }
        for run in self.references(table, start)? {
            self.free_later(run);
        }
        bytes[start..].fill(0);
        *slot = self.replace_l2(table, &bytes)?;
        Ok(())
    }

    /// Writes an L2 table into new clusters; returns the L1 entry for it. The old one is freed if
    /// there is one.
    fn replace_l2(&mut self, old: HostOffset, bytes: &[u8]) -> Result<u64> {
        let run = self.write_aside(Owner::L2, bytes, "an L2 table")?.commit();
        if old.get() != 0 {
            self.free_later(ClusterRun::one(self.geometry.cluster_floor(old)));
        }
        Ok(L1Entry::new(self.geometry.offset_of(run.first), true).0)
    }

    /// Builds the L2 tables that map the new part, and notes them in `l1`.
    fn map_new_part(&mut self, l1: &mut [u64], fill: &Fill) -> Result<()> {
        let per_table = self.geometry.bytes_per_l2_table() / self.geometry.cluster_bytes();
        let width = self.geometry.l2_entry_bytes();
        let mut next = fill.first.get();
        while next < fill.end.get() {
            self.go_on()?;
            let table = next / per_table;
            let stop = fill.end.get().min((table + 1) * per_table);
            let slot = usize::try_from(table).unwrap_or(usize::MAX);
            let old = L1Entry(l1[slot]).offset();
            let mut bytes = match old.get() {
                0 => vec![0; self.geometry.cluster_len()],
                _ => self.ordering.table(Side::Mappings, old)?.to_vec(),
            };
            let start = usize::try_from(next % per_table).unwrap_or(usize::MAX) * width;
            let entries = encode_entries(&self.new_entries(next, stop, fill)?);
            bytes[start..start + entries.len()].copy_from_slice(&entries);
            l1[slot] = self.replace_l2(old, &bytes)?;
            next = stop;
        }
        Ok(())
    }

    /// The entries, in words, of guest clusters from `next` up to `stop`.
    fn new_entries(&mut self, mut next: u64, stop: u64, fill: &Fill) -> Result<Vec<u64>> {
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
                    let run = self.allocate(wanted)?.commit();
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

    /// Makes new data clusters read as zeroes, with the requested allocation of disk space.
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
        disk.check_data(HostOffset::new(at), bytes)?;
        let failed = |e| Error::io("reserve space for guest data", at, e);
        if how == Preallocation::Full {
            let cancel = self.cancel.as_deref();
            let written = write_zero_buffers(storage.as_ref(), at, bytes, cancel);
            return self.require_not_cancelled().and(written.map_err(failed));
        }
        storage.write_zeroes(at, bytes).map_err(failed)?;
        match how {
            Preallocation::Falloc => storage.allocate(at, bytes).map_err(failed),
            _ => Ok(()),
        }
    }
}

/// Writes zeroes as bytes, which takes the space that they need. Ends with an error once `cancel`
/// is set.
pub(crate) fn write_zero_buffers(
    storage: &dyn Storage,
    at: u64,
    bytes: u64,
    cancel: Option<&AtomicBool>,
) -> std::io::Result<()> {
    let zeroes = vec![0; usize::try_from(PIECE_BYTES.min(bytes)).unwrap_or(0)];
    let mut done = 0;
    while done < bytes {
        if cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let length = usize::try_from(PIECE_BYTES.min(bytes - done)).unwrap_or(zeroes.len());
        storage.write_at(at + done, &zeroes[..length])?;
        done += length as u64;
    }
    Ok(())
}
