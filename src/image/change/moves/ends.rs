//! How the work begins and ends.

use crate::error::{Error, Result};

use crate::format::HostCluster;
use crate::image::Image;
use crate::image::order::ordering::Side;
use crate::image::order::root::RootTable;
use crate::storage::Storage;
use crate::tables::load_entries;

impl Image {
    /// Before anything is moved: from here on refcounts are right on disk at every moment, also
    /// with lazy refcounts, and the space of what is freed goes back to the file system.
    pub(crate) fn begin_moves(&self) -> Result<()> {
        let meta = &mut *self.meta()?;
        meta.require_writable()?;
        meta.moves.is_eager = true;
        meta.give_back_room();
        meta.flush(true)
    }

    /// Whether an earlier work on the image was broken off.
    pub(crate) fn has_unfinished_moves(&self) -> Result<bool> {
        Ok(self.meta()?.moves.is_announced)
    }

    /// Clusters are about to move: from here on a crash leaves an image that records it.
    pub(crate) fn announce_moves(&self) -> Result<()> {
        self.meta()?.announce_moves()
    }

    /// From here on free space before this cluster stays with the image.
    pub(crate) fn keep_room_before(&self, end: HostCluster) -> Result<()> {
        self.meta()?.moves.kept_before = end;
        Ok(())
    }

    /// Everything that was to move has, or is left for another time.
    pub(crate) fn end_moves(&self) -> Result<()> {
        self.meta()?.end_announcement()
    }

    /// The image file, to be changed without the engine; then [`Image::forget_tables`].
    pub(crate) fn unordered(&self) -> &dyn Storage {
        self.file.as_ref()
    }

    /// The tables are read from the file again: something else has changed them.
    pub(crate) fn forget_tables(&self) -> Result<()> {
        let meta = &mut *self.meta()?;
        let read = |side| -> Result<RootTable> {
            let root = meta.ordering.root(side);
            let (at, count) = (root.offset(), root.entries().len() as u64);
            let entries = load_entries(self.file.as_ref(), at, count);
            let entries = entries.map_err(|e| Error::io("read a table", at.get(), e))?;
            Ok(RootTable::new(at, entries))
        };
        let (l1, reftable) = (read(Side::Mappings)?, read(Side::Refcounts)?);
        meta.ordering.reset(l1, reftable);
        Ok(())
    }

    /// Gives up refcount blocks that count nothing.
    pub(crate) fn drop_empty_blocks(&self) -> Result<()> {
        let meta = &mut *self.meta()?;
        meta.prepare_write()?;
        meta.flush(true)?;
        meta.release_empty_blocks()
    }

    /// Makes the file end after the last cluster in use, where it can get shorter.
    pub(crate) fn cut_end(&self) -> Result<()> {
        let meta = &mut *self.meta()?;
        meta.flush(true)?;
        meta.cut_free_end()?;
        meta.ordering.disk.sync()
    }

    /// Bytes of metadata that were written since the image was opened.
    pub(crate) fn metadata_written(&self) -> Result<u64> {
        Ok(self.meta()?.ordering.disk.written())
    }

    /// Punches a hole into the image file where nothing is in use.
    pub(crate) fn punch(&self, offset: u64, bytes: u64) -> Result<()> {
        self.file
            .discard(offset, bytes)
            .map_err(|e| crate::error::Error::io("punch a hole", offset, e))
    }
}
