//! What an image is, as QEMU's JSON; the part that is particular to qcow2 is printed for people
//! too.

use qcheck::format::luks::{KeySlot, LuksHeader};
use qcheck::info::{BitmapInfo, Encryption, Qcow2Info, SnapshotInfo};
use serde_json::{Value, json};

use super::document::Object;
use crate::cli::render::image::ImageInfo;

/// qemu-img's object for an image.
pub fn image(image: &ImageInfo) -> Value {
    let qcow2 = image.qcow2.as_ref();
    let mut object = Object::default();
    object
        .set("children", vec![json!({ "name": "file", "info": file(image) })])
        .set_some("backing-filename-format", qcow2.and_then(|q| q.backing_format.clone()));
    if let Some(snapshots) = qcow2.map(|q| &q.snapshots).filter(|s| !s.is_empty()) {
        object.set("snapshots", snapshots.iter().map(snapshot).collect::<Vec<_>>());
    }
    object
        .set("virtual-size", image.virtual_bytes)
        .set("filename", image.filename.as_str())
        .set_some("cluster-size", qcow2.map(|q| q.geometry.cluster_bytes()))
        .set("format", image.format)
        .set("actual-size", image.disk_bytes);
    if let Some(info) = qcow2 {
        object.set("format-specific", json!({ "type": "qcow2", "data": specific(info) }));
    }
    object.set_some("full-backing-filename", image.full_backing_name());
    if qcow2.is_some_and(|q| q.encryption.is_some()) {
        object.set("encrypted", true);
    }
    object
        .set_some("backing-filename", qcow2.and_then(|q| q.backing_name.clone()))
        .set("dirty-flag", qcow2.is_some_and(|q| q.dirty));
    object.into_value()
}

/// The file below the format.
fn file(image: &ImageInfo) -> Value {
    let mut object = Object::default();
    object
        .set("children", Vec::<Value>::new())
        .set("virtual-size", image.file_bytes)
        .set("filename", image.filename.as_str())
        .set("format", image.protocol)
        .set("actual-size", image.disk_bytes);
    object.set("format-specific", json!({ "type": "file", "data": {} })).set("dirty-flag", false);
    object.into_value()
}

/// A snapshot as QEMU describes it.
pub fn snapshot(snapshot: &SnapshotInfo) -> Value {
    let mut object = Object::default();
    object
        .set_some("icount", snapshot.icount)
        .set("vm-clock-nsec", snapshot.vm_clock_nsec % 1_000_000_000)
        .set("name", snapshot.name.as_str())
        .set("date-sec", snapshot.date_sec)
        .set("date-nsec", snapshot.date_nsec)
        .set("vm-clock-sec", snapshot.vm_clock_nsec / 1_000_000_000)
        .set("id", snapshot.id.as_str())
        .set("vm-state-size", snapshot.vm_state_bytes);
    object.into_value()
}

/// What only qcow2 has.
pub fn specific(info: &Qcow2Info) -> Value {
    let v3 = info.version >= 3;
    let mut object = Object::default();
    object
        .set("compat", if v3 { "1.1" } else { "0.10" })
        .set("compression-type", if info.zstd { "zstd" } else { "zlib" })
        .set_some("lazy-refcounts", v3.then_some(info.lazy_refcounts));
    if !info.bitmaps.is_empty() {
        object.set("bitmaps", info.bitmaps.iter().map(bitmap).collect::<Vec<_>>());
    }
    object
        .set("refcount-bits", info.geometry.refcount_bits())
        .set_some("data-file", info.data_file.as_ref().and_then(|d| d.name.clone()))
        .set_some("encrypt", info.encryption.as_ref().map(encryption))
        .set_some("data-file-raw", info.data_file.as_ref().map(|d| d.raw));
    if v3 {
        object.set("corrupt", info.corrupt).set("extended-l2", info.geometry.extended_l2());
    }
    object.into_value()
}

fn bitmap(bitmap: &BitmapInfo) -> Value {
    let flags: Vec<&str> = [(bitmap.in_use, "in-use"), (bitmap.auto, "auto")]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect();
    let mut object = Object::default();
    object
        .set("flags", flags)
        .set("name", bitmap.name.as_str())
        .set("granularity", bitmap.granularity);
    object.into_value()
}

fn encryption(encryption: &Encryption) -> Value {
    match encryption {
        Encryption::Aes => json!({ "format": "aes" }),
        Encryption::Luks(None) => json!({ "format": "luks" }),
        Encryption::Luks(Some(header)) => luks(header),
    }
}

fn luks(header: &LuksHeader) -> Value {
    let (generator, hash) = header.iv_generator();
    let mut object = Object::default();
    object
        .set("ivgen-alg", generator)
        .set("detached-header", false)
        .set("hash-alg", header.hash.text.as_str())
        .set("cipher-alg", header.cipher_algorithm())
        .set("uuid", header.uuid.as_str())
        .set_some("ivgen-hash-alg", hash)
        .set("format", "luks")
        .set("cipher-mode", header.chain_mode())
        .set("slots", header.slots.iter().map(slot).collect::<Vec<_>>())
        .set("payload-offset", header.payload_offset)
        .set("master-key-iters", header.iterations);
    object.into_value()
}

fn slot(slot: &KeySlot) -> Value {
    let mut object = Object::default();
    object
        .set("active", slot.active)
        .set_some("iters", slot.active.then_some(slot.iterations))
        .set("key-offset", slot.key_offset)
        .set_some("stripes", slot.active.then_some(slot.stripes));
    object.into_value()
}
