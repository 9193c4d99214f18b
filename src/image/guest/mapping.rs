//! L1 and L2 entries of guest clusters, read and changed.

use crate::error::{Error, Result};
use crate::format::geometry::SUBCLUSTERS;
use crate::format::l1::L1Entry;
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{GuestCluster, GuestOffset, HostOffset};

use crate::format::ClusterCount;
use crate::image::damage::damaged;
use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::order::regions::Owner;
use crate::image::run::ClusterRun;
use crate::image::space::alloc::Allocation;

/// The place of an L2 entry: which L1 entry, which L2 entry.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct Place {
    pub(in crate::image) l1: usize,
    pub(in crate::image) l2: usize,
}

impl Meta {
    /// The position of the entry of a guest cluster.
    pub(in crate::image) fn place(&self, cluster: GuestCluster) -> Place {
        let entries = u64::from(self.geometry.l2_entries());
        let (l1, l2) = (cluster.get() / entries, cluster.get() % entries);
        let fits = "an index fits into memory";
        Place { l1: usize::try_from(l1).expect(fits), l2: usize::try_from(l2).expect(fits) }
    }

    /// The L1 entry at an index; its table begins at a cluster, or there is none.
    pub(in crate::image) fn l1_entry(&self, index: usize) -> Result<L1Entry> {
        let l1 = self.ordering.root(Side::Mappings);
        let entry = L1Entry(l1.get(index));
        let reserved = (self.writable || self.strict) && entry.has_reserved_bits();
        if reserved || entry.is_unaligned(&self.geometry) {
            let at = l1.offset().saturating_add(index as u64 * 8);
            return Err(damaged(at, format!("L1 entry {index} is not valid: {:#x}", entry.0)));
        }
        Ok(entry)
    }

    /// The entry of a guest cluster; without an L2 table an empty one. One with defects is an
    /// error; reserved bits are not an error where nothing is written, as in QEMU.
    pub(in crate::image) fn entry(&mut self, cluster: GuestCluster) -> Result<L2Entry> {
        let place = self.place(cluster);
        let table = self.l1_entry(place.l1)?.offset();
        if table.get() == 0 {
            return Ok(L2Entry::standard(0));
        }
        if let Some(reason) = self.table_flaw(table)? {
            return Err(damaged(table, format!("L2 table of L1 entry {}: {reason}", place.l1)));
        }
        let width = self.geometry.l2_entry_bytes();
        let bytes = self.ordering.table(Side::Mappings, table)?;
        let bytes = &bytes[place.l2 * width..(place.l2 + 1) * width];
        let entry = L2Entry::decode(bytes);
        let past_end = self.is_past_end(entry)?.then_some("it points past the end of the file");
        if let Some(reason) = self.defect(cluster, entry).or(past_end) {
            let at = table.saturating_add((place.l2 * width) as u64);
            let guest = cluster.get() << self.geometry.cluster_bits();
            return Err(damaged(at, format!("L2 entry of guest offset {guest:#x}: {reason}")));
        }
        Ok(entry)
    }

    /// Why a table at this offset is not one, for a strict reader.
    fn table_flaw(&mut self, at: HostOffset) -> Result<Option<String>> {
        if !self.strict {
            return Ok(None);
        }
        let run = ClusterRun::one(self.geometry.cluster_floor(at));
        let conflict = self.ordering.disk.regions.conflict(run, Some(Owner::L2));
        Ok(match conflict {
            Some(other) => Some(format!("it overlaps {other}")),
            None if self.ends_before(at)? => Some("it is past the end of the file".into()),
            None => None,
        })
    }

    /// Whether a strict reader would read through an entry what the file does not have.
    pub(super) fn is_past_end(&mut self, entry: L2Entry) -> Result<bool> {
        if !self.strict || self.has_data_file() {
            return Ok(false);
        }
        match entry.meaning(&self.geometry, false) {
            Meaning::Data(host) | Meaning::ZeroAllocated(host) => self.ends_before(host),
            Meaning::Compressed(extent) => self.ends_before(extent.offset),
            Meaning::Zero | Meaning::Unallocated => Ok(false),
        }
    }

    /// Whether the file ends before or at this offset. Others can make it longer.
    pub(in crate::image) fn ends_before(&mut self, at: HostOffset) -> Result<bool> {
        if at.get() >= self.file_end {
            let length = self.ordering.disk.file.len();
            self.file_end = length.map_err(|e| Error::file("get the length", e))?;
        }
        Ok(at.get() >= self.file_end)
    }

    pub(super) fn defect(&self, cluster: GuestCluster, entry: L2Entry) -> Option<&'static str> {
        if (self.writable || self.strict) && entry.has_reserved_bits(&self.geometry) {
            return Some("reserved bits are set");
        }
        let guest = GuestOffset::new(cluster.get() << self.geometry.cluster_bits());
        entry.flaw(self.header(), &self.geometry, guest)
    }

    /// Changes neighbouring entries, all in one L2 table that may be written.
    pub(in crate::image) fn set_entries(
        &mut self,
        first: GuestCluster,
        entries: &[L2Entry],
    ) -> Result<()> {
        let place = self.place(first);
        let entry = self.l1_entry(place.l1)?;
        debug_assert!(entry.copied() && entry.offset().get() != 0, "an L2 table to write");
        let width = self.geometry.l2_entry_bytes();
        let range = place.l2 * width..(place.l2 + entries.len()) * width;
        let table = self.ordering.change(Side::Mappings, entry.offset(), range.clone())?;
        let words: Vec<u64> = match width {
            8 => entries.iter().map(|entry| entry.bits).collect(),
            _ => entries.iter().flat_map(|entry| [entry.bits, entry.bitmap]).collect(),
        };
        table[range].copy_from_slice(&crate::format::encode_entries(&words));
        Ok(())
    }

    /// Makes sure that an L2 table is there and that only the active L1 table refers to it: a new
    /// one, or a copy of one that is shared with a snapshot.
    pub(in crate::image) fn own_l2_table(&mut self, index: usize) -> Result<()> {
        let entry = self.l1_entry(index)?;
        if entry.copied() && entry.offset().get() != 0 {
            return Ok(());
        }
        if index >= self.l1_entries().len() {
            return Err(Error::Refused("the L1 table is too short for this offset".into()));
        }
        let allocation = self.allocate(ClusterCount::new(1))?;
        let outcome = self.install_l2_table(index, entry, &allocation);
        allocation.settle(self, outcome)
    }

    fn install_l2_table(
        &mut self,
        index: usize,
        old: L1Entry,
        allocation: &Allocation,
    ) -> Result<()> {
        let bytes = if old.offset().get() == 0 {
            vec![0; self.geometry.cluster_len()]
        } else {
            self.ordering.table(Side::Mappings, old.offset())?.to_vec()
        };
        let at = self.geometry.offset_of(allocation.run().first);
        self.ordering.add(Side::Mappings, at, bytes)?;
        self.ordering.disk.regions.add(allocation.run(), Owner::L2);
        self.ordering.set_root_entry(Side::Mappings, index, L1Entry::new(at, true).0);
        if old.offset().get() != 0 {
            let old_run = ClusterRun::one(self.geometry.cluster_floor(old.offset()));
            self.ordering.disk.regions.remove(old_run, Owner::L2);
            self.ordering.forget(Side::Mappings, old.offset());
            self.free_later(old_run);
        }
        Ok(())
    }

    /// Bytes of the unit in which an entry shows what is allocated: a cluster, or a subcluster.
    pub(in crate::image) const fn unit_bytes(&self) -> u64 {
        let subclusters = if self.geometry.extended_l2() { SUBCLUSTERS as u64 } else { 1 };
        self.geometry.cluster_bytes() / subclusters
    }
}
