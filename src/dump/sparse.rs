//! Writing into a file of holes.

use crate::error::{Error, Result};
use crate::storage::Storage;

/// What is zero in blocks of so many bytes is not written.
const BLOCK: u64 = 4096;

/// Writes what is not zero.
pub fn write_sparsely(target: &dyn Storage, offset: u64, bytes: &[u8]) -> Result<()> {
    let mut at = 0;
    // A run of blocks that are not zero; blocks begin where those of the file do.
    let mut start = None;
    while at < bytes.len() {
        let room = BLOCK - (offset + at as u64) % BLOCK;
        let end = usize::try_from(room).unwrap_or(usize::MAX).saturating_add(at).min(bytes.len());
        if bytes[at..end].iter().any(|&byte| byte != 0) {
            start = start.or(Some(at));
        } else if let Some(start) = start.take() {
            write(target, offset + start as u64, &bytes[start..at])?;
        }
        at = end;
    }
    match start {
        Some(start) => write(target, offset + start as u64, &bytes[start..]),
        None => Ok(()),
    }
}

/// Writes bytes, if there are any.
pub fn write(target: &dyn Storage, offset: u64, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    target.write_at(offset, bytes).map_err(|e| Error::io("write metadata", offset, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn what_is_not_zero_is_written_whatever_its_place() {
        let mut bytes = vec![0; 40_000];
        for at in [0, 1, 5000, 20_000, 39_999] {
            bytes[at] = 7;
        }
        for offset in [0, 1, 4095, 4096] {
            let target = MemoryStorage::new(vec![0; 50_000]);
            write_sparsely(&target, offset, &bytes).unwrap();
            let start = usize::try_from(offset).unwrap();
            assert_eq!(target.to_vec()[start..start + bytes.len()], bytes, "{offset}");
        }
    }
}
