//! The digest of a disk as a guest sees it: every byte of its size, whatever holds it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::hasher::{Joiner, Piece, prepare};
use super::memo::{self, Memo};
use super::value::{Algorithm, Digest, NoDigest, Wanted};
use crate::check::parallel;
use crate::convert::InOrder;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// What is read and hashed together; no less than a cluster.
const PIECE_BYTES: u64 = 1 << 20;
/// Most threads: each has a piece in memory, and one more waits for its turn.
const MAX_THREADS: usize = 16;

/// Reads a disk and makes its digest.
pub fn digest(
    disk: &Disk,
    wanted: &Wanted,
    threads: usize,
    progress: &dyn Progress,
) -> std::result::Result<Digest, NoDigest> {
    digest_with(disk, wanted, threads, progress, wanted.algorithm.name(), None)
}

/// Likewise; `what` goes to `progress`, and `memo` has what other disks of the image have in
/// common with this one.
pub(super) fn digest_with(
    disk: &Disk,
    wanted: &Wanted,
    threads: usize,
    progress: &dyn Progress,
    what: &str,
    memo: Option<&Memo>,
) -> std::result::Result<Digest, NoDigest> {
    let size = disk.size().map_err(|e| NoDigest::of(&e))?;
    if let Some(most) = wanted.max_bytes.filter(|&most| size > most) {
        let reason = format!("the disk has {size} bytes, {most} are allowed");
        return Err(NoDigest { reason, damage: false });
    }
    let algorithm = wanted.algorithm;
    let threads = parallel::threads(threads).min(MAX_THREADS);
    let piece_bytes = disk.whole_grain().max(PIECE_BYTES);
    let work = Work {
        disk,
        algorithm,
        size,
        piece_bytes,
        next: AtomicU64::new(0),
        order: InOrder::new(Joiner::new(algorithm), threads as u64),
        pool: Mutex::default(),
        zeroes: vec![0; usize::try_from(piece_bytes.min(size)).unwrap_or(usize::MAX)],
        failed: AtomicBool::new(false),
        error: Mutex::default(),
        memo: memo.filter(|_| algorithm == Algorithm::Blake3),
        progress,
    };
    progress.stage(what, size);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // With fewer threads than requested it only takes longer.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || work.run());
        }
        work.run();
    });
    match work.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(Digest { algorithm, size, bytes: work.order.into_books().finish() }),
    }
}

struct Work<'a> {
    disk: &'a Disk,
    algorithm: Algorithm,
    size: u64,
    piece_bytes: u64,
    /// The next piece to work on.
    next: AtomicU64,
    order: InOrder<Piece, Joiner>,
    /// Buffers that nobody uses.
    pool: Mutex<Vec<Vec<u8>>>,
    zeroes: Vec<u8>,
    failed: AtomicBool,
    /// The first place that cannot be read.
    error: Mutex<Option<(u64, NoDigest)>>,
    memo: Option<&'a Memo>,
    progress: &'a dyn Progress,
}

impl Work<'_> {
    fn run(&self) {
        while !self.failed.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let start = number.saturating_mul(self.piece_bytes);
            if start >= self.size {
                return;
            }
            let bytes = self.piece_bytes.min(self.size - start);
            match self.piece(start, bytes) {
                Ok(piece) => self.submit(number, piece),
                Err((at, error)) => self.fail(at, &error),
            }
            self.progress.advance(bytes);
        }
    }

    /// Pieces are begun in order, so whatever comes before this one is read to its end: the first
    /// offset is reported.
    fn fail(&self, at: u64, error: &Error) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|(before, _)| at < *before) {
            *first = Some((at, NoDigest::at(at, error)));
        }
        drop(first);
        self.failed.store(true, Ordering::Relaxed);
        self.order.stop();
    }

    fn submit(&self, number: u64, piece: Piece) {
        let taken = self.order.submit(number, piece, |joiner, piece| {
            self.give_back(joiner.add(piece, &self.zeroes));
            Ok(())
        });
        // It takes no more only where another thread has failed, which returns the reason.
        drop(taken);
    }

    fn piece(&self, start: u64, bytes: u64) -> std::result::Result<Piece, (u64, Error)> {
        let memo = self.memo.zip(self.memo.and_then(|_| memo::place(self.disk, start, bytes)));
        if let Some(root) = memo.and_then(|(memo, place)| memo.find(start, &place)) {
            return Ok(Piece::Subtree(root));
        }
        let read = self.read(start, bytes)?;
        let (piece, buffer) = prepare(self.algorithm, read, (start, self.size), &self.zeroes);
        self.give_back(buffer);
        if let (Some((memo, place)), Piece::Subtree(root)) = (memo, &piece) {
            memo.keep(start, place, *root);
        }
        Ok(piece)
    }

    /// Reads what is not zero anyway; only how long it is where all is.
    fn read(&self, start: u64, bytes: u64) -> std::result::Result<Buffer, (u64, Error)> {
        let length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut buffer: Option<Vec<u8>> = None;
        let (mut at, end) = (start, start + bytes);
        while at < end {
            let (next, zero) = self.alike(at, end).map_err(|e| (at, e))?;
            let range = length(at - start)..length(next - start);
            if zero {
                if let Some(buffer) = &mut buffer {
                    buffer[range].fill(0);
                }
            } else {
                let buffer = buffer.get_or_insert_with(|| {
                    let mut buffer = self.take_buffer(length(bytes));
                    buffer[..range.start].fill(0);
                    buffer
                });
                self.disk.read_at(&mut buffer[range], at).map_err(|e| (at, e))?;
            }
            at = next;
        }
        Ok(buffer.ok_or_else(|| length(bytes)))
    }

    /// Up to where everything from `at` on is zero, or is not known to be.
    fn alike(&self, at: u64, end: u64) -> Result<(u64, bool)> {
        let first = self.disk.extent(at, end - at)?;
        let mut next = at + first.length;
        while next < end {
            // What fails there is reported when it is read.
            let Ok(extent) = self.disk.extent(next, end - next) else { break };
            if extent.zero != first.zero {
                break;
            }
            next += extent.length;
        }
        Ok((next, first.zero))
    }

    fn take_buffer(&self, length: usize) -> Vec<u8> {
        let kept = self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = kept.unwrap_or_default();
        buffer.resize(length, 0);
        buffer
    }

    fn give_back(&self, buffer: Option<Vec<u8>>) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).extend(buffer);
    }
}

/// A piece's bytes, or how many zeroes it is.
type Buffer = std::result::Result<Vec<u8>, usize>;
