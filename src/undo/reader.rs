//! Reads an undo file, and uses nothing in it that a digest does not prove.

use std::ops::Range;

use super::encoding::{
    Commit, ENTRIES, ENTRY_BYTES, Entry, Header, Recorded, SHORT, Sector, State, sha256,
};
use super::held::Held;
use crate::error::{Error, Result};
use crate::sector::{SECTOR, SECTOR_LEN};
use crate::storage::{RangeSet, ReadAt};

/// An entry and the position of its payload.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// What it records.
    pub entry: Entry,
    payload: u64,
}

/// An undo file that is whole: every digest in it is right.
pub struct Record<'a> {
    file: &'a dyn ReadAt,
    /// The image's length before the repair.
    pub(super) old_bytes: u64,
    /// How far the repair came.
    pub(super) state: State,
    /// What was at the places that the repair changed, group by group in the order of the image.
    pub(super) old: Vec<Placed>,
    /// What was read and not changed.
    pub(super) watched: Vec<Placed>,
    /// What the repair left, in the order of the image.
    new: Vec<Placed>,
    /// All of `old`.
    pub(super) changed: RangeSet,
}

impl<'a> Record<'a> {
    /// The bytes that somebody else has appended to an image that is so long now.
    pub(super) fn appended(&self, bytes: u64) -> u64 {
        match self.state {
            State::Ended(new) => bytes.saturating_sub(new.max(self.old_bytes)),
            State::Repairing => 0,
        }
    }

    /// Reads and proves a whole undo file.
    pub fn load(file: &'a dyn ReadAt) -> Result<Self> {
        if length(file)? == 0 {
            return Err(Error::Refused("is empty: no repair has recorded anything in it".into()));
        }
        let header = Header::decode(&sector(file, 0)?).map_err(Error::Refused)?;
        let commit = last_commit(file)?;
        if commit.file_bytes > length(file)? {
            return Err(Error::Refused("is cut off: it was longer once".into()));
        }
        let mut record = Self {
            file,
            old_bytes: header.image_bytes,
            state: commit.state,
            old: Vec::new(),
            watched: Vec::new(),
            new: Vec::new(),
            changed: RangeSet::default(),
        };
        let mut at = ENTRIES;
        while at < commit.file_bytes {
            let placed = record.entry(at, commit.file_bytes)?;
            at = placed.payload + placed.entry.payload_bytes();
            match placed.entry.recorded {
                Recorded::Old => {
                    record.changed.insert(placed.entry.range());
                    record.old.push(placed);
                }
                Recorded::Watched => record.watched.push(placed),
                Recorded::New => record.new.push(placed),
            }
        }
        record.old.sort_by_key(|placed| (placed.entry.group, placed.entry.offset));
        record.new.sort_by_key(|placed| placed.entry.offset);
        record.prove_order()?;
        Ok(record)
    }

    /// The payload of an entry, or the zeroes that it records.
    pub(super) fn payload(&self, placed: &Placed, part: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(part.end - part.start).unwrap_or(0)];
        if !placed.entry.zero {
            self.read(placed.payload + part.start, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// The digests of the sectors of an entry that is not all zeroes.
    pub(super) fn digests(&self, placed: &Placed) -> Result<Vec<u8>> {
        self.payload(placed, 0..placed.entry.payload_bytes())
    }

    /// What each sector of a range held after the repair; `None` where that is not known.
    pub(super) fn digests_after(&self, range: &Range<u64>) -> Result<Vec<Option<Held>>> {
        let sectors = (range.end - range.start).div_ceil(SECTOR);
        let mut found = vec![None; usize::try_from(sectors).unwrap_or(0)];
        let first = self.new.partition_point(|p| p.entry.range().end <= range.start);
        for placed in self.new[first..].iter().take_while(|p| p.entry.offset < range.end) {
            let inside = placed.entry.range();
            let start = inside.start.max(range.start);
            let count = (inside.end.min(range.end) - start).div_ceil(SECTOR);
            let to = usize::try_from((start - range.start) / SECTOR).unwrap_or(0);
            let slots = found[to..].iter_mut().take(usize::try_from(count).unwrap_or(0));
            if placed.entry.zero {
                slots.for_each(|slot| *slot = Some(Held::Zero));
                continue;
            }
            let skip = (start - inside.start) / SECTOR * SHORT as u64;
            let digests = self.payload(placed, skip..skip + count * SHORT as u64)?;
            for (slot, bytes) in slots.zip(digests.chunks_exact(SHORT)) {
                let mut digest = [0; SHORT];
                digest.copy_from_slice(bytes);
                *slot = Some(Held::Digest(digest));
            }
        }
        Ok(found)
    }

    fn entry(&self, at: u64, end: u64) -> Result<Placed> {
        let damaged = || Error::Refused(format!("is damaged: no entry at offset {at:#x}"));
        let mut bytes = [0; ENTRY_BYTES];
        if end - at < ENTRY_BYTES as u64 {
            return Err(damaged());
        }
        self.read(at, &mut bytes)?;
        let entry = Entry::decode(&bytes).ok_or_else(damaged)?;
        let placed = Placed { entry, payload: at + ENTRY_BYTES as u64 };
        if entry.payload_bytes() > end - placed.payload {
            return Err(damaged());
        }
        if !entry.zero {
            let payload = self.payload(&placed, 0..entry.payload_bytes())?;
            if sha256(&payload) != entry.digest {
                let what = "is damaged: the digest of the entry at offset";
                return Err(Error::Refused(format!("{what} {at:#x} is wrong")));
            }
        }
        Ok(placed)
    }

    /// No sector is recorded twice in a group, and none is past the old end.
    fn prove_order(&self) -> Result<()> {
        let apart = |all: &[Placed]| {
            all.windows(2).all(|two| two[0].entry.range().end <= two[1].entry.offset)
        };
        let mut groups = self.old.chunk_by(|a, b| a.entry.group == b.entry.group);
        let inside = self.old.iter().all(|p| p.entry.range().end <= self.old_bytes);
        if inside && groups.all(apart) && apart(&self.new) {
            return Ok(());
        }
        Err(Error::Refused("is damaged: its entries contradict each other".into()))
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let failed = |e| Error::io("read the undo file", offset, e);
        self.file.read_exact_at(offset, bytes).map_err(failed)
    }
}

fn length(file: &dyn ReadAt) -> Result<u64> {
    file.len().map_err(|e| Error::file("determine the undo file's length", e))
}

fn sector(file: &dyn ReadAt, offset: u64) -> Result<Sector> {
    let mut bytes = [0; SECTOR_LEN];
    let failed = |e| Error::io("read the undo file", offset, e);
    file.read_padded_at(offset, &mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The commit that counts.
fn last_commit(file: &dyn ReadAt) -> Result<Commit> {
    let mut last: Option<Commit> = None;
    for offset in [SECTOR, 2 * SECTOR] {
        let damaged =
            |()| Error::Refused(format!("is damaged: the commit at {offset:#x} is wrong"));
        let commit = Commit::decode(&sector(file, offset)?).map_err(damaged)?;
        let later = commit.filter(|c| last.is_none_or(|l| l.sequence < c.sequence));
        last = later.or(last);
    }
    last.ok_or_else(|| {
        let what = "has no commit: the repair was interrupted before its first write to the image";
        Error::Refused(what.into())
    })
}
