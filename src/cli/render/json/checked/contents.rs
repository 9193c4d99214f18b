//! Partitions and file systems as JSON.

use qcheck::contents;
use serde::Serialize;

/// A part of a disk: a partition, or all of it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Part {
    /// What it is in words.
    text: String,
    /// The number of the partition; none for a disk without a partition table.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<u32>,
    /// Where it begins, as a guest offset in bytes.
    offset: u64,
    /// Bytes.
    length: u64,
    /// The type that the partition table records.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_type: Option<String>,
    /// The name that a GPT records.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_label: Option<String>,
    /// The file system, or what else has a superblock: swap space, LVM, LUKS.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_system: Option<&'static str>,
    /// Its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// Its UUID or serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
}

impl From<&contents::Part> for Part {
    fn from(part: &contents::Part) -> Self {
        let found = part.file_system.as_ref();
        Self {
            text: part.to_string(),
            partition: part.number,
            offset: part.range.start,
            length: part.range.end - part.range.start,
            partition_type: part.kind.clone(),
            partition_label: part.label.clone(),
            file_system: found.map(|found| found.kind),
            label: found.and_then(|found| found.label.clone()),
            uuid: found.and_then(|found| found.uuid.clone()),
        }
    }
}
