//! A header extension that records that clusters are on the move. What is leaked in an image that
//! has it was left by a crash meanwhile, and the next run frees it and goes on.

use crate::error::{Error, Result};
use crate::format::HostOffset;
use crate::format::extension::COMPACTING;
use crate::storage::MemoryStorage;
use crate::tables::HeaderArea;

use super::Meta;
use super::first_cluster::extensions_of;

impl Meta {
    /// Before the first step that a crash could leave leaks of: adds the extension, on stable
    /// storage, where the first cluster has space for it beside all that it has.
    pub(in crate::image) fn announce_moves(&mut self) -> Result<()> {
        if self.moves.is_announced {
            return Ok(());
        }
        self.moves.is_announced = true;
        self.prepare_write()?;
        self.flush(true)?;
        let area = HeaderArea::load(self.ordering.disk.file.as_ref())?;
        let mut extensions = extensions_of(&area);
        extensions.push((COMPACTING, Vec::new()));
        let count = extensions.len();
        let backing = area.backing_name.clone().unwrap_or_default();
        let rewrite = self.plan_first_cluster(&area, extensions, backing, <[u8]>::to_vec);
        let rewrite = match rewrite {
            Ok(rewrite) => rewrite,
            Err(Error::Refused(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut old = vec![0; self.geometry.cluster_len()];
        self.ordering.disk.read(HostOffset::new(0), &mut old, "the header")?;
        let result = HeaderArea::load(&MemoryStorage::new(rewrite.result(&old)))?;
        // The names of features may have to go for lack of space.
        if result.extensions.len() < count {
            return Ok(());
        }
        self.write_first_cluster(rewrite)
    }

    /// Once nothing moves any more and everything is on stable storage: takes the extension away.
    pub(in crate::image) fn end_announcement(&mut self) -> Result<()> {
        if !self.moves.is_announced {
            return Ok(());
        }
        self.flush(true)?;
        let area = HeaderArea::load(self.ordering.disk.file.as_ref())?;
        let mut extensions = extensions_of(&area);
        extensions.retain(|(magic, _)| *magic != COMPACTING);
        if extensions.len() < area.extensions.len() {
            let backing = area.backing_name.clone().unwrap_or_default();
            self.rewrite_first_cluster(&area, extensions, backing, <[u8]>::to_vec)?;
        }
        self.moves.is_announced = false;
        Ok(())
    }
}
