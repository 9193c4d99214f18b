//! Persistent bitmaps, written into a new image.

use super::placement::Placement;
use crate::convert::bitmaps::Bitmaps;
use crate::error::{Error, Result};
use crate::format::bitmap::{
    BITMAPS_EXTENSION_BYTES, BitmapEntry, BitmapTableEntry, BitmapsExtension,
};
use crate::format::extension::{self, encode_extension};
use crate::format::{Geometry, HostOffset, encode_entries};
use crate::storage::Storage;

impl Bitmaps<'_> {
    /// Writes the bitmaps into a new image; returns the header extension that points to them, or
    /// nothing where there are none.
    pub(in crate::convert) fn write(
        &self,
        placement: &mut Placement,
        storage: &dyn Storage,
        geometry: &Geometry,
    ) -> Result<Vec<u8>> {
        if self.entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut directory = Vec::new();
        for entry in &self.entries {
            let table = self.write_bits(entry, placement, storage, geometry)?;
            let bytes = encode_entries(&table);
            let at = placement.place_table(bytes.len() as u64)?;
            put(storage, at, &bytes, geometry)?;
            let table_entries = u32::try_from(table.len()).unwrap_or(u32::MAX);
            BitmapEntry { table: at, table_entries, ..entry.clone() }.encode(&mut directory);
        }
        let at = placement.place_table(directory.len() as u64)?;
        put(storage, at, &directory, geometry)?;
        let fields = BitmapsExtension {
            count: u32::try_from(self.entries.len()).unwrap_or(u32::MAX),
            reserved: 0,
            directory_bytes: directory.len() as u64,
            directory: at,
        };
        let mut extension = Vec::with_capacity(BITMAPS_EXTENSION_BYTES + 8);
        encode_extension(&mut extension, extension::BITMAPS, &fields.encode());
        Ok(extension)
    }

    /// Writes the clusters of a bitmap that are neither all zeroes nor all ones; returns its table.
    fn write_bits(
        &self,
        entry: &BitmapEntry,
        placement: &mut Placement,
        storage: &dyn Storage,
        geometry: &Geometry,
    ) -> Result<Vec<u64>> {
        let bits = self.image.bitmap_bits(entry)?;
        let size = geometry.cluster_bytes();
        let mut cluster = vec![0; geometry.cluster_len()];
        let mut table = Vec::new();
        for index in 0..entry.table_entries_for(geometry) {
            bits.read(index * size, &mut cluster)?;
            table.push(match BitmapTableEntry::of_alike(&cluster) {
                Some(entry) => entry.0,
                None => {
                    let at = placement.place_table(size)?;
                    put(storage, at, &cluster, geometry)?;
                    at.get()
                }
            });
        }
        Ok(table)
    }
}

/// Writes a structure in whole clusters: a device may hold anything after it.
fn put(storage: &dyn Storage, at: HostOffset, bytes: &[u8], geometry: &Geometry) -> Result<()> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(geometry.cluster_len()), 0);
    storage.write_at(at.get(), &bytes).map_err(|e| Error::io("write a bitmap", at.get(), e))
}
