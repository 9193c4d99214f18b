//! The first cluster with another header, other extensions or another backing file's name: in which
//! steps it is written, so that the last one alone, within one sector, makes the change.
//!
//! A disk writes a sector as a whole. What is past the first sector is therefore written where
//! nothing of the present header is, before the first sector is.

use std::ops::Range;

use super::extension::{END, FEATURE_NAMES, encode_extension};
use super::field::{HeaderField, encode_field};
use crate::sector::SECTOR_LEN;

/// Where the header has offset and length of the backing file's name, which follow each other.
const NAME_PLACE: Range<usize> = 8..20;

/// Extensions, each by its type and data.
pub type List = Vec<(u32, Vec<u8>)>;

/// What the first cluster is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// The header's fields up to its length, those of the backing file's name aside.
    pub fields: Vec<u8>,
    /// The extensions (type and data) in their order, without the end mark.
    pub extensions: List,
    /// The backing file's name; empty without one.
    pub backing_name: Vec<u8>,
}

/// What the present header uses of the first cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Its fields and extensions, the end mark included: up to this byte.
    pub list_end: usize,
    /// The backing file's name.
    pub name: Range<usize>,
}

/// Bytes and their offset in the file.
pub type Part = (usize, Vec<u8>);

/// The writes, each of which has to be on stable storage before the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Past the first sector, where nothing is used.
    pub before: Vec<Part>,
    /// The first sector: the change.
    pub switch: Vec<u8>,
    /// What is past the first sector in the end: without what was used before.
    pub after: Option<Part>,
    /// The first sector in the end, with the names of features that had to wait until their place
    /// was no longer used.
    pub last: Option<Vec<u8>>,
}

impl Rewrite {
    /// The first cluster in the end, which is `old` now.
    pub fn result(&self, old: &[u8]) -> Vec<u8> {
        let mut bytes = old.to_vec();
        let first = [(0, &self.switch)];
        let last = self.last.iter().map(|sector| (0, sector));
        let parts = self.before.iter().map(|(at, part)| (*at, part)).chain(first);
        for (at, part) in parts.chain(self.after.iter().map(|(at, part)| (*at, part))).chain(last) {
            bytes[at..at + part.len()].copy_from_slice(part);
        }
        bytes
    }
}

/// Plans the writes that make `old`, the first cluster, into one with `new`; `None` where the
/// cluster has no space for both together. The names of features are left out where there is no
/// space for them.
pub fn plan(old: &[u8], used: &Used, new: &Area) -> Option<Rewrite> {
    let sector = SECTOR_LEN.min(old.len());
    let live = Live { old, sector, ranges: [0..used.list_end, used.name.clone()] };
    let whole = new.list(|_| true);
    let core = new.list(|magic| magic != FEATURE_NAMES);
    let later = new.list_with_names_last();
    let at_once = new.place(&whole, whole.len(), &live);
    let named_later = || new.place(&core, later.len(), &live).map(|placed| (placed, true));
    let without_names = || new.place(&core, core.len(), &live).map(|placed| (placed, false));
    let placed = at_once.map(|placed| (placed, false));
    let (placed, adds_names) = placed.or_else(named_later).or_else(without_names)?;
    let (mut bytes, before) = placed;
    let switch = bytes[..sector].to_vec();
    if adds_names {
        let name_place = bytes[NAME_PLACE].to_vec();
        bytes[..later.len()].copy_from_slice(&later);
        bytes[NAME_PLACE].copy_from_slice(&name_place);
    }
    let mut now = old.to_vec();
    for (at, part) in &before {
        now[*at..at + part.len()].copy_from_slice(part);
    }
    let differs = (sector..old.len()).rev().find(|&at| now[at] != bytes[at]);
    let after = differs.map(|last| (sector, bytes[sector..=last].to_vec()));
    let last = (bytes[..sector] != switch).then(|| bytes[..sector].to_vec());
    Some(Rewrite { before, switch, after, last })
}

/// What is not to be overwritten before the switch.
struct Live<'a> {
    old: &'a [u8],
    sector: usize,
    ranges: [Range<usize>; 2],
}

impl Live<'_> {
    /// Whether bytes may be written here before the switch: they are not used, or stay as they are.
    fn allows(&self, at: usize, bytes: &[u8]) -> bool {
        let is_used = |at: usize| at >= self.sector && self.ranges.iter().any(|r| r.contains(&at));
        (at..).zip(bytes).all(|(at, &byte)| !is_used(at) || self.old[at] == byte)
    }

    /// Where the present name and extensions end, in whole units of 8 bytes.
    fn end(&self) -> usize {
        let end = self.ranges.iter().map(|range| range.end).max().unwrap_or(0);
        end.max(self.sector).next_multiple_of(8)
    }
}

impl Area {
    fn list(&self, is_kept: impl Fn(u32) -> bool) -> Vec<u8> {
        let mut bytes = self.fields.clone();
        for (magic, data) in self.extensions.iter().filter(|(magic, _)| is_kept(*magic)) {
            encode_extension(&mut bytes, *magic, data);
        }
        encode_extension(&mut bytes, END, &[]);
        bytes
    }

    fn list_with_names_last(&self) -> Vec<u8> {
        let (names, mut extensions): (Vec<_>, Vec<_>) =
            self.extensions.iter().cloned().partition(|(magic, _)| *magic == FEATURE_NAMES);
        extensions.extend(names);
        Self { extensions, ..self.clone() }.list(|_| true)
    }

    /// The first cluster with this list, the name after byte `least`, and the writes past the first
    /// sector that it needs before the switch.
    fn place(&self, list: &[u8], least: usize, live: &Live<'_>) -> Option<(Vec<u8>, Vec<Part>)> {
        let cluster = live.old.len();
        if list.len() > cluster || !live.allows(0, list) {
            return None;
        }
        let mut bytes = vec![0; cluster];
        bytes[..list.len()].copy_from_slice(list);
        let mut before = Vec::new();
        if list.len() > live.sector {
            before.push((live.sector, list[live.sector..].to_vec()));
        }
        let (mut at, name) = (0, &self.backing_name);
        if !name.is_empty() {
            let fits = |&at: &usize| at + name.len() <= cluster && live.allows(at, name);
            at = [least, live.end().max(least)].into_iter().find(fits)?;
            bytes[at..at + name.len()].copy_from_slice(name);
            let start = at.max(live.sector);
            if start < at + name.len() {
                before.push((start, bytes[start..at + name.len()].to_vec()));
            }
        }
        let mut fields = encode_field(HeaderField::BackingNameOffset, at as u64);
        fields.extend(encode_field(HeaderField::BackingNameLength, name.len() as u64));
        bytes[NAME_PLACE].copy_from_slice(&fields);
        Some((bytes, before))
    }
}

#[cfg(test)]
mod tests {
    use super::super::extension::{BACKING_FORMAT, BITMAPS, decode_extensions};
    use super::super::fixed::Header;
    use super::*;

    fn header(version: u32) -> Vec<u8> {
        let length = if version == 2 { 72 } else { 112 };
        let mut fields = vec![0; length];
        fields[..4].copy_from_slice(b"QFI\xfb");
        fields[7] = version as u8;
        if version == 3 {
            fields[103] = 112;
        }
        fields
    }

    fn area(format: &str, name: &str, more: &[(u32, Vec<u8>)]) -> Area {
        let format = (!format.is_empty()).then(|| (BACKING_FORMAT, format.as_bytes().to_vec()));
        let extensions = format.into_iter().chain(more.iter().cloned()).collect();
        Area { fields: header(3), extensions, backing_name: name.into() }
    }

    /// Types of the extensions and the name that a first cluster has.
    fn read(cluster: &[u8]) -> (List, Vec<u8>, Used) {
        let header = Header::decode(cluster).unwrap();
        let (at, length) = (header.backing_name_offset as usize, header.backing_name_len as usize);
        let end = if at == 0 { cluster.len() } else { at };
        let (list, defect) = decode_extensions(cluster, header.header_length as usize, end);
        assert_eq!(defect, None);
        let list_end = list.last().map_or(header.header_length as usize, |last| {
            (last.offset as usize + last.data.len()).next_multiple_of(8)
        });
        let list = list.into_iter().map(|e| (e.magic, e.data)).collect();
        let used = Used { list_end: list_end + 8, name: at..at + length };
        (list, cluster[at..at + length].to_vec(), used)
    }

    /// Makes the change on every cluster that a crash could leave; returns the last.
    fn rewrite(old: &[u8], new: &Area) -> Vec<u8> {
        let (list, name, used) = read(old);
        let kept = |list: &[(u32, Vec<u8>)]| -> List {
            list.iter().filter(|(magic, _)| *magic != FEATURE_NAMES).cloned().collect()
        };
        let plan = plan(old, &used, new).unwrap();
        let mut now = old.to_vec();
        let put = |now: &mut Vec<u8>, at: usize, bytes: &[u8], name: &[u8], list: &[_]| {
            for byte in 0..bytes.len() {
                let mut torn = now.clone();
                torn[at + byte..at + bytes.len()].copy_from_slice(&bytes[byte..]);
                let seen = read(&torn);
                if at >= SECTOR_LEN {
                    assert_eq!((kept(&seen.0), &seen.1[..]), (kept(list), name));
                }
            }
            now[at..at + bytes.len()].copy_from_slice(bytes);
        };
        for (at, bytes) in &plan.before {
            put(&mut now, *at, bytes, &name, &list);
        }
        now[..plan.switch.len()].copy_from_slice(&plan.switch);
        let (switched, switched_name, _) = read(&now);
        assert_eq!((kept(&switched), &switched_name), (kept(&new.extensions), &new.backing_name));
        if let Some((at, bytes)) = plan.after {
            put(&mut now, at, &bytes, &new.backing_name, &new.extensions);
        }
        if let Some(sector) = plan.last {
            now[..sector.len()].copy_from_slice(&sector);
        }
        let (last, last_name, _) = read(&now);
        let (mut seen, mut wanted) = (last.clone(), new.extensions.clone());
        seen.sort();
        wanted.sort();
        assert_eq!((seen, &last_name), (wanted, &new.backing_name));
        let (_, _, used) = read(&now);
        let unused = |at: &usize| *at >= used.list_end && !used.name.contains(at);
        assert!((0..now.len()).filter(unused).all(|at| now[at] == 0));
        now
    }

    #[test]
    fn every_step_leaves_the_old_header_or_the_new_one() {
        let names = (FEATURE_NAMES, vec![7; 384]);
        let bitmaps = (BITMAPS, vec![9; 24]);
        for more in [vec![], vec![names.clone()], vec![names.clone(), bitmaps.clone()]] {
            let mut cluster = vec![0; 4096];
            cluster[..112].copy_from_slice(&header(3));
            for (format, name) in [
                ("qcow2", "base"),
                ("raw", "a-longer-name"),
                ("", ""),
                ("raw", "x"),
                ("raw", "x"),
                ("", "without-format"),
                ("qcow2", &"n".repeat(1000)),
                ("qcow2", &"m".repeat(1000)),
                ("", ""),
            ] {
                cluster = rewrite(&cluster, &area(format, name, &more));
            }
        }
    }

    #[test]
    fn a_cluster_of_one_sector_is_changed_at_once_and_a_full_one_not_at_all() {
        let mut cluster = vec![0; 512];
        cluster[..112].copy_from_slice(&header(3));
        cluster = rewrite(&cluster, &area("raw", &"n".repeat(370), &[]));
        cluster = rewrite(&cluster, &area("qcow2", &"m".repeat(376), &[]));
        let used = read(&cluster).2;
        assert!(plan(&cluster, &used, &area("raw", &"n".repeat(377), &[])).is_none());
    }
}
