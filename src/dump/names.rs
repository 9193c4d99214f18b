//! Names in a dump: overwritten with others of the same length, so that everything stays in its
//! place.

use std::collections::HashMap;
use std::ops::Range;

use super::sparse::write;
use crate::error::{Error, Result};
use crate::format::extension::{self, EXTENSION_HEADER_BYTES};
use crate::format::header::{V2_BYTES, V3_BYTES_WITH_COMPRESSION};
use crate::format::snapshot::{KNOWN_EXTRA_BYTES, MAX_SNAPSHOTS, SNAPSHOT_HEADER_BYTES};
use crate::storage::{ReadAt, Storage};
use crate::tables::{BitmapDirectory, HeaderArea, SnapshotTable};

/// Overwrites the names of the backing file, the data file, snapshots and bitmaps, and whatever
/// else may hold a name: the rest of the header's cluster, and extensions and extra data of unknown
/// meaning. Ids that are numbers stay.
pub fn blank(source: &dyn ReadAt, target: &dyn Storage) -> Result<()> {
    let area = HeaderArea::load(source)?;
    header(source, &area, target)?;
    snapshots(source, &area, target)?;
    bitmaps(source, &area, target)
}

fn header(source: &dyn ReadAt, area: &HeaderArea, target: &dyn Storage) -> Result<()> {
    let length = source.len().map_err(|e| Error::file("determine the file's length", e))?;
    let end = area.geometry.cluster_bytes().min(length);
    let known = if area.header.version < 3 { V2_BYTES } else { V3_BYTES_WITH_COMPRESSION };
    let name = area.backing_name.as_deref().unwrap_or_default();
    let at = area.header.backing_name_offset;
    write(target, at, &filler(0, name.len()))?;
    let mut kept = vec![0..known as u64, at..at.saturating_add(name.len() as u64)];
    for extension in &area.extensions {
        let data = extension.offset..extension.offset + extension.data.len() as u64;
        kept.push(data.start - EXTENSION_HEADER_BYTES as u64..data.start);
        if extension.magic == extension::DATA_FILE {
            write(target, data.start, &filler(0, extension.data.len()))?;
            kept.push(data);
        } else if extension::is_known(extension.magic) {
            kept.push(data);
        }
    }
    // The end mark, or the extension that is too long.
    let behind = area.extensions_end();
    kept.push(behind..behind.saturating_add(EXTENSION_HEADER_BYTES as u64));
    zero_between(target, kept, end)
}

/// Zeroes the bytes between ranges, up to `end`.
fn zero_between(target: &dyn Storage, mut kept: Vec<Range<u64>>, end: u64) -> Result<()> {
    kept.sort_unstable_by_key(|range| range.start);
    let mut at = 0;
    for range in kept.into_iter().chain(std::iter::once(end..end)) {
        let gap = range.start.min(end).saturating_sub(at);
        if gap > 0 {
            zero(target, at, gap)?;
        }
        at = at.max(range.end);
    }
    Ok(())
}

fn snapshots(source: &dyn ReadAt, area: &HeaderArea, target: &dyn Storage) -> Result<()> {
    let (table, count) = (area.header.snapshot_table, area.header.snapshot_count);
    if !area.geometry.is_aligned(table) || table.get() == 0 {
        return Ok(());
    }
    let loaded = SnapshotTable::load(source, table, count.min(MAX_SNAPSHOTS));
    if loaded.problem.is_some() || count > MAX_SNAPSHOTS {
        return hidden("the snapshot table");
    }
    // The last entry may reach past the end by less than a sector; the dump must not get longer.
    let end = source.len().map_err(|e| Error::file("determine the file's length", e))?;
    let inside = |at: u64, name: Vec<u8>| {
        let room = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        write(target, at, &name[..name.len().min(room)])
    };
    let mut known: HashMap<&[u8], usize> = HashMap::new();
    let mut at = 0u64;
    for (number, entry) in loaded.entries.iter().enumerate() {
        at = at.next_multiple_of(8);
        let extra = table.get() + at + SNAPSHOT_HEADER_BYTES as u64;
        let id = extra + u64::from(entry.header.extra_len);
        if let Some(unknown) = entry.extra.get(KNOWN_EXTRA_BYTES as usize..) {
            inside(extra + u64::from(KNOWN_EXTRA_BYTES), vec![0; unknown.len()])?;
        }
        // Equal ids are a finding, and stay equal.
        let next = known.len();
        let same = *known.entry(&entry.id).or_insert(next);
        if !entry.id.iter().all(u8::is_ascii_digit) {
            inside(id, filler(same, entry.id.len()))?;
        }
        inside(id + entry.id.len() as u64, filler(number, entry.name.len()))?;
        at += entry.header.entry_bytes();
    }
    Ok(())
}

fn bitmaps(source: &dyn ReadAt, area: &HeaderArea, target: &dyn Storage) -> Result<()> {
    let Some(pointer) = area.bitmaps() else { return Ok(()) };
    if !area.geometry.is_aligned(pointer.directory) || pointer.directory.get() == 0 {
        return Ok(());
    }
    // A directory that cannot be read is not in the dump.
    let directory = BitmapDirectory::load(source, &pointer).unwrap_or_default();
    if !directory.problems.is_empty() {
        return hidden("the bitmap directory");
    }
    let mut at = pointer.directory.get();
    for (number, entry) in directory.entries.iter().enumerate() {
        let (extra, name) = (entry.extra.len() as u64, entry.name.len());
        let start = at + crate::format::bitmap::DIRECTORY_ENTRY_BYTES as u64;
        if extra > 0 {
            zero(target, start, extra)?;
        }
        write(target, start + extra, &filler(number, name))?;
        at = (start + extra + name as u64).next_multiple_of(8);
    }
    Ok(())
}

/// After damage there may be names that cannot be distinguished from the rest.
fn hidden(place: &str) -> Result<()> {
    Err(Error::Refused(format!("{place} is damaged, and may hold names that cannot be found")))
}

fn zero(target: &dyn Storage, offset: u64, bytes: u64) -> Result<()> {
    target.write_zeroes(offset, bytes).map_err(|e| Error::io("blank names", offset, e))
}

/// A name of this length, different for different numbers as far as there are letters.
fn filler(number: usize, length: usize) -> Vec<u8> {
    let mut name = vec![b'x'; length];
    let mut left = number;
    for letter in name.iter_mut().rev() {
        if left == 0 {
            break;
        }
        *letter = b'a' + u8::try_from(left % 26).unwrap_or(0);
        left /= 26;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fillers_have_the_length_of_the_name() {
        assert_eq!(filler(0, 4), b"xxxx");
        assert_eq!(filler(1, 4), b"xxxb");
        assert_eq!(filler(27, 4), b"xxbb");
        assert_eq!(filler(1000, 1).len(), 1);
        assert_eq!(filler(7, 0), b"");
    }
}
