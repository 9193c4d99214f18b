//! Bytes that are looked at to find out whether they matter at all.

use std::io;
use std::ops::Range;

use crate::storage::ReadAt;

/// A view through which every read is a peek: whoever records what is read leaves these out.
pub struct Peeked<'a>(pub &'a dyn ReadAt);

impl ReadAt for Peeked<'_> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = self.len()?.saturating_sub(offset);
        let count = buf.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        self.0.peek_at(offset, &mut buf[..count])?;
        Ok(count)
    }

    fn failure(&self) -> Option<io::Error> {
        self.0.failure()
    }

    fn is_remote(&self) -> bool {
        self.0.is_remote()
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.0.next_data(offset)
    }
}
