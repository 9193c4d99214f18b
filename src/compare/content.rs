//! Bytes of two disks, compared by several threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::outcome::{Failure, Phase, Side};
use crate::disk::{Disk, Extent, Extents, shared_from};
use crate::error::Error;
use crate::progress::Progress;
use crate::sector::SECTOR;
use crate::storage::is_zero;
use crate::threads;

/// Bytes that are read from each disk and compared at once; no less than a cluster.
const PIECE_BYTES: u64 = 1 << 20;
/// The longest range that is skipped at once, so that progress is reported.
const LONGEST: u64 = 1 << 36;

/// What is compared, and how.
pub(super) struct Work<'a> {
    pub(super) disks: [&'a Disk; 2],
    /// The guest offset at which to end.
    pub(super) end: u64,
    /// How many threads; 0: one for each core.
    pub(super) threads: usize,
    pub(super) progress: &'a dyn Progress,
}

/// The guest offset of the first sector with other bytes; `None` where there is none.
pub(super) fn first_difference(work: &Work<'_>) -> Result<Option<u64>, Failure> {
    work.progress.stage("comparing", work.end);
    let [first, second] = work.disks;
    let grain = first.whole_grain().max(second.whole_grain());
    let shared = Shared {
        work,
        piece_bytes: grain.max(PIECE_BYTES),
        feed: Mutex::new(Feed {
            at: 0,
            extents: [first, second].map(|disk| disk.extents(0..u64::MAX)),
        }),
        shared: shared_from(first, second),
        first: AtomicU64::new(u64::MAX),
        outcome: Mutex::new(None),
    };
    let threads = threads::or_cores(work.threads);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // With fewer threads than requested it only takes longer.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || shared.work());
        }
        shared.work();
    });
    match shared.outcome.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(None),
        Some((at, None)) => Ok(Some(at)),
        Some((_, Some(failure))) => Err(failure),
    }
}

/// A range in which something has to be read.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u64,
    bytes: u64,
    /// Which disks surely have zeroes there; not both.
    zero: [bool; 2],
}

/// Pieces are handed out in the order of the disk, so that all those before a difference are
/// compared.
struct Feed<'a> {
    /// The guest offset at which the next piece is looked for.
    at: u64,
    extents: [Extents<'a>; 2],
}

struct Shared<'a> {
    work: &'a Work<'a>,
    piece_bytes: u64,
    feed: Mutex<Feed<'a>>,
    /// From how many images down both chains are the same ones.
    shared: Option<[usize; 2]>,
    /// The first offset at which something was found so far.
    first: AtomicU64,
    outcome: Mutex<Option<(u64, Option<Failure>)>>,
}

impl Shared<'_> {
    fn work(&self) {
        let mut buffers = [Vec::new(), Vec::new()];
        loop {
            if self.work.progress.is_cancelled() {
                return self.found(0, Some(failure(Side::First, 0, Error::Cancelled)));
            }
            let piece = match self.next() {
                Ok(Some(piece)) => piece,
                Ok(None) => return,
                Err(failure) => return self.found(failure.offset, Some(failure)),
            };
            match self.compare(piece, &mut buffers) {
                Ok(None) => self.work.progress.advance(piece.bytes),
                Ok(Some(at)) => return self.found(at, None),
                Err(failure) => return self.found(failure.offset, Some(failure)),
            }
        }
    }

    /// Keeps what was found, unless something before it was.
    fn found(&self, at: u64, failure: Option<Failure>) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.as_ref().is_none_or(|(first, _)| at < *first) {
            *outcome = Some((at, failure));
            self.first.store(at, Ordering::Relaxed);
        }
    }

    /// The next piece that has to be read.
    fn next(&self) -> Result<Option<Piece>, Failure> {
        let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        let end = self.work.end.min(self.first.load(Ordering::Relaxed));
        let mut piece: Option<Piece> = None;
        while feed.at < end {
            let at = feed.at;
            let limit = match piece {
                None => end.min(at.saturating_add(LONGEST)),
                Some(piece) => end.min((piece.start / self.piece_bytes + 1) * self.piece_bytes),
            };
            if at >= limit {
                break;
            }
            let (bytes, zero, skip) = match self.look(&mut feed.extents, at, limit - at) {
                // What is before it comes first.
                Err(_) if piece.is_some() => break,
                looked => looked?,
            };
            match &mut piece {
                None if skip => self.work.progress.advance(bytes),
                None => {
                    let most = self.piece_bytes - at % self.piece_bytes;
                    piece = Some(Piece { start: at, bytes: bytes.min(most), zero });
                    feed.at += bytes.min(most);
                    continue;
                }
                Some(piece) if !skip && piece.zero == zero => piece.bytes += bytes,
                Some(_) => break,
            }
            feed.at += bytes;
        }
        Ok(piece)
    }

    /// How many bytes from `at` on are alike, which disks have zeroes there, and whether they need
    /// not be read.
    fn look(
        &self,
        [first, second]: &mut [Extents<'_>; 2],
        at: u64,
        most: u64,
    ) -> Result<(u64, [bool; 2], bool), Failure> {
        let first = known(first, Side::First, at)?;
        let second = known(second, Side::Second, at)?;
        let bytes = most.min(first.length).min(second.length);
        let is_shared = self.shared.is_some_and(|[above_first, above_second]| {
            first.left >= above_first && second.left >= above_second
        });
        let zero = [first.zero, second.zero];
        Ok((bytes, zero, is_shared || zero == [true, true]))
    }

    fn disk(&self, side: Side) -> &Disk {
        match side {
            Side::First => self.work.disks[0],
            Side::Second => self.work.disks[1],
        }
    }

    /// Where the first sector with other bytes is.
    fn compare(&self, piece: Piece, buffers: &mut [Vec<u8>; 2]) -> Result<Option<u64>, Failure> {
        let length = usize::try_from(piece.bytes).unwrap_or(usize::MAX);
        for (side, buffer, zero) in
            [(Side::First, 0, piece.zero[0]), (Side::Second, 1, piece.zero[1])]
        {
            let buffer = &mut buffers[buffer];
            buffer.resize(length, 0);
            if !zero {
                let read = self.disk(side).read_at(buffer, piece.start);
                read.map_err(|error| failure(side, piece.start, error))?;
            }
        }
        let [first, second] = buffers;
        let other = match piece.zero {
            [true, _] => (!is_zero(second)).then(|| other_than_zero(second)),
            [_, true] => (!is_zero(first)).then(|| other_than_zero(first)),
            _ => (first != second).then(|| {
                first
                    .iter()
                    .zip(second.iter())
                    .take_while(|(first, second)| first == second)
                    .count()
            }),
        };
        other.map(|within| self.told(piece.start + within as u64)).transpose()
    }

    /// The offset that is reported for a byte: that of its sector, or of the end of a raw image in
    /// it.
    fn told(&self, at: u64) -> Result<u64, Failure> {
        let mut told = at / SECTOR * SECTOR;
        for (side, disk) in [(Side::First, self.work.disks[0]), (Side::Second, self.work.disks[1])]
        {
            if let Disk::Raw(raw) = disk {
                let length = raw.storage().len();
                let length =
                    length.map_err(|e| failure(side, at, Error::file("get the length", e)))?;
                if length <= at {
                    told = told.max(length);
                }
            }
        }
        Ok(told)
    }
}

/// What is known of the bytes from `at` on; after the end of the disk they are zeroes.
fn known<'a>(extents: &mut Extents<'a>, side: Side, at: u64) -> Result<Extent<'a>, Failure> {
    let failed = |error| Failure { side, phase: Phase::Mapping, offset: at, error };
    Ok(extents.at(at).map_err(failed)?.unwrap_or_else(|| Extent::nothing(at)))
}

fn other_than_zero(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|&&byte| byte == 0).count()
}

fn failure(side: Side, offset: u64, error: Error) -> Failure {
    Failure { side, phase: Phase::Reading, offset, error }
}
