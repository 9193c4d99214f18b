//! How the active disk is allocated, as runs in the disk's order, read as tolerantly as a check
//! reads.

use crate::check::{Kind, Place, Source, Survey, Visit};
use crate::format::l1::MAX_L1_BYTES;
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{Geometry, GuestOffset, HostOffset, L2Index};
use crate::storage::ReadAt;

/// Tables that do not overlap each other are no longer than the file; so much more is read.
const SLACK_BYTES: u64 = 64 << 20;

/// A table that is a hole counts like so many bytes, where it has them.
const HOLE_BYTES: u64 = 4096;

/// What a guest reads somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GuestState {
    /// What cannot be determined or read: a table that was not read, a damaged entry, data past the
    /// end of the file.
    Unknown,
    /// Data of a host cluster, or of the external data file.
    Data,
    /// Compressed data.
    Compressed,
    /// Zeroes, with or without a host cluster.
    Zero,
    /// What the backing file has, or zeroes without one.
    Unallocated,
}

impl GuestState {
    /// All states, in their order.
    pub const ALL: [Self; 5] =
        [Self::Unknown, Self::Data, Self::Compressed, Self::Zero, Self::Unallocated];

    /// The stable name, for JSON.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Data => "data",
            Self::Compressed => "compressed",
            Self::Zero => "zero",
            Self::Unallocated => "unallocated",
        }
    }
}

/// A range of the disk in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestRun {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// What is there.
    pub state: GuestState,
}

/// How the active disk of an image that was checked is allocated.
pub struct GuestMap<'a> {
    source: &'a dyn ReadAt,
    survey: &'a Survey,
    geometry: Geometry,
}

impl<'a> GuestMap<'a> {
    /// Nothing is read yet.
    pub fn new(source: &'a dyn ReadAt, survey: &'a Survey) -> Self {
        Self { source, survey, geometry: survey.area.geometry }
    }

    /// Calls `visit` for each run, from the beginning of the disk to its end, or to the first
    /// error.
    pub fn try_for_each<E>(
        &self,
        mut visit: impl FnMut(GuestRun) -> Result<(), E>,
    ) -> Result<(), E> {
        let size = self.geometry.virtual_size();
        let mut runs = Runs { size, at: 0, pending: None, visit: &mut visit };
        if self.l1_is_unread() {
            runs.until(size, GuestState::Unknown)?;
            return runs.end();
        }
        let mut left = self.survey.file_bytes.saturating_add(SLACK_BYTES);
        let mut bytes = vec![0; self.geometry.cluster_len()];
        for table in self.survey.visits.of(Source::Active) {
            let start = self.geometry.guest_offset(table.index, L2Index::new(0)).get();
            let end = start.saturating_add(self.geometry.bytes_per_l2_table());
            if start >= size {
                break;
            }
            runs.until(start, GuestState::Unallocated)?;
            match self.load(&table, &mut left, &mut bytes) {
                Loaded::Hole => runs.until(end, GuestState::Unallocated)?,
                Loaded::Not => runs.until(end, GuestState::Unknown)?,
                Loaded::Table => self.table(&bytes, start, &mut runs)?,
            }
        }
        runs.until(size, GuestState::Unallocated)?;
        runs.end()
    }

    /// Whether the check could not read the active L1 table.
    fn l1_is_unread(&self) -> bool {
        let header = &self.survey.area.header;
        let unread = self.survey.report.findings.iter().any(|finding| {
            finding.place == Place::L1Table(Source::Active)
                && matches!(finding.kind, Kind::Unreadable { .. } | Kind::L1TablesOverlap)
        });
        let bytes = u64::from(header.l1_entries) * 8;
        unread || !self.geometry.is_aligned(header.l1_table) || bytes > MAX_L1_BYTES
    }

    fn load(&self, visit: &Visit, left: &mut u64, bytes: &mut [u8]) -> Loaded {
        let (table, length) = (visit.entry.offset(), bytes.len() as u64);
        if table.get() >= self.survey.file_bytes || !self.geometry.is_aligned(table) {
            return Loaded::Not;
        }
        let Some(rest) = left.checked_sub(length) else { return Loaded::Not };
        if self.source.is_hole(table.get(), length) {
            // Not read, but asking takes its time too.
            *left -= length.min(HOLE_BYTES);
            return Loaded::Hole;
        }
        *left = rest;
        match self.source.read_padded_at(table.get(), bytes) {
            Ok(()) => Loaded::Table,
            Err(_) => Loaded::Not,
        }
    }

    fn table<E>(&self, bytes: &[u8], start: u64, runs: &mut Runs<'_, E>) -> Result<(), E> {
        let mut end = start;
        for entry in bytes.chunks_exact(self.geometry.l2_entry_bytes()) {
            let guest = GuestOffset::new(end);
            end = end.saturating_add(self.geometry.cluster_bytes());
            runs.until(end, self.state(guest, L2Entry::decode(entry)))?;
        }
        Ok(())
    }

    fn state(&self, guest: GuestOffset, entry: L2Entry) -> GuestState {
        let header = &self.survey.area.header;
        if entry.flaw(header, &self.geometry, guest).is_some() {
            return GuestState::Unknown;
        }
        let in_file = |at: HostOffset| header.has_data_file() || at.get() < self.survey.file_bytes;
        // With subclusters the bitmap decides: what is partly data is reported as data.
        let extended = self.geometry.extended_l2() && !entry.is_compressed();
        match entry.meaning(&self.geometry, header.has_data_file()) {
            Meaning::Data(_) if extended && entry.allocated() == 0 => match entry.zero() {
                0 => GuestState::Unallocated,
                _ => GuestState::Zero,
            },
            Meaning::Unallocated if extended && entry.zero() != 0 => GuestState::Zero,
            Meaning::Data(at) if in_file(at) => GuestState::Data,
            Meaning::Compressed(extent) if in_file(extent.offset) => GuestState::Compressed,
            Meaning::Data(_) | Meaning::Compressed(_) => GuestState::Unknown,
            Meaning::Zero | Meaning::ZeroAllocated(_) => GuestState::Zero,
            Meaning::Unallocated => GuestState::Unallocated,
        }
    }
}

/// What came of reading a table.
enum Loaded {
    Table,
    Hole,
    Not,
}

/// Puts neighbouring ranges in one state together.
struct Runs<'v, E> {
    size: u64,
    at: u64,
    pending: Option<GuestRun>,
    visit: &'v mut dyn FnMut(GuestRun) -> Result<(), E>,
}

impl<E> Runs<'_, E> {
    /// What is known up to now ends, and up to `end` there is this.
    fn until(&mut self, end: u64, state: GuestState) -> Result<(), E> {
        let end = end.min(self.size);
        let (offset, bytes) = (self.at, end.saturating_sub(self.at));
        if bytes == 0 {
            return Ok(());
        }
        self.at = end;
        match &mut self.pending {
            Some(run) if run.state == state => {
                run.bytes += bytes;
                Ok(())
            }
            _ => match self.pending.replace(GuestRun { offset, bytes, state }) {
                Some(run) => (self.visit)(run),
                None => Ok(()),
            },
        }
    }

    fn end(&mut self) -> Result<(), E> {
        self.pending.take().map_or(Ok(()), &mut *self.visit)
    }
}
