//! A new image whose header is not in the file before everything else is.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::create::NewImage;
use crate::create::header_last;
use crate::error::{Error, Result};
use crate::image::{BackingPolicy, Image, OpenOptions, Opened, Opener};
use crate::sector::SECTOR_LEN;
use crate::storage::{Capacity, ReadAt, Storage};

/// A storage whose first sector stays in memory until it is released.
pub(in crate::convert) struct HeldHeader {
    inner: Arc<dyn Storage>,
    sector: Mutex<[u8; SECTOR_LEN]>,
}

impl HeldHeader {
    /// Holds the first sector of `inner` back, and reads it as zeroes.
    pub(in crate::convert) fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, sector: Mutex::new([0; SECTOR_LEN]) }
    }

    /// Writes the first sector, after everything else.
    pub(in crate::convert) fn release(&self) -> Result<()> {
        header_last(&self.inner, &*self.sector())
    }

    fn sector(&self) -> MutexGuard<'_, [u8; SECTOR_LEN]> {
        self.sector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes from `offset` on are held back, of `length`.
    fn held(offset: u64, length: usize) -> usize {
        let left = (SECTOR_LEN as u64).saturating_sub(offset);
        usize::try_from(left).unwrap_or(SECTOR_LEN).min(length)
    }
}

impl ReadAt for HeldHeader {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read_at(offset, buf)?;
        let held = Self::held(offset, buf.len());
        if held > 0 {
            let start = usize::try_from(offset).unwrap_or(0);
            buf[..held].copy_from_slice(&self.sector()[start..start + held]);
        }
        Ok(read.max(held))
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        // What is held may be data where the file has a hole.
        let held = (SECTOR_LEN as u64).min(self.len()?);
        if offset < held { Ok(Some(offset..held)) } else { self.inner.next_data(offset) }
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn will_need(&self, range: Range<u64>) {
        self.inner.will_need(range);
    }
}

impl Storage for HeldHeader {
    fn capacity(&self) -> Capacity {
        self.inner.capacity()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (held, rest) = data.split_at(Self::held(offset, data.len()));
        if !held.is_empty() {
            let start = usize::try_from(offset).unwrap_or(0);
            self.sector()[start..start + held.len()].copy_from_slice(held);
        }
        if rest.is_empty() { Ok(()) } else { self.inner.write_at(offset + held.len() as u64, rest) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.discard(offset, length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.allocate(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        let held = Self::held(offset, usize::try_from(length).unwrap_or(usize::MAX));
        if held > 0 {
            let start = usize::try_from(offset).unwrap_or(0);
            self.sector()[start..start + held].fill(0);
        }
        self.inner.write_zeroes(offset, length)
    }
}

/// Opens the image in a held storage.
pub(in crate::convert) fn open(
    held: &Arc<HeldHeader>,
    data_file: Option<Arc<dyn Storage>>,
    new: &NewImage,
) -> Result<Image> {
    let options = OpenOptions {
        backing: BackingPolicy::Leave,
        data_file: data_file.as_ref().map(|_| Path::new("data").to_owned()),
        ..OpenOptions::default()
    };
    match Image::open_write(held.clone(), &options, &Given(data_file))? {
        Opened::Ready(image) => Ok(match new.encryption() {
            Some(header) => image.with_cipher(header.cipher()),
            None => *image,
        }),
        Opened::NeedsRepair => Err(Error::Refused("a new image is dirty".into())),
    }
}

/// Opens the data file that is open already.
struct Given(Option<Arc<dyn Storage>>);

impl Opener for Given {
    fn open_read(&self, _path: &Path) -> Result<Arc<dyn ReadAt>> {
        Err(Error::Refused("a new image has nothing below".into()))
    }

    fn open_write(&self, _path: &Path) -> Result<Arc<dyn Storage>> {
        self.0.clone().ok_or_else(|| Error::Refused("the data file is missing".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn the_first_sector_is_written_when_it_is_released() {
        let inner = Arc::new(MemoryStorage::new(Vec::new()));
        let held = HeldHeader::new(inner.clone());
        held.write_at(500, &[7; 24]).unwrap();
        let mut bytes = [1; 30];
        assert_eq!(held.read_at(500, &mut bytes).unwrap(), 24);
        assert_eq!(bytes[..24], [7; 24]);
        let mut below = [0; 12];
        inner.read_padded_at(500, &mut below).unwrap();
        assert_eq!(below, [0; 12]);
        held.release().unwrap();
        inner.read_padded_at(500, &mut below).unwrap();
        assert_eq!(below, [7; 12]);
    }

    #[test]
    fn holes_are_seen_but_in_the_first_sector() {
        let mut bytes = vec![0; 64 << 10];
        bytes[32 << 10] = 1;
        let held = HeldHeader::new(Arc::new(MemoryStorage::new(bytes)));
        assert_eq!(held.next_data(0).unwrap(), Some(0..512));
        assert_eq!(held.next_data(512).unwrap().map(|data| data.start), Some(32 << 10));
        assert_eq!(held.next_data(40 << 10).unwrap(), None);
    }
}
