//! Appends to an undo file, and commits what was appended.

use std::io;
use std::ops::Range;

use super::encoding::{
    Commit, ENTRIES, Entry, Header, MAX_CHUNK, Recorded, SHORT, State, sha256, short,
};
use crate::error::cause;
use crate::sector::{SECTOR, SECTOR_LEN};
use crate::storage::{ReadAt, Storage, is_zero};

/// Zeroes from this length on have an entry of their own.
const ZERO_RUN: usize = 16 * SECTOR_LEN;

/// Bytes that are collected before they are written.
const BUFFER: usize = 1 << 20;

/// Where an undo file has got to.
#[derive(Debug)]
pub struct Writer {
    end: u64,
    buffer: Vec<u8>,
    group: u32,
    sequence: u64,
}

impl Writer {
    /// Begins a file that is empty.
    pub fn begin(file: &dyn Storage, image_bytes: u64) -> io::Result<Self> {
        file.write_at(0, &Header { image_bytes }.encode()).map_err(told)?;
        file.set_len(ENTRIES).map_err(told)?;
        Ok(Self { end: ENTRIES, buffer: Vec::new(), group: 0, sequence: 0 })
    }

    /// Bytes of the file so far.
    pub fn len(&self) -> u64 {
        self.end + self.buffer.len() as u64
    }

    /// Records what a range of the image holds now: the bytes where `recorded` is
    /// [`Recorded::Old`], digests otherwise.
    pub fn record(
        &mut self,
        file: &dyn Storage,
        image: &dyn ReadAt,
        range: Range<u64>,
        recorded: Recorded,
    ) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            // The bytes before the data are a hole, and reads as zeroes.
            let data = image.next_data(at)?.unwrap_or(range.end..range.end);
            let start = data.start.clamp(at, range.end);
            // Entries begin with a sector.
            let start = if start < range.end { start - start % SECTOR } else { start };
            self.entry(file, recorded, true, at..start, &[])?;
            let stop = data.end.checked_next_multiple_of(SECTOR).unwrap_or(range.end);
            let stop = stop.clamp(start, range.end);
            self.chunks(file, image, start..stop, recorded)?;
            at = stop;
        }
        Ok(())
    }

    /// Makes everything appended so far count, on stable storage.
    pub fn commit(&mut self, file: &dyn Storage, state: State) -> io::Result<()> {
        self.write_out(file)?;
        file.sync().map_err(told)?;
        self.sequence += 1;
        let commit = Commit { sequence: self.sequence, file_bytes: self.end, state };
        file.write_at(commit.place(), &commit.encode()).map_err(told)?;
        file.sync().map_err(told)?;
        self.group += 1;
        Ok(())
    }

    fn chunks(
        &mut self,
        file: &dyn Storage,
        image: &dyn ReadAt,
        range: Range<u64>,
        recorded: Recorded,
    ) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(MAX_CHUNK);
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            image.read_padded_at(at, &mut bytes)?;
            for run in runs(&bytes) {
                let payload = match recorded {
                    Recorded::Old => bytes[run.range.clone()].to_vec(),
                    Recorded::Watched | Recorded::New => digests_of(&bytes[run.range.clone()]),
                };
                let place = at + run.range.start as u64..at + run.range.end as u64;
                self.entry(file, recorded, run.zero, place, &payload)?;
            }
            at += length;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        file: &dyn Storage,
        recorded: Recorded,
        zero: bool,
        range: Range<u64>,
        payload: &[u8],
    ) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let digest = if zero { [0; 32] } else { sha256(payload) };
        let length = range.end - range.start;
        let entry =
            Entry { recorded, zero, group: self.group, offset: range.start, length, digest };
        self.buffer.extend(entry.encode());
        if !zero {
            self.buffer.extend(payload);
        }
        if self.buffer.len() >= BUFFER { self.write_out(file) } else { Ok(()) }
    }

    fn write_out(&mut self, file: &dyn Storage) -> io::Result<()> {
        file.write_at(self.end, &self.buffer).map_err(told)?;
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// The same error, marked as not an error of the image.
fn told(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the undo file: {}", cause(&error)))
}

fn digests_of(bytes: &[u8]) -> Vec<u8> {
    let mut digests = Vec::with_capacity(bytes.len().div_ceil(SECTOR_LEN) * SHORT);
    bytes.chunks(SECTOR_LEN).for_each(|sector| digests.extend(short(sector)));
    digests
}

/// Neighbouring sectors that are recorded together.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    range: Range<usize>,
    zero: bool,
}

/// The sectors in runs: long stretches of zeroes, and everything else.
fn runs(bytes: &[u8]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for chunk in bytes.chunks(SECTOR_LEN) {
        let zero = is_zero(chunk);
        match runs.last_mut() {
            Some(run) if run.zero == zero => run.range.end += chunk.len(),
            last => {
                let start = last.map_or(0, |run| run.range.end);
                runs.push(Run { range: start..start + chunk.len(), zero });
            }
        }
    }
    let short = |run: &Run| run.range.len() < ZERO_RUN && run.range.len() < bytes.len();
    for run in &mut runs {
        run.zero &= !short(run);
    }
    runs.dedup_by(|later, kept| {
        let same = later.zero == kept.zero;
        if same {
            kept.range.end = later.range.end;
        }
        same
    });
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_stretches_of_zeroes_are_kept_apart() {
        let mut bytes = vec![0; 64 * 512];
        assert_eq!(runs(&bytes), [Run { range: 0..64 * 512, zero: true }]);
        bytes[3 * 512] = 1;
        bytes[5 * 512] = 1;
        let want = [(0..6 * 512, false), (6 * 512..64 * 512, true)];
        assert_eq!(runs(&bytes), want.map(|(range, zero)| Run { range, zero }));
        assert_eq!(runs(&[0; 100]), [Run { range: 0..100, zero: true }]);
        assert_eq!(runs(&[]), []);
    }
}
