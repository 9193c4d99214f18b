//! A file with another beginning: what an image would be with a header that is not written yet.

use std::io;
use std::ops::Range;

use crate::storage::ReadAt;

/// A file whose first bytes are replaced, perhaps made longer by zeroes.
pub struct Overlay<'a> {
    source: &'a dyn ReadAt,
    head: &'a [u8],
    /// Its length at least.
    least: u64,
}

impl<'a> Overlay<'a> {
    /// The file as it would be with this beginning and at least this length.
    pub fn new(source: &'a dyn ReadAt, head: &'a [u8], least: u64) -> Self {
        Self { source, head, least }
    }
}

impl ReadAt for Overlay<'_> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.source.len()?.max(self.head.len() as u64).max(self.least))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let room = self.len()?.saturating_sub(offset);
        let wanted = usize::try_from(room).unwrap_or(usize::MAX).min(buf.len());
        self.source.read_padded_at(offset, &mut buf[..wanted])?;
        let head = usize::try_from(offset).ok().and_then(|at| self.head.get(at..));
        if let Some(head) = head {
            let bytes = head.len().min(wanted);
            buf[..bytes].copy_from_slice(&head[..bytes]);
        }
        Ok(wanted)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let head = self.head.len() as u64;
        if offset < head { Ok(Some(offset..head)) } else { self.source.next_data(offset) }
    }

    fn is_remote(&self) -> bool {
        self.source.is_remote()
    }

    fn will_need(&self, range: Range<u64>) {
        self.source.will_need(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn the_first_bytes_are_replaced_and_the_rest_shines_through() {
        let file = MemoryStorage::new(vec![7; 16]);
        let overlay = Overlay::new(&file, &[1, 2, 3], 20);
        let mut bytes = [9; 24];
        assert_eq!(overlay.read_at(1, &mut bytes).unwrap(), 19);
        assert_eq!(bytes[..4], [2, 3, 7, 7]);
        assert_eq!(bytes[14..19], [7, 0, 0, 0, 0]);
        assert_eq!(overlay.next_data(1).unwrap(), Some(1..3));
    }
}
