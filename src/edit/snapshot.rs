//! Internal snapshots: taken, deleted, applied.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::HostOffset;
use crate::format::crypto::CryptMethod;
use crate::format::snapshot::{SnapshotEntry, SnapshotHeader};
use crate::image::Image;

/// Most bytes of a name. The format allows more, but QEMU looks at the first 255 only.
const MAX_NAME_BYTES: usize = 255;

/// Takes a snapshot of the active state called `name`, dated `now` after 1970, and returns its id.
/// Ids count up from the greatest one that is a number.
pub fn create(image: &mut Image, name: &str, now: Duration) -> Result<String> {
    if name.len() > MAX_NAME_BYTES {
        return Err(Error::Refused(format!("a name of {} bytes is too long", name.len())));
    }
    refuse_data_file(image)?;
    let snapshots = image.snapshots()?;
    let greatest = snapshots.iter().filter_map(|entry| entry.id_text().parse::<u64>().ok()).max();
    let id = greatest.unwrap_or(0).saturating_add(1).to_string();
    // No bytes of VM state, this disk size, and as instruction count what qemu-img stores without a
    // VM.
    let extra = [0, image.virtual_size(), 0];
    let header = SnapshotHeader {
        l1_table: HostOffset::new(0),
        l1_entries: 0,
        id_len: 0,
        name_len: 0,
        date_sec: u32::try_from(now.as_secs()).unwrap_or(u32::MAX),
        date_nsec: now.subsec_nanos(),
        vm_clock_nsec: 0,
        vm_state_bytes: 0,
        extra_len: 0,
    };
    image.take_snapshot(SnapshotEntry {
        header,
        extra: crate::format::encode_entries(&extra),
        unloaded: 0,
        id: id.clone().into_bytes(),
        name: name.as_bytes().to_vec(),
    })?;
    Ok(id)
}

/// Makes the state of a snapshot the active one: its data, and its disk size.
pub fn apply(image: &mut Image, id_or_name: &str) -> Result<()> {
    refuse_data_file(image)?;
    if !image.bitmaps()?.is_empty() {
        let why = "a snapshot cannot be applied while there are bitmaps, which would not record the change";
        return Err(Error::Unsupported(why.into()));
    }
    let index = find(image, id_or_name)?;
    let size = image.snapshots()?[index].disk_bytes().unwrap_or(image.virtual_size());
    if size != image.virtual_size() && image.header()?.crypt_method != CryptMethod::None {
        let why = "the snapshot of an encrypted image has another disk size";
        return Err(Error::Unsupported(why.into()));
    }
    image.apply_snapshot(index, size)
}

/// Deletes a snapshot.
pub fn delete(image: &mut Image, id_or_name: &str) -> Result<()> {
    refuse_data_file(image)?;
    let index = find(image, id_or_name)?;
    image.delete_snapshot(index)
}

/// Deletes the first snapshot with this name, as `qemu-img snapshot -d` does: an id is not looked
/// at.
pub fn delete_named(image: &mut Image, name: &str) -> Result<()> {
    refuse_data_file(image)?;
    let snapshots = image.snapshots()?;
    let index = snapshots.iter().position(|entry| entry.name == name.as_bytes());
    let has_id = snapshots.iter().find(|entry| entry.id == name.as_bytes());
    image.delete_snapshot(index.ok_or_else(|| match has_id {
        Some(entry) => Error::Refused(format!(
            "snapshot not found: '{}' is not a name but the id of '{}'",
            name.escape_debug(),
            entry.name_text().escape_debug()
        )),
        None => missing(name),
    })?)
}

/// The position of the snapshot with this id, or else of the first with this name.
pub fn find(image: &Image, id_or_name: &str) -> Result<usize> {
    let snapshots = image.snapshots()?;
    let wanted = id_or_name.as_bytes();
    let by_id = snapshots.iter().position(|entry| entry.id == wanted);
    let index = by_id.or_else(|| snapshots.iter().position(|entry| entry.name == wanted));
    index.ok_or_else(|| missing(id_or_name))
}

fn missing(wanted: &str) -> Error {
    Error::Refused(format!("snapshot not found: there is no '{}'", wanted.escape_debug()))
}

fn refuse_data_file(image: &Image) -> Result<()> {
    if image.header()?.has_data_file() {
        let why = "snapshots do not go with an external data file: it holds one state only";
        return Err(Error::Unsupported(why.into()));
    }
    Ok(())
}
