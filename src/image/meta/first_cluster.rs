//! The first cluster with another header, other extensions or another backing file's name, changed
//! with one write of a sector.

use crate::error::{Error, Result};
use crate::format::extension::EXTENSION_HEADER_BYTES;
use crate::format::rewrite::{Area, List, Rewrite, Used, plan};
use crate::format::{HostOffset, extension};
use crate::tables::HeaderArea;

use super::Meta;
use super::bitmaps::POINTER_PLACE;

impl Meta {
    /// Gives the first cluster these extensions and this name, and the fields that `fields` makes
    /// of the present ones.
    pub(in crate::image) fn rewrite_first_cluster(
        &mut self,
        area: &HeaderArea,
        extensions: List,
        backing_name: Vec<u8>,
        fields: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> Result<()> {
        self.prepare_write()?;
        self.flush(true)?;
        let rewrite = self.plan_first_cluster(area, extensions, backing_name, fields)?;
        self.write_first_cluster(rewrite)
    }

    /// Does the writes of [`Meta::plan_first_cluster`].
    pub(in crate::image) fn write_first_cluster(&mut self, rewrite: Rewrite) -> Result<()> {
        let first = [(0, rewrite.switch)];
        let last = rewrite.last.map(|sector| (0, sector));
        for (at, bytes) in rewrite.before.into_iter().chain(first).chain(rewrite.after).chain(last)
        {
            self.ordering.disk.write_header_part(HostOffset::new(at as u64), &bytes)?;
            self.ordering.disk.sync()?;
        }
        self.find_bitmaps_again()
    }

    /// The writes of [`Meta::rewrite_first_cluster`]. [`Error::Refused`] where the cluster has no
    /// space for them.
    pub(in crate::image) fn plan_first_cluster(
        &self,
        area: &HeaderArea,
        extensions: List,
        backing_name: Vec<u8>,
        fields: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> Result<Rewrite> {
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
        plan(&old, &used, &new).ok_or_else(|| {
            let why = "the header's cluster has no space for the present header and the new one";
            Error::Refused(why.into())
        })
    }

    /// The bitmaps extension may be at another place of the header.
    pub(in crate::image) fn find_bitmaps_again(&mut self) -> Result<()> {
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
pub(in crate::image) fn extensions_of(area: &HeaderArea) -> List {
    area.extensions.iter().map(|e| (e.magic, e.data.clone())).collect()
}
