//! What an image records of itself in its first cluster, changed with one write of a sector: the
//! backing file's name and format.

use crate::error::{Error, Result};
use crate::format::extension::BACKING_FORMAT;
use crate::format::feature::autoclear;
use crate::format::header::MAX_BACKING_NAME_BYTES;
use crate::tables::HeaderArea;

use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::meta::first_cluster::extensions_of;

/// A backing file as an image names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingLabel {
    /// The name: a path from the image's folder, or a description in JSON. At most 1023 bytes.
    pub name: Vec<u8>,
    /// The name of the format; empty where none is recorded.
    pub format: Vec<u8>,
}

impl Image {
    /// Records another backing file, or none, once everything that was written is on stable
    /// storage. What the guest reads is not looked at, and the backing file that is open stays
    /// open. After a crash the header has the old name and format or the new ones.
    pub(crate) fn set_backing(&self, backing: Option<&BackingLabel>) -> Result<()> {
        self.meta()?.set_backing(backing)
    }
}

impl Meta {
    fn set_backing(&mut self, backing: Option<&BackingLabel>) -> Result<()> {
        let area = HeaderArea::load(self.ordering.disk.file.as_ref())?;
        let named = backing.filter(|label| !label.name.is_empty());
        if let Some(label) = named {
            self.require_label(label)?;
        }
        let format = named.map_or(&[][..], |label| &label.format);
        let mut extensions = extensions_of(&area);
        let old = extensions.iter().position(|(magic, _)| *magic == BACKING_FORMAT);
        extensions.retain(|(magic, _)| *magic != BACKING_FORMAT);
        if !format.is_empty() {
            extensions.insert(old.unwrap_or(0), (BACKING_FORMAT, format.to_vec()));
        }
        let name = named.map(|label| label.name.clone()).unwrap_or_default();
        self.rewrite_first_cluster(&area, extensions, name, <[u8]>::to_vec)
    }

    fn require_label(&self, label: &BackingLabel) -> Result<()> {
        let refused = |why: &str| Err(Error::Refused(why.into()));
        if label.name.len() > MAX_BACKING_NAME_BYTES as usize {
            return refused("a backing file's name has 1023 bytes at most");
        }
        if label.name.contains(&0) {
            return refused("a backing file's name cannot contain a zero byte");
        }
        if self.header().autoclear & autoclear::DATA_FILE_RAW != 0 {
            return refused("an image whose data file is a raw disk by itself has no backing file");
        }
        Ok(())
    }
}
