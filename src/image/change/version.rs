//! Another version of the format, and what the header records of refcounts and the data file.

use crate::error::{Error, Result};
use crate::format::decode_entries;
use crate::format::extension::{DATA_FILE, FEATURE_NAMES};
use crate::format::feature::{autoclear, compatible, encode_known_feature_names};
use crate::format::header::{HeaderField, V2_BYTES, V3_BYTES_WITH_COMPRESSION, encode_field};
use crate::format::l1::L1Entry;
use crate::format::l2::{L2Entry, ZERO};
use crate::format::snapshot::SnapshotEntry;
use crate::tables::{HeaderArea, load_entries};

use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::meta::first_cluster::extensions_of;
use crate::image::order::ordering::Side;

/// The last byte of the version field.
const VERSION_BYTE: usize = 7;
/// log2 of the only refcount width of version 2.
const V2_REFCOUNT_ORDER: u64 = 4;

impl Image {
    /// Makes a version 2 image one of version 3.
    pub(crate) fn upgrade(&self) -> Result<()> {
        self.meta()?.upgrade()
    }

    /// Makes a version 3 image one of version 2. It must have nothing that version 2 does not know.
    pub(crate) fn downgrade(&self) -> Result<()> {
        self.meta()?.downgrade()
    }

    /// Whether the tables of a snapshot have entries for zeroes.
    pub(crate) fn snapshots_have_zeroes(&self) -> Result<bool> {
        self.meta()?.snapshots_have_zeroes()
    }

    /// Whether refcount updates are postponed from now on; those that are postponed now are made.
    pub(crate) fn set_lazy_refcounts(&self, lazy: bool) -> Result<()> {
        self.meta()?.set_lazy_refcounts(lazy)
    }

    /// The external data file no longer has to be readable as a raw disk by itself.
    pub(crate) fn forget_raw_data_file(&self) -> Result<()> {
        let mut meta = self.meta()?;
        let bits = meta.header().autoclear & !autoclear::DATA_FILE_RAW;
        meta.patch(HeaderField::Autoclear, bits)
    }

    /// Records another name of the external data file; an empty one: none.
    pub(crate) fn set_data_file_name(&self, name: &[u8]) -> Result<()> {
        let mut meta = self.meta()?;
        let area = HeaderArea::load(meta.ordering.disk.file.as_ref())?;
        let mut extensions = extensions_of(&area);
        extensions.retain(|(magic, _)| *magic != DATA_FILE);
        if !name.is_empty() {
            extensions.insert(0, (DATA_FILE, name.to_vec()));
        }
        let backing = area.backing_name.clone().unwrap_or_default();
        meta.rewrite_first_cluster(&area, extensions, backing, <[u8]>::to_vec)
    }
}

impl Meta {
    fn patch(&mut self, field: HeaderField, value: u64) -> Result<()> {
        self.prepare_write()?;
        self.flush(true)?;
        self.ordering.disk.patch_header(&[(field, value)])?;
        self.ordering.disk.sync()
    }

    fn upgrade(&mut self) -> Result<()> {
        // Version 2 takes snapshots that have no disk size.
        if !self.snapshots.iter().all(SnapshotEntry::is_complete) {
            self.prepare_write()?;
            self.switch_snapshots(self.snapshots.clone())?;
            self.flush(true)?;
        }
        let area = HeaderArea::load(self.ordering.disk.file.as_ref())?;
        let mut extensions = extensions_of(&area);
        if extensions.iter().all(|(magic, _)| *magic != FEATURE_NAMES) {
            extensions.push((FEATURE_NAMES, encode_known_feature_names()));
        }
        let backing = area.backing_name.clone().unwrap_or_default();
        self.rewrite_first_cluster(&area, extensions, backing, |old| {
            let mut fields = old[..V2_BYTES].to_vec();
            fields.resize(V3_BYTES_WITH_COMPRESSION, 0);
            fields[VERSION_BYTE] = 3;
            let length = V3_BYTES_WITH_COMPRESSION as u64;
            for (field, value) in [
                (HeaderField::RefcountOrder, V2_REFCOUNT_ORDER),
                (HeaderField::HeaderLength, length),
            ] {
                let (at, width) = field.place();
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                fields[at..at + width].copy_from_slice(&encode_field(field, value));
            }
            fields
        })
    }

    fn downgrade(&mut self) -> Result<()> {
        self.end_deferring()?;
        let area = HeaderArea::load(self.ordering.disk.file.as_ref())?;
        let mut extensions = extensions_of(&area);
        extensions.retain(|(magic, _)| *magic != FEATURE_NAMES);
        let backing = area.backing_name.clone().unwrap_or_default();
        self.rewrite_first_cluster(&area, extensions, backing, |old| {
            let mut fields = old[..V2_BYTES].to_vec();
            fields[VERSION_BYTE] = 2;
            fields
        })
    }

    fn set_lazy_refcounts(&mut self, lazy: bool) -> Result<()> {
        self.end_deferring()?;
        let old = self.header().compatible;
        let bit = compatible::LAZY_REFCOUNTS;
        let bits = if lazy { old | bit } else { old & !bit };
        if bits == old { Ok(()) } else { self.patch(HeaderField::Compatible, bits) }
    }

    fn snapshots_have_zeroes(&mut self) -> Result<bool> {
        for snapshot in self.snapshots.clone() {
            let (at, count) = (snapshot.header.l1_table, u64::from(snapshot.header.l1_entries));
            let l1 = load_entries(self.ordering.disk.file.as_ref(), at, count)
                .map_err(|source| Error::io("read a snapshot's L1 table", at.get(), source))?;
            let tables = l1.into_iter().map(|bits| L1Entry(bits).offset());
            for table in tables.filter(|at| at.get() != 0) {
                let words = decode_entries(self.ordering.glance(Side::Mappings, table)?);
                let is_zero =
                    |&bits: &u64| !L2Entry::standard(bits).is_compressed() && bits & ZERO != 0;
                if words.iter().any(is_zero) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
