//! A header that was rebuilt, as JSON.

use qcheck::format::crypto::CryptMethod;
use qcheck::format::feature::incompatible;
use qcheck::repair::{RebuiltHeader, Unknown};
use serde_json::Value;

use super::document::Object;

/// Adds a rebuilt header to a result.
pub fn add_to(result: &mut Value, rebuilt: Option<&RebuiltHeader>) {
    if let (Value::Object(result), Some(rebuilt)) = (result, rebuilt) {
        result.insert("rebuilt-header".into(), to_json(rebuilt));
    }
}

const fn name(what: Unknown) -> &'static str {
    match what {
        Unknown::BackingFile => "backing-file",
        Unknown::DataFile => "data-file",
        Unknown::Aes => "aes",
    }
}

fn to_json(rebuilt: &RebuiltHeader) -> Value {
    let header = &rebuilt.header;
    let mut object = Object::default();
    object
        .set("version", header.version)
        .set("cluster-size", 1u64 << header.cluster_bits)
        .set("virtual-size", header.size)
        .set("virtual-size-guessed", rebuilt.size_guessed)
        .set("l1-table-offset", header.l1_table.get())
        .set("l1-entries", header.l1_entries)
        .set("refcount-table-offset", header.reftable.get())
        .set("refcount-table-clusters", header.reftable_clusters)
        .set("refcount-bits", 1u64 << header.refcount_order)
        .set("extended-l2", header.has_incompatible(incompatible::EXTENDED_L2))
        .set("snapshots", header.snapshot_count)
        .set("snapshot-table-offset", header.snapshot_table.get())
        .set("backing-file", header.backing_name_offset != 0)
        .set("encrypted", header.crypt_method != CryptMethod::None)
        .set("kept", rebuilt.kept)
        .set("empty", rebuilt.empty)
        .set("unknown", rebuilt.unknown.iter().map(|&what| name(what)).collect::<Vec<_>>());
    object.into_value()
}
