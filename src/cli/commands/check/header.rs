//! A header that was rebuilt: hints for the search, what was found, and advice where none was begun.

use std::path::Path;

use anyhow::{Result, anyhow};
use qcheck::error::Error;
use qcheck::format::crypto::CryptMethod;
use qcheck::format::feature::incompatible;
use qcheck::repair::RebuiltHeader;
use qcheck::storage::ReadAt;
use qcheck::tables::HeaderArea;
use serde_json::Value;

use crate::cli::args::size::parse_size;
use crate::cli::files::open::quoted;
use crate::cli::render::json::check::Object;
use crate::cli::terminal::count::counted;
use crate::cli::terminal::ui::Ui;

/// The smallest and the greatest cluster, in bytes.
const CLUSTER_BYTES: std::ops::RangeInclusive<u64> = 512..=2 << 20;

/// A cluster size as a power of two.
pub fn parse_cluster_size(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    if bytes.is_power_of_two() && CLUSTER_BYTES.contains(&bytes) {
        Ok(bytes.trailing_zeros())
    } else {
        Err("not a power of two from 512 to 2M".into())
    }
}

/// Says how to go on where a header cannot be read.
pub fn with_advice(error: Error) -> anyhow::Error {
    match error {
        Error::Header { .. } | Error::NotQcow2 => {
            anyhow!(
                "{error}; 'check -r all --allow-data-loss' searches the file for another header"
            )
        }
        error => error.into(),
    }
}

/// Whether there is a header with which a repair can begin.
pub fn readable(image: &dyn ReadAt) -> Result<()> {
    HeaderArea::load(image).map(|_| ()).map_err(with_advice)
}

/// Tells of a header on standard error.
pub fn tell(ui: &mut Ui, path: &Path, rebuilt: &RebuiltHeader) -> Result<()> {
    let name = quoted(path);
    let header = &rebuilt.header;
    let what = if rebuilt.kept { "set right" } else { "rebuilt" };
    ui.message(&format!(
        "{name}: the header was {what}: version {}, clusters of {} bytes, a disk of {} bytes, the L1 \
         table at {:#x}, the refcount table at {:#x}, counts of {}, {}",
        header.version,
        1u64 << header.cluster_bits,
        header.size,
        header.l1_table.get(),
        header.reftable.get(),
        counted(1 << header.refcount_order, "bit", "bits"),
        counted(u64::from(header.snapshot_count), "snapshot", "snapshots"),
    ))?;
    if rebuilt.empty {
        ui.message(&format!("{name}: no L1 table was found; the disk is empty"))?;
    }
    if rebuilt.size_guessed {
        ui.message(&format!(
            "{name}: the size of the disk is what its tables map; --hint-size tells another one"
        ))?;
    }
    Ok(())
}

/// Adds a rebuilt header to a result.
pub fn add_to(result: &mut Value, rebuilt: Option<&RebuiltHeader>) {
    if let (Value::Object(result), Some(rebuilt)) = (result, rebuilt) {
        result.insert("rebuilt-header".into(), to_json(rebuilt));
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
        .set("empty", rebuilt.empty);
    object.into_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_size_is_a_power_of_two_within_the_limits() {
        assert_eq!(parse_cluster_size("64k"), Ok(16));
        assert_eq!(parse_cluster_size("512"), Ok(9));
        assert!(parse_cluster_size("3k").is_err());
        assert!(parse_cluster_size("4M").is_err());
    }
}
