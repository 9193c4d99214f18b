//! NTFS: the label is not in the boot sector but in a record of the master file table.

use super::bytes::{Bytes, u16_at, u32_at, u64_at, wide_text};
use super::part::FileSystem;

/// The number of the record that describes the volume, and its attribute with the label.
const VOLUME: u64 = 3;
const VOLUME_NAME: u32 = 0x60;
/// After the last attribute of a record.
const END: u32 = 0xffff_ffff;

/// The file system that begins with this sector.
pub fn find(bytes: &Bytes<'_>, start: u64, sector: &[u8]) -> Option<FileSystem> {
    (sector.get(3..11)? == b"NTFS    ").then_some(())?;
    let uuid = Some(format!("{:016X}", u64_at(sector, 0x48)));
    Some(FileSystem { kind: "NTFS", label: label(bytes, start, sector), uuid })
}

fn label(bytes: &Bytes<'_>, start: u64, sector: &[u8]) -> Option<String> {
    let sector_bytes = u64::from(u16_at(sector, 0xb));
    (sector_bytes.is_power_of_two() && (256..=4096).contains(&sector_bytes)).then_some(())?;
    let cluster = match sector[0xd] {
        sectors @ 0..=0x80 => u64::from(sectors) * sector_bytes,
        power => sector_bytes.checked_shl(u32::from(power.wrapping_neg()))?,
    };
    // Clusters, or the negative power of two of the bytes.
    let record = match sector[0x40] {
        clusters @ 0..=0x7f => u64::from(clusters).checked_mul(cluster)?,
        power => 1_u64.checked_shl(u32::from(power.wrapping_neg()))?,
    };
    (512..=65536).contains(&record).then_some(())?;
    let table = u64_at(sector, 0x30).checked_mul(cluster)?.checked_add(start)?;
    let record = bytes.read(table.checked_add(VOLUME * record)?, usize::try_from(record).ok()?)?;
    record.starts_with(b"FILE").then_some(())?;
    let mut at = usize::from(u16_at(&record, 0x14));
    while let Some(attribute) = record.get(at..).filter(|rest| rest.len() >= 24) {
        let (kind, length) = (u32_at(attribute, 0), usize::try_from(u32_at(attribute, 4)).ok()?);
        if kind == VOLUME_NAME {
            let content = usize::from(u16_at(attribute, 20));
            let length = usize::try_from(u32_at(attribute, 16)).ok()?;
            return wide_text(attribute.get(content..content.checked_add(length)?)?);
        }
        if kind == END || length < 24 {
            return None;
        }
        at = at.checked_add(length)?;
    }
    None
}
