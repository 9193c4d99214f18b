//! An image without guest data: everything is left to its backing file.

use crate::error::{Error, Result};
use crate::format::ClusterCount;

use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::space::refcounts::Change;

impl Image {
    /// Gives up all guest data of the active disk, which then reads as its backing file. Size,
    /// bitmaps, snapshots and everything else in the header stay. The file gets as short as what is
    /// left allows. A crash leaves the data or nothing of it, and leaked clusters at worst.
    pub(crate) fn empty(&self) -> Result<()> {
        self.meta()?.empty()?;
        let Some(data) = &self.data_file else { return Ok(()) };
        let failed = |e| Error::file("discard the data file", e);
        let bytes = data.len().map_err(failed)?;
        // Only a hint: nothing refers to these bytes any more.
        let _ = data.discard(0, bytes);
        Ok(())
    }
}

impl Meta {
    fn empty(&mut self) -> Result<()> {
        if self.l1_entries().iter().all(|&entry| entry == 0) {
            return Ok(());
        }
        self.prepare_write()?;
        self.flush(true)?;
        self.require_not_cancelled()?;
        self.give_back_room();
        self.drop_active()?;
        // The new L1 table is after what was in use. A second one is where space has become free,
        // so that the file can end earlier.
        let l1 = self.geometry.cluster_floor(self.ordering.root(Side::Mappings).offset());
        let free = self.find_free(self.search_start, ClusterCount::new(1), false)?;
        if free.first < l1 {
            self.drop_active()?;
        }
        self.release_empty_blocks()?;
        self.cut_free_end()?;
        self.ordering.disk.sync()
    }

    /// Switches to an L1 table without entries, and then frees what the old one refers to.
    fn drop_active(&mut self) -> Result<()> {
        let old = self.l1_entries().to_vec();
        self.switch_active(vec![0; old.len()], self.geometry.virtual_size(), None)?;
        self.change_tree(&old, Change::Lower)?;
        self.flush(true)
    }
}
