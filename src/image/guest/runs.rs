//! Where guest bytes are: guest ranges to runs.

use crate::error::{Error, Result};
use crate::format::geometry::SUBCLUSTERS;
use crate::format::l2::{CompressedExtent, L2Entry, Meaning, repeats};
use crate::format::{ClusterCount, GuestOffset, HostOffset};
use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::storage::ReadAt;

/// What a run of guest bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunKind {
    /// Not in this image: the backing file's bytes, or zeroes.
    Unallocated,
    /// Zeroes.
    Zero,
    /// In the image file or the external data file, the first byte at this offset.
    Data(HostOffset),
    /// Inside one compressed cluster.
    Compressed(CompressedExtent),
}

/// Guest bytes that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Its first byte.
    pub start: GuestOffset,
    /// Its length in bytes, at least 1.
    pub length: u64,
    /// Where its bytes are.
    pub kind: RunKind,
}

/// A run, and the space of the file that belongs to it, whether or not it holds the run's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The run.
    pub run: Run,
    /// Where the first byte has its space; `None` without any, and where it is compressed.
    pub host: Option<HostOffset>,
}

impl Stored {
    /// The guest offset after the last byte.
    pub(crate) const fn end(&self) -> u64 {
        self.run.start.get() + self.run.length
    }

    /// The rest of it from `at` on, an offset in it, and at most `most` bytes.
    pub(crate) fn from(self, at: GuestOffset, most: u64) -> Self {
        let gone = at.get() - self.run.start.get();
        let kind = match self.run.kind {
            RunKind::Data(host) => RunKind::Data(host.saturating_add(gone)),
            kind => kind,
        };
        let run = Run { start: at, length: (self.run.length - gone).min(most), kind };
        Self { run, host: self.host.map(|host| host.saturating_add(gone)) }
    }

    /// Whether the bytes of `next`, which follow, are stored like these; with `hosts` also in the
    /// space that follows.
    pub(super) fn goes_on_with(&self, next: &Self, hosts: bool) -> bool {
        let follows = |next: &HostOffset| {
            self.host.and_then(|host| host.checked_add(self.run.length)) == Some(*next)
        };
        let in_order = match next.host {
            Some(next) => follows(&next),
            None => self.host.is_none(),
        };
        match (self.run.kind, next.run.kind) {
            (RunKind::Data(_), RunKind::Data(_)) => in_order,
            (RunKind::Compressed(_), RunKind::Compressed(_)) => false,
            (kind, next) => kind == next && (in_order || !hosts),
        }
    }
}

impl Image {
    /// The run that begins at `start` and is no longer than `most` bytes (at least 1). Damage is an
    /// error (see [`crate::image::Damage`]), never a run.
    pub fn map(&self, start: GuestOffset, most: u64) -> Result<Run> {
        self.require_run(start, most)?;
        self.meta()?.run(start, most)
    }

    /// The same; a run ends where its space in the file does not go on.
    pub fn map_stored(&self, start: GuestOffset, most: u64) -> Result<Stored> {
        self.require_run(start, most)?;
        self.meta()?.longest(start, most, true)
    }

    fn require_run(&self, start: GuestOffset, most: u64) -> Result<()> {
        self.require_on_disk(start, most)?;
        if most == 0 {
            return Err(Error::Refused("a run of no bytes".into()));
        }
        Ok(())
    }

    /// What holds the bytes of [`RunKind::Data`]: the image file or the external data file.
    pub fn data_source(&self) -> &dyn ReadAt {
        self.data()
    }
}

impl Meta {
    /// The longest run from `start` on within `most` bytes.
    pub(in crate::image) fn run(&mut self, start: GuestOffset, most: u64) -> Result<Run> {
        Ok(self.longest(start, most, false)?.run)
    }

    fn longest(&mut self, start: GuestOffset, most: u64, hosts: bool) -> Result<Stored> {
        let mut all = self.units(start, most)?;
        while all.run.length < most {
            let next_at = GuestOffset::new(start.get() + all.run.length);
            // The run so far stands, whatever follows.
            let Ok(next) = self.units(next_at, most - all.run.length) else { break };
            if !all.goes_on_with(&next, hosts) {
                break;
            }
            all.run.length += next.run.length;
        }
        all.run.length = all.run.length.min(most);
        Ok(all)
    }

    /// The rest, from `start` on, of one unit, and the whole clusters after it whose entries repeat
    /// its entry; of a whole L2 table's range where there is no table. May be longer than `most`.
    fn units(&mut self, start: GuestOffset, most: u64) -> Result<Stored> {
        let cluster = self.geometry.guest_cluster_floor(start);
        if self.l1_entry(self.place(cluster).l1)?.offset().get() == 0 {
            let bytes = self.geometry.bytes_per_l2_table();
            let length = bytes - start.get() % bytes;
            let run = Run { start, length, kind: RunKind::Unallocated };
            return Ok(Stored { run, host: None });
        }
        let entry = self.entry(cluster)?;
        let unit = self.unit(start, entry);
        let size = self.geometry.cluster_bytes();
        let rest = size - start.get() % size;
        let is_split = self.geometry.extended_l2() && !is_uniform(entry);
        if is_split || entry.is_compressed() {
            return Ok(unit);
        }
        let repeated = match most.checked_sub(rest) {
            Some(more @ 1..) => self.repeated(start, entry, unit.host, more.div_ceil(size))?,
            _ => 0,
        };
        let run = Run { length: rest + repeated * size, ..unit.run };
        Ok(Stored { run, ..unit })
    }

    /// The rest, from `start` on, of the unit there: of the cluster whose entry this is, or of one
    /// of its subclusters where those differ.
    pub(super) fn unit(&self, start: GuestOffset, entry: L2Entry) -> Stored {
        let rest_of = |bytes: u64| bytes - start.get() % bytes;
        let stored = |length, kind, host| Stored { run: Run { start, length, kind }, host };
        let meaning = entry.meaning(&self.geometry, self.has_data_file());
        let size = self.geometry.cluster_bytes();
        let within = start.get() % size;
        let host = match meaning {
            Meaning::Compressed(extent) => {
                return stored(rest_of(size), RunKind::Compressed(extent), None);
            }
            Meaning::Data(host) | Meaning::ZeroAllocated(host) => Some(host.saturating_add(within)),
            Meaning::Zero | Meaning::Unallocated => None,
        };
        let unit = self.unit_bytes();
        let bit = 1u64 << (within / unit);
        let extended = self.geometry.extended_l2();
        let kind = match (meaning, host) {
            (Meaning::Zero | Meaning::ZeroAllocated(_), _) => RunKind::Zero,
            _ if extended && entry.zero() & bit != 0 => RunKind::Zero,
            (Meaning::Data(_), Some(host)) if !extended || entry.allocated() & bit != 0 => {
                RunKind::Data(host)
            }
            _ => RunKind::Unallocated,
        };
        let length = if extended && !is_uniform(entry) { unit } else { size };
        stored(rest_of(length), kind, host)
    }

    /// How many entries after the one of the cluster at `start`, in the same table and at most
    /// `most`, mean the same for their clusters, with space that goes on from `host` where there is
    /// any. What makes the first one valid makes these valid.
    fn repeated(
        &mut self,
        start: GuestOffset,
        entry: L2Entry,
        host: Option<HostOffset>,
        most: u64,
    ) -> Result<u64> {
        let size = self.geometry.cluster_bytes();
        let place = self.place(self.geometry.guest_cluster_floor(start) + ClusterCount::new(1));
        if place.l2 == 0 {
            return Ok(0);
        }
        let table = self.l1_entry(place.l1)?.offset();
        let geometry = self.geometry;
        let bytes = self.ordering.table(Side::Mappings, table)?;
        let step = if host.is_some() { size } else { 0 };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = repeats(bytes, &geometry, place.l2, entry, step, most) as u64;
        let Some(host) = host.filter(|_| self.strict && !self.has_data_file()) else {
            return Ok(count);
        };
        // For a strict reader each cluster has to begin in the file.
        let first = self.geometry.offset_of(self.geometry.cluster_floor(host));
        if !self.ends_before(first.saturating_add(count * size))? {
            return Ok(count);
        }
        Ok(self.file_end.saturating_sub(first.get() + 1) / size)
    }
}

/// Whether an entry with subclusters means the same for all of them.
pub(super) fn is_uniform(entry: L2Entry) -> bool {
    const ALL: u64 = (1 << SUBCLUSTERS) - 1;
    matches!((entry.allocated(), entry.zero()), (0, 0 | ALL) | (ALL, 0))
}
