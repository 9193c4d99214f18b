//! Zeroes without storing them, and giving up what guest clusters hold.

use crate::error::{Error, Result};
use crate::format::feature::autoclear;
use crate::format::l1::COPIED;
use crate::format::l2::{L2Entry, Meaning, ZERO};
use crate::format::{ClusterCount, GuestOffset};

use super::runs::RunKind;
use crate::image::meta::Meta;
use crate::image::space::claims::Access;
use crate::image::{Backing, Image};

/// All subclusters read as zeroes, none is allocated.
const ALL_ZERO: u64 = (u32::MAX as u64) << 32;

/// What whole clusters become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Become {
    /// Zeroes that keep their clusters for later writes.
    ZeroKept,
    /// Zeroes without clusters.
    ZeroFreed,
    /// Whatever reads as zeroes with least metadata; the clusters' space goes back to the file
    /// system.
    Discarded,
}

impl Image {
    /// Makes guest bytes read as zeroes, without storing zeroes where the format can do that. With
    /// `unmap` the clusters are freed; otherwise they stay for later writes.
    pub fn write_zeroes(&self, at: GuestOffset, length: u64, unmap: bool) -> Result<()> {
        let into = if unmap { Become::ZeroFreed } else { Become::ZeroKept };
        self.prepare_zeroes(at, length)?;
        let unit = self.meta()?.unit_bytes();
        let (start, end) = (at.get(), at.get() + length);
        let inner = start.next_multiple_of(unit).min(end);
        let outer = if end == self.virtual_size() { end } else { (end / unit * unit).max(inner) };
        self.zero_bytes(start, inner)?;
        self.zero_units(inner, outer, into)?;
        self.zero_bytes(outer, end)
    }

    /// Gives up the whole clusters within a range; they read as zeroes from then on. Nothing
    /// happens to clusters that are only in part within the range, nor in a version 2 image with a
    /// backing file, which does not report zeroes.
    pub fn discard(&self, at: GuestOffset, length: u64) -> Result<()> {
        self.prepare_zeroes(at, length)?;
        if self.backing.is_some() && self.meta()?.header().version < 3 {
            return Ok(());
        }
        let size = self.geometry.cluster_bytes();
        let end = at.get() + length;
        let start = at.get().next_multiple_of(size);
        let end = if end == self.virtual_size() { end } else { end / size * size };
        if start < end { self.zero_units(start, end, Become::Discarded) } else { Ok(()) }
    }

    /// Zeroes what the last cluster holds past the disk's end, before the disk grows over it.
    pub(crate) fn zero_beyond_end(&self) -> Result<()> {
        let end = self.virtual_size();
        let cluster_end = end.next_multiple_of(self.geometry.cluster_bytes());
        let hidden = match &self.backing {
            Some(backing) => backing.virtual_size()?,
            None => 0,
        };
        let (mut at, mut stored) = (end, false);
        while at < cluster_end {
            let run = self.meta()?.run(GuestOffset::new(at), cluster_end - at)?;
            stored |= match run.kind {
                RunKind::Data(_) | RunKind::Compressed(_) => true,
                RunKind::Unallocated => at < hidden,
                RunKind::Zero => false,
            };
            at += run.length;
        }
        if !stored {
            return Ok(());
        }
        // What the disk grows over has to be zeroed, which needs the key.
        self.require_writable_data()?;
        let rest = cluster_end - end;
        let zeroes = vec![0; usize::try_from(rest).expect("a part of a cluster")];
        // The guest's data stays as it is, so no bitmap has to record this.
        self.meta()?.prepare_write()?;
        self.write_pieces(GuestOffset::new(end), &zeroes)
    }

    fn prepare_zeroes(&self, at: GuestOffset, length: u64) -> Result<()> {
        self.require_on_disk(at, length)?;
        self.require_writable_data()?;
        if let Some(Backing::Closed) = self.backing {
            let why = "guest data cannot be written while the backing file is closed";
            return Err(Error::Refused(why.into()));
        }
        self.meta()?.begin_data_write(at, length)
    }

    /// Stores zeroes in a range, except where there are zeroes already.
    fn zero_bytes(&self, mut start: u64, end: u64) -> Result<()> {
        let zeroes = vec![0; self.piece(GuestOffset::new(0), end - start)];
        while start < end {
            let at = GuestOffset::new(start);
            let most = (end - start).min(zeroes.len() as u64);
            let run = self.map(at, most)?;
            let zero_already = match run.kind {
                RunKind::Zero => true,
                RunKind::Unallocated => self.is_zero_below(),
                _ => false,
            };
            if !zero_already {
                let length = usize::try_from(run.length).expect("a run within a buffer");
                self.write(at, &zeroes[..length])?;
            }
            start += run.length;
        }
        Ok(())
    }

    /// Zeroes whole units (the disk's last may be cut short), one L2 table after the other.
    fn zero_units(&self, mut start: u64, end: u64, into: Become) -> Result<()> {
        if self.meta()?.header().version < 3 && !self.is_zero_below() {
            return self.zero_bytes(start, end);
        }
        let size = self.geometry.cluster_bytes();
        while start < end {
            let table = self.geometry.bytes_per_l2_table();
            let stop = end.min((start / table + 1) * table);
            let at = GuestOffset::new(start);
            let run = self.map(at, stop - start)?;
            if run.kind == RunKind::Unallocated && self.is_zero_below() {
                start += run.length;
                continue;
            }
            // Up to the next whole cluster by units, from there by clusters.
            let stop = match start % size {
                0 if stop - start >= size => stop / size * size,
                0 => stop,
                _ => stop.min(start.next_multiple_of(size)),
            };
            let partial = start % size != 0 || stop % size != 0 && stop != self.virtual_size();
            let done = match partial {
                true => self.zero_subclusters(start, stop)?,
                false => self.zero_clusters(start, stop, into)?,
            };
            if !done {
                self.zero_bytes(start, stop)?;
            }
            start = stop;
        }
        Ok(())
    }

    /// Sets the zero bits of subclusters of one cluster; `false` where it has none.
    fn zero_subclusters(&self, start: u64, end: u64) -> Result<bool> {
        let at = GuestOffset::new(start);
        let _claim = self.claims.claim(self.guest_clusters(at, end - start), Access::Alone);
        let cluster = self.geometry.guest_cluster_floor(at);
        let raw = self.zero_data_file(start, end)?;
        let mut meta = self.meta()?;
        let old = meta.entry(cluster)?;
        if old.is_compressed() || raw {
            return Ok(false);
        }
        let size = self.geometry.cluster_bytes();
        let (low, high) = (start % size, start % size + (end - start));
        let unit = meta.unit_bytes();
        let bits = ((1u64 << high.div_ceil(unit)) - 1) & !((1u64 << (low / unit)) - 1);
        let bitmap = old.allocated() & !bits | (old.zero() | bits) << 32;
        let l1 = meta.place(cluster).l1;
        meta.own_l2_table(l1)?;
        meta.replace_entries(cluster, &[L2Entry { bitmap, ..old }], true)?;
        Ok(true)
    }

    fn zero_clusters(&self, start: u64, end: u64, into: Become) -> Result<bool> {
        let at = GuestOffset::new(start);
        let clusters = self.guest_clusters(at, end - start);
        let _claim = self.claims.claim(clusters.clone(), Access::Alone);
        if self.zero_data_file(start, end)? {
            // What is zero in the file is not where it is encrypted.
            match self.encryption {
                Some(_) => return Ok(false),
                None if self.is_zero_below() => return Ok(true),
                None => {}
            }
        }
        let mut meta = self.meta()?;
        let l1 = meta.place(clusters.start).l1;
        meta.own_l2_table(l1)?;
        let mut cluster = clusters.start;
        while cluster < clusters.end {
            let old = meta.entry(cluster)?;
            if let Some(new) = meta.zero_entry(old, into, !self.is_zero_below()) {
                let kept = new.offset() == old.offset() && new.offset().get() != 0;
                if into == Become::Discarded {
                    let freed = meta.referred(old);
                    meta.discarded.extend(freed);
                }
                meta.replace_entries(cluster, &[new], kept && !old.is_compressed())?;
            }
            cluster = cluster + ClusterCount::new(1);
        }
        Ok(true)
    }

    /// Zeroes a range of an external data file that must read as a raw image by itself; `true` if
    /// this is one.
    fn zero_data_file(&self, start: u64, end: u64) -> Result<bool> {
        let Some(data) = &self.data_file else { return Ok(false) };
        let raw = {
            let mut meta = self.meta()?;
            meta.ordering.disk.note_data();
            meta.header().autoclear & autoclear::DATA_FILE_RAW != 0
        };
        if raw {
            data.write_zeroes(start, end - start)
                .map_err(|source| Error::io("write zeroes to the data file", start, source))?;
            self.meta()?.ordering.disk.note_data();
        }
        Ok(raw)
    }
}

impl Meta {
    /// The entry that makes a cluster read as zeroes; `None` where it does already.
    fn zero_entry(&self, old: L2Entry, into: Become, backing: bool) -> Option<L2Entry> {
        let extended = self.geometry.extended_l2();
        let version_2 = self.header().version < 3;
        let meaning = old.meaning(&self.geometry, self.has_data_file());
        let (bits, bitmap) = match meaning {
            Meaning::Unallocated if !backing => (0, 0),
            Meaning::Data(host) | Meaning::ZeroAllocated(host)
                if into == Become::ZeroKept && old.copied() && !version_2 =>
            {
                let flag = if extended { 0 } else { ZERO };
                (host.get() | COPIED | flag, if extended { ALL_ZERO } else { 0 })
            }
            _ if version_2 || into == Become::Discarded && !backing => (0, 0),
            _ if extended => (0, ALL_ZERO),
            _ => (ZERO, 0),
        };
        let new = L2Entry { bits, bitmap };
        (new != old).then_some(new)
    }
}
