//! A part of a source as a source of its own.

use std::io;
use std::ops::Range;

use crate::storage::ReadAt;

/// The bytes of a source in a range. It is not an open file by itself: its offsets differ.
#[derive(Debug)]
pub(crate) struct Window<R> {
    inner: R,
    range: Range<u64>,
}

impl<R: ReadAt> Window<R> {
    /// These bytes, as far as the source has them.
    pub(crate) const fn new(inner: R, range: Range<u64>) -> Self {
        Self { inner, range }
    }

    /// An offset of the window in the source, at most its end.
    fn place(&self, offset: u64) -> u64 {
        self.range.start.saturating_add(offset).min(self.range.end)
    }
}

impl<R: ReadAt> ReadAt for Window<R> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.len()?.min(self.range.end).saturating_sub(self.range.start))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let at = self.place(offset);
        let left = usize::try_from(self.range.end - at).unwrap_or(usize::MAX);
        let length = buf.len().min(left);
        self.inner.read_at(at, &mut buf[..length])
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let data = self.inner.next_data(self.place(offset))?;
        let cut = |at: u64| at.clamp(self.range.start, self.range.end) - self.range.start;
        Ok(data.map(|data| cut(data.start)..cut(data.end)).filter(|data| !data.is_empty()))
    }

    fn failure(&self) -> Option<io::Error> {
        self.inner.failure()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn will_need(&self, range: Range<u64>) {
        self.inner.will_need(self.place(range.start)..self.place(range.end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn a_window_has_the_bytes_of_its_range_and_no_others() {
        let bytes: Vec<u8> = (0..100).collect();
        for (range, want) in [(10..20, 10..20), (90..200, 90..100), (0..100, 0..100), (5..5, 5..5)]
        {
            let window = Window::new(MemoryStorage::new(bytes.clone()), range);
            let mut read = vec![0; 200];
            let n = window.read_at(0, &mut read).unwrap();
            assert_eq!(read[..n], bytes[want.clone()], "{want:?}");
            assert_eq!(window.len().unwrap(), n as u64);
            assert_eq!(window.read_at(n as u64, &mut read).unwrap(), 0);
            let data = window.next_data(0).unwrap();
            assert_eq!(data, (n > 0).then_some(0..n as u64), "{want:?}");
        }
    }
}
