//! What an image records of itself in its first cluster, changed with one write of a sector: the
//! backing file's name and format.

use crate::error::{Error, Result};
use crate::format::extension::{BACKING_FORMAT, EXTENSION_HEADER_BYTES};
use crate::format::feature::autoclear;
use crate::format::header::MAX_BACKING_NAME_BYTES;
use crate::format::rewrite::{Area, List, Used, plan};
use crate::format::{HostOffset, extension};
use crate::tables::HeaderArea;

use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::meta::bitmaps::POINTER_PLACE;

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

    /// Gives the first cluster these extensions and this name, and the fields that `fields` makes
    /// of the present ones.
    pub(super) fn rewrite_first_cluster(
        &mut self,
        area: &HeaderArea,
        extensions: List,
        backing_name: Vec<u8>,
        fields: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> Result<()> {
        self.prepare_write()?;
        self.flush(true)?;
        let mut old = vec![0; self.geometry.cluster_len()];
        self.ordering.disk.read(HostOffset::new(0), &mut old, "the header")?;
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(old.len());
        let name_at = index(area.header.backing_name_offset);
        let name_end = name_at.saturating_add(area.header.backing_name_len as usize);
        let used = Used {
            list_end: index(area.extensions_end()).saturating_add(EXTENSION_HEADER_BYTES),
            name: name_at..name_end.min(old.len()),
        };
        let length = area.header.header_length as usize;
        let new = Area { fields: fields(&old[..length]), extensions, backing_name };
        let Some(rewrite) = plan(&old, &used, &new) else {
            let why = "the header's cluster has no space for the present header and the new one";
            return Err(Error::Refused(why.into()));
        };
        let first = [(0, rewrite.switch)];
        let last = rewrite.last.map(|sector| (0, sector));
        for (at, bytes) in rewrite.before.into_iter().chain(first).chain(rewrite.after).chain(last)
        {
            self.ordering.disk.write_header_part(HostOffset::new(at as u64), &bytes)?;
            self.ordering.disk.sync()?;
        }
        self.find_bitmaps_again()
    }

    /// The bitmaps extension may be at another place of the header.
    fn find_bitmaps_again(&mut self) -> Result<()> {
        let area = HeaderArea::load(self.ordering.disk.file.as_ref())?;
        if let (Some(bitmaps), Some(found)) =
            (&mut self.bitmaps, area.whole_extension(extension::BITMAPS))
        {
            bitmaps.pointer = HostOffset::new(found.offset + POINTER_PLACE);
        }
        Ok(())
    }
}

/// The extensions of a header: type and data.
pub(super) fn extensions_of(area: &HeaderArea) -> List {
    area.extensions.iter().map(|e| (e.magic, e.data.clone())).collect()
}
