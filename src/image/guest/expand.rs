//! Zeroes without entries for zeroes, as version 2 of the format has none.

use crate::error::Result;
use crate::format::GuestOffset;

use super::runs::RunKind;
use crate::image::Image;

/// Zeroes that are written at once.
const PIECE_BYTES: u64 = 1 << 20;

impl Image {
    /// Replaces all entries for zeroes of the active disk: by nothing where there is no backing
    /// file, and by clusters of zeroes where one would show through. `advance` is called with the
    /// bytes that are done, and can end it with an error.
    pub(crate) fn expand_zeroes(&self, mut advance: impl FnMut(u64) -> Result<()>) -> Result<()> {
        let end = self.virtual_size();
        let zeroes = vec![0; usize::try_from(PIECE_BYTES.min(end)).unwrap_or(0)];
        let mut at = 0;
        while at < end {
            let start = GuestOffset::new(at);
            let run = self.map(start, end - at)?;
            let mut length = run.length;
            if run.kind == RunKind::Zero && self.backing.is_none() {
                self.discard(start, length)?;
            } else if run.kind == RunKind::Zero {
                length = length.min(zeroes.len() as u64);
                self.write(start, &zeroes[..usize::try_from(length).unwrap_or(0)])?;
            }
            at += length;
            advance(length)?;
        }
        Ok(())
    }
}
