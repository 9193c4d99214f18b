//! Opening an image: which features are served, what is loaded, and what is refused.

mod backing;
mod copy;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::chain::{self, FileOpener, Opener, Walk};
use crate::codec::Decompressors;
use crate::error::{Error, Result};
use crate::file::{ImageFile, Intent};
use crate::format::crypto::CryptMethod;
use crate::format::extension;
use crate::format::feature::{autoclear, incompatible};
use crate::format::header::HeaderField;
use crate::format::l1::{L1Entry, MAX_L1_BYTES};
use crate::format::probe::ImageFormat;
use crate::format::refcount::{MAX_REFTABLE_BYTES, ReftableEntry};
use crate::format::snapshot::{MAX_SNAPSHOTS, SnapshotEntry};
use crate::format::{HostCluster, HostOffset};
use crate::storage::{ReadAt, ReadOnly, Storage};
use crate::tables::{BitmapDirectory, HeaderArea, SnapshotTable, load_entries};

use super::meta::bitmaps::{Bitmaps, POINTER_PLACE};
use super::meta::moves::Moves;
use super::{Image, Names, OpenOptions};
use crate::image::damage::damaged;
use crate::image::meta::Meta;
use crate::image::meta::encryption::Encryption;
use crate::image::order::disk::Disk;
use crate::image::order::ordering::Ordering;
use crate::image::order::regions::{Owner, Regions};
use crate::image::order::root::RootTable;
use crate::image::run::ClusterRun;
use crate::image::space::claims::Claims;

/// Memory for L2 tables in bytes.
const L2_CACHE_BYTES: usize = 16 << 20;
/// Memory for refcount blocks in bytes.
const REFBLOCK_CACHE_BYTES: usize = 4 << 20;
/// The header cluster, which is never free.
const HEADER_CLUSTER: HostCluster = HostCluster::new(0);

/// The result of opening for writing.
#[derive(Debug)]
pub enum Opened {
    /// The image, ready to be written.
    Ready(Box<Image>),
    /// The dirty bit is set: refcounts may be stale, so the image must be repaired before it is
    /// written.
    NeedsRepair,
}

impl Image {
    /// Opens the qcow2 image at `path` for reading and writing, with QEMU's locks: while it is open
    /// no other process writes or resizes it. Its backing chain and external data file are opened
    /// by the rules of [`crate::chain`].
    ///
    /// Fails with [`Error::Open`], with [`Error::Locked`] where another process uses the image,
    /// with [`Error::NotQcow2`], with [`Error::NeedsRepair`] where its last writer did not close
    /// it, and where it is marked corrupt or its structures are out of range. Nothing is written
    /// before the first change.
    ///
    /// ```
    /// use qcheck::{Image, format::GuestOffset};
    ///
    /// # let folder = std::env::temp_dir().join(format!("qcheck-image-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("disk.qcow2");
    /// # std::fs::copy("tests/data/v3.qcow2", &path)?;
    /// let image = Image::open(&path)?;
    /// image.write(GuestOffset::new(0), b"boot")?;
    /// let mut bytes = [0; 4];
    /// image.read(GuestOffset::new(0), &mut bytes)?;
    /// assert_eq!(&bytes, b"boot");
    /// image.close()?;
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = ImageFile::open(path, None, Intent::Change, false)?;
        if file.format != ImageFormat::Qcow2 {
            return Err(Error::NotQcow2);
        }
        let options = OpenOptions { path: Some(path.to_owned()), ..OpenOptions::default() };
        Self::open_on(Arc::new(file.storage), &options)
    }

    /// [`Self::open`] on any storage, which nobody else may write meanwhile. Files that the image
    /// names are opened with QEMU's locks.
    pub fn open_on(storage: Arc<dyn Storage>, options: &OpenOptions) -> Result<Self> {
        match Self::open_write(storage, options, &FileOpener::default())? {
            Opened::Ready(image) => Ok(*image),
            Opened::NeedsRepair => Err(Error::NeedsRepair),
        }
    }

    /// Opens an image for reading. Nothing is written, not even a dirty or autoclear bit.
    pub fn open_read(
        file: Arc<dyn ReadAt>,
        options: &OpenOptions,
        opener: &dyn Opener,
    ) -> Result<Self> {
        Self::open_in_chain(file, options, &mut Walk::new(opener, options.path.as_deref()))
    }

    pub(super) fn open_in_chain(
        file: Arc<dyn ReadAt>,
        options: &OpenOptions,
        walk: &mut Walk<'_>,
    ) -> Result<Self> {
        let area = HeaderArea::load(file.as_ref())?;
        let loader = Loader { file: Arc::new(ReadOnly(file)), area, writable: false };
        loader.load(options, walk)
    }

    /// Opens an image for reading and writing. One that is marked corrupt, or whose structures are
    /// out of range, is refused; nothing is written before the first change.
    pub fn open_write(
        file: Arc<dyn Storage>,
        options: &OpenOptions,
        opener: &dyn Opener,
    ) -> Result<Opened> {
        let area = HeaderArea::load(file.as_ref())?;
        if options.snapshot.is_some() {
            return Err(Error::Refused("a snapshot cannot be opened for writing".into()));
        }
        if area.header.has_incompatible(incompatible::CORRUPT) {
            let why = "Image is corrupt; cannot be opened read/write: repair it first";
            return Err(Error::Refused(why.into()));
        }
        if area.header.has_incompatible(incompatible::DIRTY) {
            return Ok(Opened::NeedsRepair);
        }
        let loader = Loader { file, area, writable: true };
        let mut walk = Walk::new(opener, options.path.as_deref());
        Ok(Opened::Ready(Box::new(loader.load(options, &mut walk)?)))
    }
}

struct Loader {
    file: Arc<dyn Storage>,
    area: HeaderArea,
    writable: bool,
}

/// Bytes for cached L2 tables and refcount blocks.
fn budgets(options: &OpenOptions) -> (usize, usize) {
    let or_default = |given, default| if given == 0 { default } else { given };
    (
        or_default(options.l2_cache_bytes, L2_CACHE_BYTES),
        or_default(options.refblock_cache_bytes, REFBLOCK_CACHE_BYTES),
    )
}

impl Loader {
    fn load(mut self, options: &OpenOptions, walk: &mut Walk<'_>) -> Result<Image> {
        self.check_header()?;
        let snapshots = match &options.snapshot {
            Some(_) => SnapshotTable::default(),
            None => self.load_snapshots()?,
        };
        let (l1_table, l1_entries) = self.choose_disk(options.snapshot.as_ref());
        let geometry = self.area.geometry;
        let l1 = self.load_l1(l1_table, l1_entries)?;
        let reftable = match self.load_reftable(options.strict) {
            // A reader looks only for what overlaps it.
            Err(_) if !self.writable => RootTable::new(self.area.header.reftable, Vec::new()),
            reftable => reftable?,
        };
        let encryption = Encryption::open(&self.area, self.file.as_ref(), &options.key)?;
        let (data_file, data_path) = self.open_data_file(options, walk)?.unzip();
        let backing = backing::open(&self.area, options, walk)?;
        let mut disk =
            Disk::new(self.file.clone(), &self.head()?, self.area.header.clone(), geometry);
        disk.data_file = data_file.clone();
        if self.writable || options.strict {
            disk.regions = match self.regions(&l1, &reftable, &snapshots) {
                // A reader can do without.
                Err(_) if !self.writable => Regions::default(),
                regions => regions?,
            };
        }
        let meta = Meta {
            ordering: Ordering::new(disk, l1, reftable, budgets(options)),
            geometry,
            writable: self.writable,
            strict: options.strict,
            file_end: 0,
            search_start: HEADER_CLUSTER.next(),
            packed_end: None,
            pending: Vec::new(),
            discarded: Vec::new(),
            gives_back: false,
            bitmaps: self.bitmaps()?,
            snapshots: snapshots.entries,
            prepared: false,
            switch: None,
            in_place: false,
            moves: Moves::of(&self.area),
            cancel: None,
        };
        Ok(Image {
            file: self.file,
            data_file,
            names: Names { image: options.path.clone(), data_file: data_path },
            geometry,
            backing,
            meta: Mutex::new(meta),
            claims: Claims::default(),
            decompressors: Decompressors::default(),
            is_encrypted: self.area.header.crypt_method != CryptMethod::None,
            encryption,
            records_zeroes: false,
        })
    }

    /// The L1 table of the disk that is read, and how many of its entries count; that of a snapshot
    /// has its own size.
    fn choose_disk(&mut self, snapshot: Option<&SnapshotEntry>) -> (HostOffset, u32) {
        let Some(snapshot) = snapshot else {
            return (self.area.header.l1_table, self.area.header.l1_entries);
        };
        let size = snapshot.disk_bytes().unwrap_or(self.area.geometry.virtual_size());
        self.area.geometry = self.area.geometry.with_virtual_size(size);
        // Past the disk's end there is VM state, which is not read here.
        let needed = self.area.geometry.l1_entries_for(size);
        let entries = snapshot.header.l1_entries;
        (snapshot.header.l1_table, u32::try_from(needed).unwrap_or(entries).min(entries))
    }

    fn head(&self) -> Result<Vec<u8>> {
        let mut head = vec![0; 512];
        self.file
            .read_padded_at(0, &mut head)
            .map_err(|source| Error::io("read the header", 0, source))?;
        Ok(head)
    }

    fn check_header(&self) -> Result<()> {
        let header = &self.area.header;
        if header.compression_type > 1 {
            let kind = header.compression_type;
            return Err(Error::Unsupported(format!("compression type {kind} is not supported")));
        }
        let is_zlib = header.compression_type == 0;
        if self.writable && is_zlib == header.has_incompatible(incompatible::COMPRESSION) {
            // QEMU's words. A reader goes by the type.
            let must = if is_zlib { "must not" } else { "must" };
            let message = format!("Compression type incompatible feature bit {must} be set");
            return Err(field_error(HeaderField::CompressionType, message));
        }
        if let CryptMethod::Unknown(method) = header.crypt_method {
            return Err(Error::Unsupported(format!("encryption method {method} is not known")));
        }
        if header.version >= 3 && header.header_length < 104 {
            let message = format!("a header of {} bytes is too short", header.header_length);
            return Err(field_error(HeaderField::HeaderLength, message));
        }
        if let Some(defect) = self.area.extension_defect {
            let message = format!("the header extensions break off: {defect:?}");
            return Err(field_error(HeaderField::HeaderLength, message));
        }
        if self.writable && header.snapshot_count > MAX_SNAPSHOTS {
            let message = format!("{} snapshots are too many", header.snapshot_count);
            return Err(field_error(HeaderField::SnapshotCount, message));
        }
        Ok(())
    }

    fn load_l1(&self, at: HostOffset, entries: u32) -> Result<RootTable> {
        let geometry = &self.area.geometry;
        let wrong = |message: String| Err(field_error(HeaderField::L1Offset, message));
        if u64::from(entries) * 8 > MAX_L1_BYTES {
            return wrong(format!("an L1 table of {entries} entries is over the limit of 32 MiB"));
        }
        if !geometry.is_aligned(at) {
            return wrong(format!(
                "the L1 table at {at:#x} does not begin at a cluster",
                at = at.get()
            ));
        }
        if u64::from(entries) < geometry.l1_entries_for(geometry.virtual_size()) {
            return wrong(format!("an L1 table of {entries} entries is too short for the disk"));
        }
        let table = load_entries(self.file.as_ref(), at, u64::from(entries));
        let table = table.map_err(|e| Error::io("read the L1 table", at.get(), e))?;
        Ok(RootTable::new(at, table))
    }

    /// The refcount table; a reader needs none, unless it is a strict one.
    fn load_reftable(&self, strict: bool) -> Result<RootTable> {
        let header = &self.area.header;
        let at = header.reftable;
        if !self.writable && !strict {
            return Ok(RootTable::new(at, Vec::new()));
        }
        let bytes = u64::from(header.reftable_clusters) << header.cluster_bits;
        if bytes == 0 || bytes > MAX_REFTABLE_BYTES {
            let message = format!("a refcount table of {bytes} bytes is out of range");
            return Err(field_error(HeaderField::ReftableClusters, message));
        }
        if at.get() == 0 || !self.area.geometry.is_aligned(at) {
            let message = format!("the refcount table cannot be at {:#x}", at.get());
            return Err(field_error(HeaderField::ReftableOffset, message));
        }
        let table = load_entries(self.file.as_ref(), at, bytes / 8);
        let table = table.map_err(|e| Error::io("read the refcount table", at.get(), e))?;
        Ok(RootTable::new(at, table))
    }

    fn load_snapshots(&self) -> Result<SnapshotTable> {
        let header = &self.area.header;
        if header.snapshot_count == 0 {
            return Ok(SnapshotTable::default());
        }
        let table =
            SnapshotTable::load(self.file.as_ref(), header.snapshot_table, header.snapshot_count);
        match &table.problem {
            Some(problem) if self.writable => {
                let message = format!("the snapshot table cannot be read: {problem}");
                Err(field_error(HeaderField::SnapshotTableOffset, message))
            }
            _ => Ok(table),
        }
    }

    fn open_data_file(
        &self,
        options: &OpenOptions,
        walk: &Walk<'_>,
    ) -> Result<Option<(Arc<dyn Storage>, PathBuf)>> {
        if !self.area.header.has_data_file() {
            return match &options.data_file {
                Some(_) => Err(Error::Refused("the image has no external data file".into())),
                None => Ok(None),
            };
        }
        let path = match &options.data_file {
            Some(path) => path.clone(),
            None => {
                let missing = || Error::Refused("the external data file has no name".into());
                chain::data_file(&self.area, options.path.as_deref())?.ok_or_else(missing)?
            }
        };
        let file: Arc<dyn Storage> = match self.writable {
            true => walk.opener().open_write(&path)?,
            false => Arc::new(ReadOnly(walk.opener().open_data_file(&path)?)),
        };
        Ok(Some((file, path)))
    }

    /// The refcount blocks. A block that two entries share counts different clusters with the same
    /// refcounts, and one past the end of the file none: what is freed or allocated by either goes
    /// wrong.
    fn refblocks(&self, reftable: &RootTable) -> Result<Vec<HostOffset>> {
        let file_bytes = self.file.len().map_err(|e| Error::file("get the length", e))?;
        let mut seen = HashSet::new();
        for (index, &entry) in reftable.entries().iter().enumerate() {
            let at = ReftableEntry(entry).offset();
            if at.get() == 0 {
                continue;
            }
            let place = reftable.offset().saturating_add(index as u64 * 8);
            let wrong = |why: &str| {
                let message =
                    format!("refcount table entry {index} {why}; the image needs a repair");
                Err(damaged(place, message))
            };
            if at.get() >= file_bytes {
                return wrong("points past the end of the file");
            }
            if !seen.insert(at) {
                return wrong("points to the refcount block of another entry");
            }
        }
        Ok(seen.into_iter().collect())
    }

    /// The clusters that hold metadata. Entries that are not valid are found, and reported, when
    /// they are used.
    fn regions(
        &self,
        l1: &RootTable,
        reftable: &RootTable,
        snapshots: &SnapshotTable,
    ) -> Result<Regions> {
        let (geometry, header) = (&self.area.geometry, &self.area.header);
        let mut regions = Regions::default();
        let mut add = |owner, at: HostOffset, bytes| {
            if at.get() != 0 || owner == Owner::Header {
                regions.add(ClusterRun::of(geometry, at, bytes), owner);
            }
        };
        add(Owner::Header, HostOffset::new(0), geometry.cluster_bytes());
        add(Owner::L1, l1.offset(), l1.entries().len() as u64 * 8);
        for &entry in l1.entries() {
            add(Owner::L2, L1Entry(entry).offset(), geometry.cluster_bytes());
        }
        add(Owner::Reftable, reftable.offset(), reftable.entries().len() as u64 * 8);
        for at in self.refblocks(reftable)? {
            add(Owner::Refblock, at, geometry.cluster_bytes());
        }
        add(Owner::SnapshotTable, header.snapshot_table, snapshots.bytes);
        for snapshot in &snapshots.entries {
            let bytes = u64::from(snapshot.header.l1_entries) * 8;
            if bytes > MAX_L1_BYTES || !geometry.is_aligned(snapshot.header.l1_table) {
                let message = "a snapshot's L1 table is out of range".to_owned();
                return Err(field_error(HeaderField::SnapshotTableOffset, message));
            }
            add(Owner::SnapshotL1, snapshot.header.l1_table, bytes);
        }
        if let Some(bitmaps) = self.area.bitmaps() {
            let bytes = bitmaps.directory_bytes.min(crate::format::bitmap::MAX_DIRECTORY_BYTES);
            add(Owner::BitmapDirectory, bitmaps.directory, bytes);
        }
        if let Some(crypto) = self.area.crypto_header() {
            let file_bytes = self.file.len().map_err(|e| Error::file("get the length", e))?;
            add(Owner::Crypto, crypto.offset, crypto.length.min(file_bytes));
        }
        Ok(regions)
    }

    /// The bitmaps, unless they are out of date.
    fn bitmaps(&self) -> Result<Option<Bitmaps>> {
        let consistent = self.area.header.autoclear & autoclear::BITMAPS != 0;
        let extension = self.area.whole_extension(extension::BITMAPS);
        let pointed = extension.zip(self.area.bitmaps());
        let Some((place, extension)) = pointed.filter(|_| self.writable && consistent) else {
            return Ok(None);
        };
        let at = extension.directory;
        let directory = BitmapDirectory::load(self.file.as_ref(), &extension);
        let directory =
            directory.map_err(|e| Error::io("read the bitmap directory", at.get(), e))?;
        let entry_defect = directory.entries.iter().find_map(|entry| {
            let defect = *entry.defects(&self.area.geometry).first()?;
            Some(format!("the bitmap '{}': {defect}", entry.name_text().escape_debug()))
        });
        if let Some(problem) = directory.problems.into_iter().next().or(entry_defect) {
            return Err(damaged(at, format!("the bitmap directory is damaged: {problem}")));
        }
        let pointer = HostOffset::new(place.offset + POINTER_PLACE);
        Ok(Some(Bitmaps::new(pointer, at, directory.entries)))
    }
}

fn field_error(field: HeaderField, message: String) -> Error {
    Error::Header { offset: field.place().0, message }
}
