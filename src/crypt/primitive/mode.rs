//! What a mode of operation does: it encrypts whole sectors.

use aes::Block;

use crate::sector::SECTOR_LEN;

/// Blocks of a sector.
pub(super) const BLOCKS: usize = SECTOR_LEN / 16;

/// A cipher in its mode: whole sectors, each with its initial vector, which may be overwritten.
pub(super) trait SectorMode: Send + Sync {
    /// Encrypts sectors.
    fn encrypt(&self, ivs: &mut [Block], data: &mut [Block]);
    /// Decrypts sectors.
    fn decrypt(&self, ivs: &mut [Block], data: &mut [Block]);
}
