//! A small empty image in memory for unit tests.

use std::sync::Arc;

use crate::format::crypto::CryptMethod;
use crate::format::header::Header;
use crate::format::refcount::count_once;
use crate::format::{HostOffset, encode_entries};
use crate::storage::{MemoryStorage, Storage};

use super::{FileOpener, Image, OpenOptions, Opened};

/// Header, refcount table, refcount block and L1 table in clusters 0 to 3 of 512 bytes; the disk
/// has 64 KiB.
pub(super) fn small(refcount_order: u32) -> Arc<MemoryStorage> {
    let header = Header {
        version: 3,
        backing_name_offset: 0,
        backing_name_len: 0,
        cluster_bits: 9,
        size: 65536,
        crypt_method: CryptMethod::None,
        l1_entries: 2,
        l1_table: HostOffset::new(3 * 512),
        reftable: HostOffset::new(512),
        reftable_clusters: 1,
        snapshot_count: 0,
        snapshot_table: HostOffset::new(0),
        incompatible: 0,
        compatible: 0,
        autoclear: 0,
        refcount_order,
        header_length: 104,
        compression_type: 0,
    };
    let mut block = vec![0; 512];
    count_once(&mut block, refcount_order, 0..4);
    let file = MemoryStorage::new(vec![0; 4 * 512]);
    file.write_at(0, &header.encode()).unwrap();
    file.write_at(512, &encode_entries(&[1024])).unwrap();
    file.write_at(1024, &block).unwrap();
    Arc::new(file)
}

/// Opens an image for writing.
pub(super) fn open(file: Arc<dyn Storage>) -> Image {
    let opener = FileOpener::default();
    match Image::open_write(file, &OpenOptions::default(), &opener).unwrap() {
        Opened::Ready(image) => *image,
        Opened::NeedsRepair => panic!("the image is dirty"),
    }
}
