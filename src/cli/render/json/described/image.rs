//! What an image is, as QEMU's JSON; the part that is particular to qcow2 is printed for people
//! too.

use qcheck::format::luks::{KeySlot, LuksHeader};
use qcheck::info::{self, BitmapInfo, Qcow2Info, SnapshotInfo};
use serde::Serialize;

use crate::cli::render::image::ImageInfo;

/// qemu-img's object for an image.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Image<'a> {
    /// The file below the format.
    children: [Child<'a>; 1],
    /// The format that the image records for its backing file.
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_filename_format: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<Snapshot<'a>>,
    /// Bytes of the virtual disk.
    virtual_size: u64,
    /// The image's name, as given or as the image above it names it.
    filename: &'a str,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_size: Option<u64>,
    /// `qcow2`, `raw` or `luks`.
    format: &'static str,
    /// Bytes that the file takes on its file system, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    actual_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format_specific: Option<FormatSpecific<'a>>,
    /// The backing file, seen from the current folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    full_backing_filename: Option<String>,
    /// Whether it is encrypted; left out where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<bool>,
    /// The backing file, as the image names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_filename: Option<&'a str>,
    /// Whether the image was not closed by its last writer; left out for a remote one that is not
    /// qcow2.
    #[serde(skip_serializing_if = "Option::is_none")]
    dirty_flag: Option<bool>,
}

/// What an image is read from.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Child<'a> {
    /// `file`.
    name: &'static str,
    info: File<'a>,
}

/// A file, described like an image.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
struct File<'a> {
    /// None.
    children: [(); 0],
    /// Bytes of the file.
    virtual_size: u64,
    filename: &'a str,
    /// `file`, `host_device`, or the protocol of a remote one.
    format: &'static str,
    /// Bytes that it takes on its file system, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    actual_size: Option<u64>,
    /// Left out for a remote one, like the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    format_specific: Option<FileSpecific>,
    /// Always false.
    #[serde(skip_serializing_if = "Option::is_none")]
    dirty_flag: Option<bool>,
}

/// What only files have.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct FileSpecific {
    /// `file`.
    r#type: &'static str,
    data: FileData,
}

/// The properties of a file.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
struct FileData {
    /// In what pieces the file system allocates the file, in bytes, where that is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    extent_size_hint: Option<u32>,
}

/// What images of one format have.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct FormatSpecific<'a> {
    /// `qcow2` or `luks`.
    r#type: &'static str,
    data: Data<'a>,
}

/// What a format has.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
enum Data<'a> {
    Qcow2(Box<Specific<'a>>),
    Luks(Box<Luks<'a>>),
}

/// A snapshot as QEMU describes it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot<'a> {
    /// Instructions that the guest had executed, where they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    icount: Option<u64>,
    /// The guest's clock: nanoseconds beside `vm-clock-sec`.
    vm_clock_nsec: u64,
    name: &'a str,
    /// When it was made: seconds since 1970.
    date_sec: u32,
    /// Nanoseconds beside them.
    date_nsec: u32,
    /// The guest's clock in seconds.
    vm_clock_sec: u64,
    id: &'a str,
    /// Bytes of the saved state of the virtual machine.
    vm_state_size: u64,
}

/// The properties of a qcow2 image.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Specific<'a> {
    /// `0.10` for version 2, `1.1` for version 3.
    compat: &'static str,
    /// `zlib` or `zstd`.
    compression_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lazy_refcounts: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bitmaps: Vec<Bitmap<'a>>,
    /// The width of a refcount.
    refcount_bits: u32,
    /// The external data file.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypt: Option<Encryption<'a>>,
    /// Whether the external data file can be read as a raw image.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_file_raw: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrupt: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extended_l2: Option<bool>,
}

/// A persistent bitmap.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Bitmap<'a> {
    /// `in-use`, `auto`.
    flags: Vec<&'static str>,
    name: &'a str,
    /// Bytes for each bit.
    granularity: u64,
}

/// How an image is encrypted.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
enum Encryption<'a> {
    Luks(Box<Luks<'a>>),
    /// AES, or LUKS with a header that cannot be read.
    Plain {
        /// `aes` or `luks`.
        format: &'static str,
    },
}

/// A LUKS header.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Luks<'a> {
    ivgen_alg: &'a str,
    /// Always false.
    detached_header: bool,
    hash_alg: &'a str,
    cipher_alg: String,
    uuid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ivgen_hash_alg: Option<&'a str>,
    /// `luks`, of a qcow2 image.
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
    cipher_mode: &'a str,
    slots: Vec<Slot>,
    /// Bytes from the beginning of the header.
    payload_offset: u64,
    master_key_iters: u32,
}

/// A key slot.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
struct Slot {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    iters: Option<u32>,
    /// Bytes from the beginning of the header.
    key_offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripes: Option<u32>,
}

impl<'a> From<&'a ImageInfo> for Image<'a> {
    fn from(image: &'a ImageInfo) -> Self {
        let qcow2 = image.qcow2.as_ref();
        let snapshots = qcow2.map(|q| q.snapshots.as_slice()).unwrap_or_default();
        let of_qcow2 = |q| Data::Qcow2(Box::new(Specific::from(q)));
        let of_luks = |header| Data::Luks(Box::new(Luks::from(header)));
        let data = qcow2.map(of_qcow2).or_else(|| image.luks.as_ref().map(of_luks));
        let specific = data.map(|data| FormatSpecific { r#type: image.format, data });
        Self {
            children: [Child { name: "file", info: File::from(image) }],
            backing_filename_format: qcow2.and_then(|q| q.backing_format.as_deref()),
            snapshots: snapshots.iter().map(Snapshot::from).collect(),
            virtual_size: image.virtual_bytes,
            filename: &image.filename,
            cluster_size: qcow2.map(|q| q.geometry.cluster_bytes()),
            format: image.format,
            actual_size: image.disk_bytes,
            format_specific: specific,
            full_backing_filename: image.full_backing_name(),
            encrypted: image.is_encrypted().then_some(true),
            backing_filename: qcow2.and_then(|q| q.backing_name.as_deref()),
            dirty_flag: qcow2.map(|q| q.dirty).or((!image.is_remote()).then_some(false)),
        }
    }
}

impl<'a> From<&'a ImageInfo> for File<'a> {
    fn from(image: &'a ImageInfo) -> Self {
        let is_local = !image.is_remote();
        Self {
            children: [],
            virtual_size: image.file_bytes,
            filename: &image.filename,
            format: image.protocol,
            actual_size: image.disk_bytes,
            format_specific: is_local.then_some(FileSpecific {
                r#type: "file",
                data: FileData { extent_size_hint: image.extent_size_hint },
            }),
            dirty_flag: is_local.then_some(false),
        }
    }
}

impl<'a> From<&'a SnapshotInfo> for Snapshot<'a> {
    fn from(snapshot: &'a SnapshotInfo) -> Self {
        Self {
            icount: snapshot.icount,
            vm_clock_nsec: snapshot.vm_clock_nsec % 1_000_000_000,
            name: &snapshot.name,
            date_sec: snapshot.date_sec,
            date_nsec: snapshot.date_nsec,
            vm_clock_sec: snapshot.vm_clock_nsec / 1_000_000_000,
            id: &snapshot.id,
            vm_state_size: snapshot.vm_state_bytes,
        }
    }
}

impl<'a> From<&'a Qcow2Info> for Specific<'a> {
    fn from(info: &'a Qcow2Info) -> Self {
        let v3 = info.version >= 3;
        Self {
            compat: if v3 { "1.1" } else { "0.10" },
            compression_type: if info.zstd { "zstd" } else { "zlib" },
            lazy_refcounts: v3.then_some(info.lazy_refcounts),
            bitmaps: info.bitmaps.iter().map(Bitmap::from).collect(),
            refcount_bits: info.geometry.refcount_bits(),
            data_file: info.data_file.as_ref().and_then(|d| d.name.as_deref()),
            encrypt: info.encryption.as_ref().map(Encryption::from),
            data_file_raw: info.data_file.as_ref().map(|d| d.raw),
            corrupt: v3.then_some(info.corrupt),
            extended_l2: v3.then_some(info.geometry.extended_l2()),
        }
    }
}

impl<'a> From<&'a BitmapInfo> for Bitmap<'a> {
    fn from(bitmap: &'a BitmapInfo) -> Self {
        let flags = [(bitmap.in_use, "in-use"), (bitmap.auto, "auto")].into_iter();
        let flags = flags.filter_map(|(set, name)| set.then_some(name)).collect();
        Self { flags, name: &bitmap.name, granularity: bitmap.granularity }
    }
}

impl<'a> From<&'a info::Encryption> for Encryption<'a> {
    fn from(encryption: &'a info::Encryption) -> Self {
        match encryption {
            info::Encryption::Aes => Self::Plain { format: "aes" },
            info::Encryption::Luks(None) => Self::Plain { format: "luks" },
            info::Encryption::Luks(Some(header)) => {
                Self::Luks(Box::new(Luks { format: Some("luks"), ..Luks::from(header) }))
            }
        }
    }
}

impl<'a> From<&'a LuksHeader> for Luks<'a> {
    fn from(header: &'a LuksHeader) -> Self {
        let (generator, hash) = header.iv_generator();
        Self {
            ivgen_alg: generator,
            detached_header: false,
            hash_alg: &header.hash.text,
            cipher_alg: header.cipher_algorithm(),
            uuid: &header.uuid,
            ivgen_hash_alg: hash,
            format: None,
            cipher_mode: header.chain_mode(),
            slots: header.slots.iter().map(Slot::from).collect(),
            payload_offset: header.payload_offset,
            master_key_iters: header.iterations,
        }
    }
}

impl From<&KeySlot> for Slot {
    fn from(slot: &KeySlot) -> Self {
        Self {
            active: slot.active,
            iters: slot.active.then_some(slot.iterations),
            key_offset: slot.key_offset,
            stripes: slot.active.then_some(slot.stripes),
        }
    }
}
