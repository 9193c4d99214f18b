//! `--shard I/N`: a part of a list, chosen by each name alone.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cli::args::size::parse_number;

/// FNV-1a with 64 bits: offset basis and prime as its authors give them.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// One of several parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 1 on.
    index: u64,
    /// How many there are.
    count: u64,
}

impl Shard {
    /// From `I/N`, where 1 <= I <= N.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || "the form is I/N, where 1 <= I <= N, as in 3/8".to_owned();
        let (index, count) = text.split_once('/').ok_or_else(form)?;
        let number = |text: &str| parse_number::<u64>(text).map_err(|_| form());
        let (index, count) = (number(index)?, number(count)?);
        if index == 0 || index > count {
            return Err(form());
        }
        Ok(Self { index, count })
    }

    /// Whether the file with this name belongs to it. That depends on the bytes of the name and
    /// the number of parts, on nothing else.
    pub fn has(self, name: &Path) -> bool {
        part(name.as_os_str().as_bytes(), self.count) == self.index
    }
}

/// The part of a name, from 1 to `count`: FNV-1a of its bytes, mixed and scaled.
fn part(name: &[u8], count: u64) -> u64 {
    let mut hash = BASIS;
    for &byte in name {
        hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    }
    // Names that differ in the last character alone differ in few of the upper bits.
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    // Less than `count`, since the hash is less than 2^64.
    u64::try_from((u128::from(hash) * u128::from(count)) >> 64).unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_checked() {
        assert_eq!(Shard::parse("3/8"), Ok(Shard { index: 3, count: 8 }));
        for wrong in ["", "3", "0/3", "4/3", "1/0", "a/3", "1/3/5", "-1/3"] {
            assert!(Shard::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_are_disjoint_complete_and_nearly_of_one_size() {
        let mut sizes = [0; 7];
        for number in 0..7000 {
            let name = format!("/images/vm-{number}.qcow2");
            let of: Vec<u64> =
                (1..=7).filter(|&index| Shard { index, count: 7 }.has(Path::new(&name))).collect();
            assert_eq!(of.len(), 1, "{name}");
            sizes[usize::try_from(of[0]).unwrap() - 1] += 1;
        }
        assert!(sizes.iter().all(|&size| (850..1150).contains(&size)), "{sizes:?}");
    }

    #[test]
    fn the_part_of_a_name_stays_the_same_in_all_versions() {
        let parts: Vec<u64> =
            ["a", "b", "disk.qcow2", "/images/ü"].map(|n| part(n.as_bytes(), 1000)).into();
        assert_eq!(parts, [511, 432, 942, 848]);
    }
}
