//! Another bitmap directory: other bitmaps, or other flags and tables.
//!
//! Bits, tables and directory are complete on disk, in clusters that were free, before one write of
//! the header's first sector points to them. A crash leaves the old bitmaps or the new ones, and
//! leaked clusters at worst.

use crate::error::{Error, Result};
use crate::format::bitmap::{
    BITMAPS_EXTENSION_BYTES, BitmapEntry, BitmapsExtension, MAX_BITMAPS, MAX_DIRECTORY_BYTES,
};
use crate::format::extension::BITMAPS;
use crate::format::feature::autoclear;
use crate::format::header::{HeaderField, encode_field};
use crate::format::rewrite::List;
use crate::format::{Geometry, HostOffset};
use crate::sector::SECTOR_LEN;
use crate::tables::HeaderArea;

use super::Rebuilt;
use crate::image::meta::Meta;
use crate::image::meta::bitmaps::Bitmaps;
use crate::image::meta::first_cluster::extensions_of;

impl Meta {
    /// The bitmaps of the image, in the order of their directory.
    pub(super) fn bitmap_entries(&self) -> &[BitmapEntry] {
        self.bitmaps.as_ref().map_or(&[][..], Bitmaps::entries)
    }

    /// Refuses a directory of these entries where the format, QEMU's limits or the header's cluster
    /// have no space for it.
    pub(super) fn require_directory(&self, entries: &[BitmapEntry]) -> Result<()> {
        self.require_writable()?;
        let refused = |why: &str| Err(Error::Refused(why.into()));
        if self.header().version < 3 {
            return refused("Cannot store dirty bitmaps in qcow2 v2 files: they need compat=1.1");
        }
        if entries.len() > MAX_BITMAPS as usize {
            return refused("Maximum number of persistent bitmaps is already reached");
        }
        let bytes = entries.iter().map(BitmapEntry::entry_bytes).sum::<u64>();
        if bytes > MAX_DIRECTORY_BYTES {
            return refused("Not enough space in the bitmap directory");
        }
        let area = HeaderArea::load(self.ordering.disk.file.as_ref())?;
        let extension = area.whole_extension(BITMAPS);
        if extension.is_some_and(|found| found.data.len() != BITMAPS_EXTENSION_BYTES) {
            return refused("the image's bitmaps extension has a wrong length");
        }
        if in_place(&area).is_some() && !entries.is_empty() {
            return Ok(());
        }
        // No present content equals this offset, so that the plan needs as much space as any.
        let extensions = with_directory(&area, entries, HostOffset::new(u64::MAX));
        let name = area.backing_name.clone().unwrap_or_default();
        self.plan_first_cluster(&area, extensions, name, <[u8]>::to_vec).map(|_| ())
    }

    /// Builds bitmaps with `build`, writes their directory, and makes them those of the image. A
    /// failure leaves the bitmaps that there were.
    pub(super) fn replace_bitmaps(
        &mut self,
        build: impl FnOnce(&mut Self, &mut Rebuilt) -> Result<()>,
    ) -> Result<()> {
        self.prepare_write()?;
        self.store_bitmaps()?;
        let mut rebuilt = Rebuilt::beside(self.bitmaps.as_ref(), &self.geometry);
        let built = build(self, &mut rebuilt);
        if built.is_ok() && rebuilt.entries == self.bitmap_entries() {
            self.drop_rebuilt(rebuilt);
            return Ok(());
        }
        let built = built.and_then(|()| match rebuilt.entries.is_empty() {
            true => Ok(()),
            false => self.build_directory(&mut rebuilt),
        });
        let outcome = built.and_then(|()| self.point_to(&rebuilt));
        self.finish_bitmaps(Some(rebuilt), outcome)?;
        self.flush(true)
    }

    /// Makes the header point to a directory, or to none where there are no bitmaps.
    fn point_to(&mut self, rebuilt: &Rebuilt) -> Result<()> {
        let area = HeaderArea::load(self.ordering.disk.file.as_ref())?;
        if let Some(at) = in_place(&area).filter(|_| !rebuilt.entries.is_empty()) {
            self.flush(true)?;
            let fields = pointer_to(&rebuilt.entries, rebuilt.directory).encode();
            self.ordering.disk.write_header_part(at, &fields)?;
            return self.ordering.disk.sync();
        }
        let extensions = with_directory(&area, &rebuilt.entries, rebuilt.directory);
        let bits = match rebuilt.entries.is_empty() {
            true => area.header.autoclear & autoclear::KNOWN & !autoclear::BITMAPS,
            false => area.header.autoclear & autoclear::KNOWN | autoclear::BITMAPS,
        };
        let name = area.backing_name.clone().unwrap_or_default();
        self.rewrite_first_cluster(&area, extensions, name, |fields| {
            let mut fields = fields.to_vec();
            let bytes = encode_field(HeaderField::Autoclear, bits);
            let at = usize::try_from(HeaderField::Autoclear.place().0).unwrap_or(usize::MAX);
            fields[at..at + bytes.len()].copy_from_slice(&bytes);
            fields
        })?;
        if self.bitmaps.is_none() && !rebuilt.entries.is_empty() {
            let pointer = HostOffset::new(0);
            self.bitmaps = Some(Bitmaps::new(pointer, rebuilt.directory, Vec::new()));
            self.find_bitmaps_again()?;
        }
        Ok(())
    }
}

/// Where the extension's data can be changed with one write: it is within one sector, and counts.
fn in_place(area: &HeaderArea) -> Option<HostOffset> {
    let found = area.whole_extension(BITMAPS)?;
    let counts = area.header.autoclear & autoclear::BITMAPS != 0;
    let last = found.offset + found.data.len() as u64 - 1;
    let sector = SECTOR_LEN as u64;
    let alone = found.offset / sector == last / sector;
    (counts && alone).then(|| HostOffset::new(found.offset))
}

fn pointer_to(entries: &[BitmapEntry], directory: HostOffset) -> BitmapsExtension {
    BitmapsExtension {
        count: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        reserved: 0,
        directory_bytes: entries.iter().map(BitmapEntry::entry_bytes).sum(),
        directory,
    }
}

/// The extensions of a header that points to a directory of these entries; without entries it
/// points to none.
fn with_directory(area: &HeaderArea, entries: &[BitmapEntry], at: HostOffset) -> List {
    let mut extensions = extensions_of(area);
    let old = extensions.iter().position(|(magic, _)| *magic == BITMAPS);
    extensions.retain(|(magic, _)| *magic != BITMAPS);
    if !entries.is_empty() {
        let fields = pointer_to(entries, at);
        let place = old.unwrap_or(extensions.len());
        extensions.insert(place, (BITMAPS, fields.encode().to_vec()));
    }
    extensions
}

/// Refuses a bitmap over QEMU's limit for the data of one.
pub(super) fn require_data_limit(entry: &BitmapEntry, geometry: &Geometry) -> Result<()> {
    if entry.is_within_limits(geometry) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "Can't make bitmap '{}' persistent: Too much space will be occupied by the bitmap. Use \
         larger granularity",
        entry.name_text().escape_debug()
    )))
}
