//! A copy of an open image whose changes stay in memory.

use std::path::Path;
use std::sync::Arc;

use super::Opened;
use crate::chain::Opener;
use crate::error::{Error, Result};
use crate::image::{BackingPolicy, Image, OpenOptions};
use crate::storage::{Capacity, Overlay, ReadAt, ReadOnly, Storage};

/// Opens the data file that is open already, for reading.
struct Same<'a>(&'a Image);

impl Same<'_> {
    fn data_file(&self) -> Result<Arc<dyn Storage>> {
        let missing = || Error::Refused("the external data file is not open".into());
        self.0.data_file.clone().ok_or_else(missing)
    }
}

impl Opener for Same<'_> {
    fn open_read(&self, _path: &Path) -> Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(self.data_file()?))
    }

    fn open_write(&self, path: &Path) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(ReadOnly(self.open_read(path)?)))
    }
}

impl Image {
    /// The image as its file has it, open for writing, with `most` bytes of changes in memory and
    /// none in the file, which has this capacity. Its backing file is closed.
    pub(crate) fn in_memory(&self, capacity: Capacity, most: usize) -> Result<Self> {
        let failed = |e| Error::file("get the length", e);
        let file = Overlay::new(self.file.clone(), capacity, most).map_err(failed)?;
        let options = OpenOptions {
            path: self.names.image.clone(),
            data_file: self.names.data_file.clone(),
            backing: BackingPolicy::Leave,
            ..OpenOptions::default()
        };
        match Self::open_write(Arc::new(file), &options, &Same(self))? {
            Opened::Ready(mut image) => {
                image.encryption = self.encryption.as_ref().map(|e| e.of_data());
                Ok(*image)
            }
            Opened::NeedsRepair => Err(Error::NeedsRepair),
        }
    }
}
