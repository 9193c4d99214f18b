//! Remembers what is read of a storage.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::storage::{RangeSet, ReadAt};

/// A storage whose readers are watched; what they only peek at is not remembered.
pub struct Recorder<'a> {
    source: &'a dyn ReadAt,
    read: Mutex<RangeSet>,
}

impl<'a> Recorder<'a> {
    /// Nothing is read yet.
    pub fn new(source: &'a dyn ReadAt) -> Self {
        Self { source, read: Mutex::default() }
    }

    /// What was read, in order.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.lock().iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, RangeSet> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for Recorder<'_> {
    fn len(&self) -> io::Result<u64> {
        self.source.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read_at(offset, buf)?;
        self.lock().insert(offset..offset.saturating_add(n as u64));
        Ok(n)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.source.next_data(offset)
    }

    fn failure(&self) -> Option<io::Error> {
        self.source.failure()
    }

    fn is_remote(&self) -> bool {
        self.source.is_remote()
    }

    fn will_need(&self, range: Range<u64>) {
        self.source.will_need(range);
    }

    fn peek_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.source.peek_at(offset, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn ranges_that_meet_become_one_and_peeks_leave_no_trace() {
        let storage = MemoryStorage::new(vec![1; 100]);
        let recorder = Recorder::new(&storage);
        for (offset, length) in [(10, 5), (30, 5), (15, 5), (50, 0), (95, 20), (12, 2)] {
            recorder.read_padded_at(offset, &mut vec![0; length]).unwrap();
        }
        recorder.peek_at(70, &mut [0; 10]).unwrap();
        assert_eq!(recorder.ranges(), [10..20, 30..35, 95..100]);
        recorder.read_padded_at(5, &mut [0; 40]).unwrap();
        assert_eq!(recorder.ranges(), [5..45, 95..100]);
    }
}
