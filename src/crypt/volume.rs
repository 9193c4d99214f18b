//! The payload of a LUKS image as a disk: sectors that are encrypted where they are.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::SectorCipher;
use super::luks::Header;
use super::secret::Key;
use crate::error::Result;
use crate::sector::SECTOR;
use crate::storage::{Capacity, ReadAt, Storage};

/// Most bytes that are encrypted at once: a copy of them stays in the cache of the processor.
const PIECE: u64 = 128 << 10;

/// What is from an offset of a file to its end, encrypted by sectors. The first has the number 0.
///
/// Bytes that a file got by becoming longer are not zero here, but what zeroes are decrypted to.
#[derive(Debug)]
pub struct Volume<S> {
    inner: S,
    cipher: Arc<SectorCipher>,
    offset: u64,
    /// Held while a part of a sector is changed.
    parts: Mutex<()>,
}

impl<S: ReadAt> Volume<S> {
    /// The payload of the LUKS image that `inner` is.
    ///
    /// Fails as [`Header::open`].
    pub fn open(inner: S, key: &Key) -> Result<Self> {
        let (header, key) = Header::open(&inner, key)?;
        Ok(Self::new(inner, header.cipher(&key)?, header.payload_offset()))
    }

    /// The payload that begins at this offset.
    pub const fn new(inner: S, cipher: Arc<SectorCipher>, offset: u64) -> Self {
        Self { inner, cipher, offset, parts: Mutex::new(()) }
    }

    fn place(&self, offset: u64) -> io::Result<u64> {
        offset.checked_add(self.offset).ok_or_else(|| io::ErrorKind::FileTooLarge.into())
    }

    /// Reads whole sectors. Of one that the file has only a part of, the rest counts as zero
    /// before it is decrypted, as in QEMU.
    fn read_sectors(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_padded_at(self.place(offset)?, buf)?;
        self.cipher.decrypt(offset / SECTOR, buf);
        Ok(())
    }
}

/// The sectors that a range touches.
const fn sectors(range: &Range<u64>) -> Range<u64> {
    range.start / SECTOR * SECTOR..range.end.next_multiple_of(SECTOR)
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl<S: ReadAt> ReadAt for Volume<S> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.len()?.saturating_sub(self.offset).next_multiple_of(SECTOR))
    }

    fn failure(&self) -> Option<io::Error> {
        self.inner.failure()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.len()?.saturating_sub(offset);
        let wanted = buf.len().min(length(left));
        let buf = &mut buf[..wanted];
        let range = offset..offset + wanted as u64;
        let whole = sectors(&range);
        if range == whole {
            self.read_sectors(offset, buf)?;
        } else if wanted > 0 {
            let mut bytes = vec![0; length(whole.end - whole.start)];
            self.read_sectors(whole.start, &mut bytes)?;
            let from = length(range.start - whole.start);
            buf.copy_from_slice(&bytes[from..from + wanted]);
        }
        Ok(wanted)
    }

    fn will_need(&self, range: Range<u64>) {
        let at = |offset: u64| offset.saturating_add(self.offset);
        self.inner.will_need(at(range.start)..at(range.end));
    }
}

impl<S: Storage> Volume<S> {
    fn write_sectors(&self, offset: u64, mut bytes: Vec<u8>) -> io::Result<()> {
        self.cipher.encrypt(offset / SECTOR, &mut bytes);
        self.inner.write_at(self.place(offset)?, &bytes)
    }
}

impl<S: Storage> Storage for Volume<S> {
    fn capacity(&self) -> Capacity {
        match self.inner.capacity() {
            Capacity::Growable => Capacity::Growable,
            Capacity::Fixed(bytes) => Capacity::Fixed(bytes.saturating_sub(self.offset)),
        }
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        let whole = sectors(&(offset..end));
        if whole == (offset..end) {
            let pieces = data.chunks(length(PIECE));
            let mut at = offset;
            for piece in pieces {
                self.write_sectors(at, piece.to_vec())?;
                at += piece.len() as u64;
            }
            return Ok(());
        }
        let _alone = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = vec![0; length(whole.end - whole.start)];
        // What is past the end is zero.
        self.read_at(whole.start, &mut bytes)?;
        let from = length(offset - whole.start);
        bytes[from..from + data.len()].copy_from_slice(data);
        self.write_sectors(whole.start, bytes)
    }

    /// Makes the payload so long, in whole sectors. New bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = len.checked_next_multiple_of(SECTOR).ok_or(io::ErrorKind::FileTooLarge)?;
        let old = self.len()?;
        self.inner.set_len(self.place(len)?)?;
        if old < len { self.write_zeroes(old, len - old) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    /// Leaves the bytes as they are: a hole would not read as zeroes.
    fn discard(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.allocate(self.place(offset)?, length)
    }

    fn write_zeroes(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let end = offset.checked_add(bytes).ok_or(io::ErrorKind::FileTooLarge)?;
        let zeroes = vec![0; length(PIECE.min(bytes))];
        let mut at = offset;
        while at < end {
            let most = (end - at).min(PIECE - at % PIECE);
            self.write_at(at, &zeroes[..length(most)])?;
            at += most;
        }
        Ok(())
    }
}

#[cfg(all(test, feature = "encryption"))]
mod tests {
    use super::*;
    use crate::crypt::CipherSpec;
    use crate::storage::MemoryStorage;

    fn volume() -> Volume<MemoryStorage> {
        let spec = CipherSpec::of_header("aes", "xts-plain64", 32).unwrap();
        let cipher = Arc::new(SectorCipher::new(&spec, &[5; 32]).unwrap());
        Volume::new(MemoryStorage::new(vec![1; 4096]), cipher, 4096)
    }

    #[test]
    fn any_bytes_can_be_read_and_written() {
        let volume = volume();
        volume.set_len(5000).unwrap();
        let mut model = vec![0; 5120];
        for (at, length) in [(0, 512), (3, 5), (510, 4), (600, 2000), (4096, 904), (1024, 1024)] {
            let data: Vec<u8> =
                (0..length).map(|n| u8::try_from((n + at) % 251).unwrap()).collect();
            volume.write_at(at as u64, &data).unwrap();
            model[at..at + length].copy_from_slice(&data);
        }
        assert_eq!(volume.len().unwrap(), 5120);
        for (at, length) in [(0, 5120), (1, 3), (511, 2), (700, 1000)] {
            let mut read = vec![0; length];
            assert_eq!(volume.read_at(at as u64, &mut read).unwrap(), length);
            assert!(read == model[at..at + length], "{at} {length}");
        }
        assert_eq!(volume.read_at(5000, &mut [0; 500]).unwrap(), 120);
        assert_eq!(volume.read_at(9000, &mut [0; 5]).unwrap(), 0);
        assert!(volume.inner.to_vec()[..4096].iter().all(|&byte| byte == 1));
    }

    #[test]
    fn what_is_added_is_zero() {
        let volume = volume();
        volume.write_at(0, &[7; 700]).unwrap();
        volume.set_len(3 << 20).unwrap();
        volume.write_zeroes(100, 50).unwrap();
        let mut read = vec![9; 3 << 20];
        volume.read_exact_at(0, &mut read).unwrap();
        assert_eq!(read[..100], [7; 100]);
        assert_eq!(read[100..150], [0; 50]);
        assert_eq!(read[150..700], [7; 550]);
        assert!(read[700..].iter().all(|&byte| byte == 0));
        assert_ne!(volume.inner.to_vec()[4096 + 4096..][..16], [0; 16]);
    }
}
