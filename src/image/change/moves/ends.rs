//! How the work begins and ends.

use crate::error::Result;

use crate::image::Image;

impl Image {
    /// Before anything is moved: from here on refcounts are right on disk at every moment, also
    /// with lazy refcounts, and the space of what is freed goes back to the file system.
    pub(crate) fn begin_moves(&self) -> Result<()> {
        let meta = &mut *self.meta()?;
        meta.require_writable()?;
        meta.is_eager = true;
        meta.give_back_room();
        meta.flush(true)
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
