//! Writing guest bytes.
//!
//! A write goes in pieces. Bytes whose clusters are the image's own alone are overwritten in place,
//! with others doing the same beside. For the rest the piece has its clusters alone: under the lock
//! clusters are allocated, without it the data goes to the disk together with what must be copied
//! around it, and under the lock again the mapping follows.

use crate::error::{Error, Result};
use crate::format::l1::COPIED;
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{ClusterCount, GuestCluster, GuestOffset, HostOffset};

use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::meta::encryption::is_whole;
use crate::image::run::ClusterRun;
use crate::image::space::alloc::Allocation;
use crate::image::space::claims::Access;
use crate::sector::SECTOR;

/// Most bytes that are written at once, unless a cluster is larger.
const MAX_PIECE: u64 = 4 << 20;

/// Neighbouring guest clusters that get neighbouring host clusters.
struct Targets {
    first: GuestCluster,
    host: HostOffset,
    old: Vec<L2Entry>,
    /// The new clusters; `None` where the entries have theirs already.
    allocation: Option<Allocation>,
}

/// What of a cluster is written: a range of its bytes in whole units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    start: u64,
    end: u64,
}

impl Image {
    /// Writes guest bytes at `at`, all of them on the disk. They are there for good after a flush;
    /// after a crash before it, each byte is the old or the new one.
    pub fn write(&self, at: GuestOffset, data: &[u8]) -> Result<()> {
        self.require_on_disk(at, data.len() as u64)?;
        self.require_writable_data()?;
        self.meta()?.begin_data_write(at, data.len() as u64)?;
        self.write_pieces(at, data)
    }

    /// Writes guest bytes up to the end of the disk's last cluster.
    pub(in crate::image) fn write_pieces(&self, at: GuestOffset, data: &[u8]) -> Result<()> {
        let (mut at, mut rest) = (at, data);
        while !rest.is_empty() {
            let length = self.piece(at, rest.len() as u64);
            let done = self.write_piece(at, &rest[..length])?;
            at = GuestOffset::new(at.get() + done as u64);
            rest = &rest[done..];
        }
        Ok(())
    }

    /// How much of `most` bytes is one piece: within one L2 table, and not too long.
    pub(in crate::image) fn piece(&self, at: GuestOffset, most: u64) -> usize {
        let table = self.geometry.bytes_per_l2_table();
        let in_table = table - at.get() % table;
        let limit = MAX_PIECE.max(self.geometry.cluster_bytes());
        usize::try_from(most.min(in_table).min(limit)).expect("a piece fits into memory")
    }

    /// Writes a first part of a piece; returns its length.
    fn write_piece(&self, at: GuestOffset, data: &[u8]) -> Result<usize> {
        let clusters = self.guest_clusters(at, data.len() as u64);
        if self.encryption.is_some() && !is_whole(at.get(), data.len()) {
            let _claim = self.claims.claim(clusters, Access::Alone);
            let (at, whole) = self.whole_sectors(at, data)?;
            return self.write_all_claimed(at, &whole).map(|()| data.len());
        }
        {
            let _claim = self.claims.claim(clusters.clone(), Access::Shared);
            if let Some(done) = self.write_in_place(at, data)? {
                return Ok(done);
            }
        }
        let _claim = self.claims.claim(clusters, Access::Alone);
        self.write_claimed(at, data)
    }

    /// The whole sectors that have these bytes, with what the guest sees around them.
    fn whole_sectors(&self, at: GuestOffset, data: &[u8]) -> Result<(GuestOffset, Vec<u8>)> {
        let start = at.get() / SECTOR * SECTOR;
        let end = (at.get() + data.len() as u64).next_multiple_of(SECTOR);
        let whole = self.surround(start, 0..end - start, at.get() - start, data)?;
        Ok((GuestOffset::new(start), whole))
    }

    fn write_all_claimed(&self, at: GuestOffset, data: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < data.len() {
            let here = GuestOffset::new(at.get() + done as u64);
            done += self.write_claimed(here, &data[done..])?;
        }
        Ok(())
    }

    /// Writes a first part of a piece whose clusters the caller has alone; returns its length.
    fn write_claimed(&self, at: GuestOffset, data: &[u8]) -> Result<usize> {
        // Another write may have been here between the claims.
        if let Some(done) = self.write_in_place(at, data)? {
            return Ok(done);
        }
        let mut targets = self.meta()?.targets(at, data.len() as u64)?;
        let allocation = targets.allocation.take();
        let outcome = self.write_targets(&targets, allocation.is_some(), at, data);
        match allocation {
            Some(allocation) => allocation.settle(&mut *self.meta()?, outcome),
            None => outcome,
        }
    }

    /// Overwrites what begins at `at` and may be overwritten; `None` where that is nothing.
    fn write_in_place(&self, at: GuestOffset, data: &[u8]) -> Result<Option<usize>> {
        let (host, length) = {
            let mut meta = self.meta()?;
            let Some((host, length)) = meta.own_data(at, data.len() as u64)? else {
                return Ok(None);
            };
            meta.ordering.disk.check_data(host, length)?;
            (host, length)
        };
        let length = usize::try_from(length).expect("a part of a buffer");
        self.write_data(at, host, &data[..length])?;
        Ok(Some(length))
    }

    /// Stores guest bytes at a host offset; whole sectors where they are encrypted.
    fn write_data(&self, at: GuestOffset, host: HostOffset, data: &[u8]) -> Result<()> {
        let encrypted = self.encryption.as_ref().map(|encryption| {
            let mut bytes = data.to_vec();
            encryption.encrypt(at, host, &mut bytes);
            bytes
        });
        self.data()
            .write_at(host.get(), encrypted.as_deref().unwrap_or(data))
            .map_err(|source| Error::io("write guest data", host.get(), source))
    }

    /// Writes data into its targets, with what is copied around it, and then maps them.
    fn write_targets(
        &self,
        targets: &Targets,
        fresh: bool,
        at: GuestOffset,
        data: &[u8],
    ) -> Result<usize> {
        let size = self.geometry.cluster_bytes();
        let base = targets.first.get() * size;
        let room = base + targets.old.len() as u64 * size - at.get();
        let length = data.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let (start, end) = (at.get() - base, at.get() - base + length as u64);
        let extents: Vec<Extent> = (0u64..)
            .zip(&targets.old)
            .map(|(n, &old)| {
                self.extent(
                    old,
                    fresh,
                    start.max(n * size) - n * size,
                    end.min((n + 1) * size) - n * size,
                )
            })
            .collect();
        let first_start = extents[0].start;
        let last = extents.len() - 1;
        let last_end = last as u64 * size + extents[last].end;
        let host = targets.host.saturating_add(first_start);
        self.meta()?.ordering.disk.check_data(host, last_end - first_start)?;
        if first_start == start && last_end == end {
            self.write_data(at, host, &data[..length])?;
        } else {
            let bytes = self.surround(base, first_start..last_end, start, &data[..length])?;
            self.write_data(GuestOffset::new(base + first_start), host, &bytes)?;
        }
        let mut entries = Vec::with_capacity(extents.len());
        for (n, (&old, extent)) in (0u64..).zip(targets.old.iter().zip(&extents)) {
            let host = targets.host.saturating_add(n * size);
            entries.push(self.data_entry(host, old, *extent));
        }
        let mut meta = self.meta()?;
        meta.ordering.disk.note_data();
        meta.replace_entries(targets.first, &entries, !fresh)?;
        Ok(length)
    }

    /// The bytes of `range` (relative to `base`): `data` at `start`, and around it what the guest
    /// sees now.
    fn surround(
        &self,
        base: u64,
        range: std::ops::Range<u64>,
        start: u64,
        data: &[u8],
    ) -> Result<Vec<u8>> {
        let fits = "a piece fits into memory";
        let head = usize::try_from(start - range.start).expect(fits);
        let mut bytes = vec![0; usize::try_from(range.end - range.start).expect(fits)];
        let tail = head + data.len();
        self.read_claimed(GuestOffset::new(base + range.start), &mut bytes[..head])?;
        let tail_at = GuestOffset::new(base + start + data.len() as u64);
        self.read_claimed(tail_at, &mut bytes[tail..])?;
        bytes[head..tail].copy_from_slice(data);
        Ok(bytes)
    }

    /// What of a cluster is written when `start..end` of it changes: all of it; with subclusters
    /// those that change and, in a new cluster, those that had data.
    fn extent(&self, old: L2Entry, fresh: bool, start: u64, end: u64) -> Extent {
        let size = self.geometry.cluster_bytes();
        if !self.geometry.extended_l2() || old.is_compressed() {
            return Extent { start: 0, end: size };
        }
        let unit = size / 32;
        let mut extent = Extent { start: start / unit * unit, end: end.next_multiple_of(unit) };
        let kept = old.allocated();
        if fresh && kept != 0 {
            extent.start = extent.start.min(u64::from(kept.trailing_zeros()) * unit);
            extent.end = extent.end.max(u64::from(64 - kept.leading_zeros()) * unit);
        }
        extent
    }

    /// The entry of a cluster of which `extent` was written.
    fn data_entry(&self, host: HostOffset, old: L2Entry, extent: Extent) -> L2Entry {
        let bits = host.get() | COPIED;
        if !self.geometry.extended_l2() {
            return L2Entry::standard(bits);
        }
        let (allocated, zero) = match old.is_compressed() {
            true => (0, 0),
            false => (old.allocated(), old.zero()),
        };
        let unit = self.geometry.cluster_bytes() / 32;
        let (low, high) = (extent.start / unit, extent.end / unit);
        let written = ((1u64 << high) - 1) & !((1u64 << low) - 1);
        L2Entry { bits, bitmap: (allocated | written) | (zero & !written) << 32 }
    }
}

impl Meta {
    /// The host bytes from `at` on that are data of this image alone, within `most` bytes.
    fn own_data(&mut self, at: GuestOffset, most: u64) -> Result<Option<(HostOffset, u64)>> {
        let size = self.geometry.cluster_bytes();
        let table = self.l1_entry(self.place(self.geometry.guest_cluster_floor(at)).l1)?;
        if !table.copied() || table.offset().get() == 0 {
            return Ok(None);
        }
        let mut found: Option<(HostOffset, u64)> = None;
        let mut done = 0;
        while done < most {
            let here = GuestOffset::new(at.get() + done);
            let cluster = self.geometry.guest_cluster_floor(here);
            let entry = self.entry(cluster)?;
            let rest = (size - here.get() % size).min(most - done);
            let run = match self.owned_host(cluster, entry) {
                Some(_) => self.run(here, rest)?,
                None => break,
            };
            let crate::image::RunKind::Data(host) = run.kind else { break };
            match &mut found {
                None => found = Some((host, run.length)),
                Some((first, length)) if first.checked_add(*length) == Some(host) => {
                    *length += run.length;
                }
                Some(_) => break,
            }
            done += run.length;
            if run.length < rest {
                break;
            }
        }
        Ok(found)
    }

    /// The host cluster that an entry has for itself alone and that may be written.
    fn owned_host(&self, cluster: GuestCluster, entry: L2Entry) -> Option<HostOffset> {
        if self.has_data_file() {
            return Some(HostOffset::new(cluster.get() << self.geometry.cluster_bits()));
        }
        match entry.meaning(&self.geometry, false) {
            Meaning::Data(host) | Meaning::ZeroAllocated(host) if entry.copied() => Some(host),
            _ => None,
        }
    }

    /// Where a write at `at` goes that cannot overwrite: clusters that the entries have for
    /// themselves, or new ones; of either kind all that are neighbours, within `most` bytes and
    /// one L2 table.
    fn targets(&mut self, at: GuestOffset, most: u64) -> Result<Targets> {
        let first = self.geometry.guest_cluster_floor(at);
        self.own_l2_table(self.place(first).l1)?;
        let size = self.geometry.cluster_bytes();
        let count = (at.get() % size + most).div_ceil(size);
        let mut old = Vec::new();
        let mut own: Option<HostOffset> = None;
        for n in 0..count {
            let cluster = first + ClusterCount::new(n);
            let entry = self.entry(cluster)?;
            let host = self.owned_host(cluster, entry);
            let alike = match (n, own, host) {
                (0, _, host) => {
                    own = host;
                    true
                }
                (n, Some(own), Some(host)) => own.checked_add(n * size) == Some(host),
                (_, None, None) => true,
                _ => false,
            };
            if !alike {
                break;
            }
            old.push(entry);
        }
        if let Some(host) = own {
            return Ok(Targets { first, host, old, allocation: None });
        }
        let allocation = self.allocate(ClusterCount::new(old.len() as u64))?;
        let got = usize::try_from(allocation.run().count.get()).unwrap_or(usize::MAX);
        old.truncate(got);
        let host = self.geometry.offset_of(allocation.run().first);
        Ok(Targets { first, host, old, allocation: Some(allocation) })
    }

    /// Puts entries in the place of others; unless `same_hosts`, what the others referred to is
    /// freed later.
    pub(in crate::image) fn replace_entries(
        &mut self,
        first: GuestCluster,
        entries: &[L2Entry],
        same_hosts: bool,
    ) -> Result<()> {
        let mut old = Vec::with_capacity(entries.len());
        for n in 0..entries.len() as u64 {
            old.push(self.entry(first + ClusterCount::new(n))?);
        }
        self.set_entries(first, entries)?;
        if !same_hosts {
            for entry in old {
                if let Some(run) = self.referred(entry) {
                    self.free_later(run);
                }
            }
        }
        self.limit_pending()
    }

    /// The clusters of the image file that an entry refers to.
    pub(in crate::image) fn referred(&self, entry: L2Entry) -> Option<ClusterRun> {
        if self.has_data_file() {
            return None;
        }
        match entry.meaning(&self.geometry, false) {
            Meaning::Data(host) | Meaning::ZeroAllocated(host) => {
                Some(ClusterRun::one(self.geometry.cluster_floor(host)))
            }
            Meaning::Compressed(extent) => {
                Some(ClusterRun::of(&self.geometry, extent.offset, extent.bytes))
            }
            Meaning::Unallocated | Meaning::Zero => None,
        }
    }
}
