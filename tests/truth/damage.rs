//! Damage to one to four structures of an image, chosen by a seed.

use crate::support::images::bytes::{COMPRESSED, COPIED, OFFSET_MASK, poke};
use crate::support::rng::Rng;
use crate::support::truth::roles::{Role, Truth};

/// A number in the image: where, and how many bytes.
#[derive(Debug, Clone, Copy)]
struct Spot {
    at: u64,
    width: u64,
}

/// Damages an image; returns how.
pub fn damage(truth: &Truth, former: &[Vec<u8>], rng: &mut Rng) -> (Vec<u8>, String) {
    let mut bytes = truth.view.bytes.to_vec();
    let count = [1, 1, 1, 2, 2, 3, 4][rng.below(7) as usize];
    let mut said = Vec::new();
    let mut tries = 0;
    while said.len() < count && tries < 40 {
        tries += 1;
        let mut hand = Hand { truth, former, rng, bytes: &mut bytes };
        said.extend(hand.one());
    }
    (bytes, said.join("; "))
}

struct Hand<'a, 'b> {
    truth: &'a Truth<'a>,
    former: &'a [Vec<u8>],
    rng: &'b mut Rng,
    bytes: &'b mut Vec<u8>,
}

impl Hand<'_, '_> {
    fn one(&mut self) -> Option<String> {
        match self.rng.below(20) {
            0..=3 => self.l1_entry(),
            4..=8 => self.l2_entry(),
            9 => self.header_field(),
            10 | 11 => self.refcount(),
            12 => self.structure(),
            13 => self.reftable_entry(),
            14..=17 => self.cluster(),
            18 => self.cut(),
            _ => self.header_field(),
        }
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let count = all.len() as u64;
        (count > 0).then(|| all[self.rng.below(count) as usize])
    }

    fn number(&self, spot: Spot) -> u64 {
        let at = spot.at as usize;
        (0..spot.width as usize)
            .fold(0, |v, n| v << 8 | u64::from(self.bytes.get(at + n).copied().unwrap_or(0)))
    }

    fn set(&mut self, spot: Spot, value: u64) -> bool {
        let inside = spot.at + spot.width <= self.bytes.len() as u64;
        if inside {
            poke(self.bytes, spot.at as usize, spot.width as usize, value);
        }
        inside
    }

    /// A cluster with a role, every kind of role alike often.
    fn some_cluster(&mut self) -> u64 {
        let kind = self.rng.below(10);
        let wanted = |roles: &Vec<Role>| match kind {
            0 => roles.is_empty(),
            1 => matches!(roles.first(), Some(Role::RefcountBlock)),
            2 => matches!(roles.first(), Some(Role::RefcountTable)),
            3 => matches!(roles.first(), Some(Role::L1(_))),
            4 | 5 => matches!(roles.first(), Some(Role::L2(..))),
            6 => matches!(roles.first(), Some(Role::SnapshotTable)),
            7 => matches!(roles.first(), Some(Role::Bitmap)),
            _ => matches!(roles.first(), Some(Role::Data(..))),
        };
        let roles = &self.truth.roles;
        let found: Vec<u64> =
            (0..roles.len() as u64).filter(|&n| wanted(&roles[n as usize])).collect();
        self.pick(&found).unwrap_or_else(|| self.rng.below(roles.len() as u64))
    }

    /// Changes a number that is, or holds, an offset.
    fn change_pointer(&mut self, spot: Spot, others: &[u64]) -> Option<String> {
        let old = self.number(spot);
        let (cluster, length) = (self.truth.head.cluster(), self.bytes.len() as u64);
        let target = self.some_cluster() * cluster;
        let flags = old & !OFFSET_MASK;
        let new = match self.rng.below(14) {
            0 | 1 => 0,
            2 => self.rng.next(),
            3 | 4 => old ^ 1 << self.rng.below(64),
            5 => old ^ 512,
            6 => old.wrapping_add(512 * (1 + self.rng.below(cluster / 512))),
            7 => flags | (length.next_multiple_of(cluster) + self.rng.below(9) * cluster),
            8 | 9 => flags | target,
            10 => target | COPIED,
            11 => target,
            12 => self.pick(others)?,
            _ => self.pick(&[1, COPIED, COMPRESSED, u64::MAX, target + 512])?,
        };
        (new != old && self.set(spot, new)).then(|| format!("{:#x}: {old:#x} to {new:#x}", spot.at))
    }

    fn change_number(&mut self, spot: Spot) -> Option<String> {
        let old = self.number(spot);
        let top = 1u64.checked_shl(8 * spot.width as u32).map_or(u64::MAX, |top| top - 1);
        let new = match self.rng.below(6) {
            0 => 0,
            1 => old ^ 1 << self.rng.below(8 * spot.width),
            2 => old.wrapping_add(1),
            3 => old.wrapping_sub(1),
            4 => self.rng.below(20),
            _ => self.rng.next(),
        } & top;
        (new != old && self.set(spot, new)).then(|| format!("{:#x}: {old:#x} to {new:#x}", spot.at))
    }

    fn l1_entry(&mut self) -> Option<String> {
        let number = self.rng.below(self.truth.disks.len() as u64) as usize;
        let disk = self.truth.disks[if self.rng.below(3) > 0 { 0 } else { number }].clone();
        let spots: Vec<Spot> =
            (0..disk.entries).map(|n| Spot { at: disk.l1 + 8 * n, width: 8 }).collect();
        let used: Vec<Spot> =
            spots.iter().copied().filter(|spot| self.number(*spot) != 0).collect();
        let values: Vec<u64> = used.iter().map(|spot| self.number(*spot)).collect();
        let from = if self.rng.below(8) > 0 { &used } else { &spots };
        let spot = self.pick(from)?;
        if self.rng.below(10) == 0 {
            return self.swap(spot, &used).map(|how| format!("L1 {how}"));
        }
        self.change_pointer(spot, &values).map(|how| format!("L1 {how}"))
    }

    fn swap(&mut self, spot: Spot, others: &[Spot]) -> Option<String> {
        let other = self.pick(others)?;
        let (a, b) = (self.number(spot), self.number(other));
        (a != b && self.set(spot, b) && self.set(other, a))
            .then(|| format!("{:#x} and {:#x} swapped", spot.at, other.at))
    }

    fn l2_entry(&mut self) -> Option<String> {
        let tables = self.clusters_of(|role| matches!(role, Role::L2(..)));
        let table = self.pick(&tables)? * self.truth.head.cluster();
        let entry = self.truth.head.entry();
        let spots: Vec<Spot> = (0..self.truth.head.cluster() / entry)
            .map(|n| Spot { at: table + n * entry, width: 8 })
            .collect();
        let used: Vec<Spot> =
            spots.iter().copied().filter(|spot| self.number(*spot) != 0).collect();
        let values: Vec<u64> = used.iter().map(|spot| self.number(*spot)).collect();
        let from = if self.rng.below(8) > 0 { &used } else { &spots };
        let spot = self.pick(from)?;
        if entry == 16 && self.rng.below(3) == 0 {
            let bitmap = Spot { at: spot.at + 8, width: 8 };
            return self.change_number(bitmap).map(|how| format!("L2 bitmap {how}"));
        }
        if self.rng.below(10) == 0 {
            return self.swap(spot, &used).map(|how| format!("L2 {how}"));
        }
        self.change_pointer(spot, &values).map(|how| format!("L2 {how}"))
    }

    fn clusters_of(&self, wanted: impl Fn(&Role) -> bool) -> Vec<u64> {
        let roles = (0..).zip(&self.truth.roles);
        roles.filter(|(_, roles)| roles.iter().any(&wanted)).map(|(n, _)| n).collect()
    }

    fn header_field(&mut self) -> Option<String> {
        const FIELDS: [(&str, u64, u64); 17] = [
            ("backing offset", 8, 8),
            ("backing size", 16, 4),
            ("cluster bits", 20, 4),
            ("size", 24, 8),
            ("crypt", 32, 4),
            ("l1 size", 36, 4),
            ("l1 size", 36, 4),
            ("l1 offset", 40, 8),
            ("refcount table offset", 48, 8),
            ("refcount table clusters", 56, 4),
            ("snapshots", 60, 4),
            ("snapshots offset", 64, 8),
            ("incompatible", 72, 8),
            ("autoclear", 88, 8),
            ("refcount order", 96, 4),
            ("header length", 100, 4),
            ("extensions", 104, 8),
        ];
        let (name, at, width) = self.pick(&FIELDS)?;
        if self.truth.head.version == 2 && at >= 72 {
            return None;
        }
        let at = if name == "extensions" { 104 + 8 * self.rng.below(24) } else { at };
        let spot = Spot { at, width };
        let how = match width {
            8 if name.ends_with("offset") => self.change_pointer(spot, &[]),
            _ => self.change_number(spot),
        };
        how.map(|how| format!("header {name} {how}"))
    }

    fn refcount(&mut self) -> Option<String> {
        let blocks = self.clusters_of(|role| *role == Role::RefcountBlock);
        let block = self.pick(&blocks)? * self.truth.head.cluster();
        let width = (1 << self.truth.head.refcount_order) / 8;
        let used = self.truth.roles.len() as u64;
        let width = u64::max(width, 1);
        let near = self.rng.below(used.min(self.truth.head.cluster() / width));
        let spot = Spot { at: block + near * width, width };
        self.change_number(spot).map(|how| format!("refcount {how}"))
    }

    fn reftable_entry(&mut self) -> Option<String> {
        let tables = self.clusters_of(|role| *role == Role::RefcountTable);
        let table = self.pick(&tables)? * self.truth.head.cluster();
        let spot = Spot { at: table + 8 * self.rng.below(3), width: 8 };
        self.change_pointer(spot, &[]).map(|how| format!("refcount table {how}"))
    }

    /// A number in the snapshot table or in bitmap structures.
    fn structure(&mut self) -> Option<String> {
        let snapshots = self.clusters_of(|role| *role == Role::SnapshotTable);
        let bitmaps = self.clusters_of(|role| *role == Role::Bitmap);
        let (name, found) = match self.rng.below(2) {
            0 if !snapshots.is_empty() => ("snapshot table", snapshots),
            _ => ("bitmap", bitmaps),
        };
        let at = self.pick(&found)? * self.truth.head.cluster() + 4 * self.rng.below(24);
        let width = self.pick(&[2, 4, 4, 8, 8])?;
        let spot = Spot { at, width };
        let how =
            if width == 8 { self.change_pointer(spot, &[]) } else { self.change_number(spot) };
        how.map(|how| format!("{name} {how}"))
    }

    /// A whole cluster, or a sector of it.
    fn cluster(&mut self) -> Option<String> {
        let number = loop {
            let number = self.some_cluster();
            let role = self.truth.roles[number as usize].first();
            if number > 0 && (role.is_some() || self.rng.below(8) == 0) {
                break number;
            }
        };
        let cluster = self.truth.head.cluster() as usize;
        let start = number as usize * cluster;
        let end = (start + cluster).min(self.bytes.len());
        if start >= end {
            return None; // The file was cut off.
        }
        let sector = start + self.rng.below((cluster / 512) as u64) as usize * 512;
        let other = self.some_cluster() as usize * cluster;
        let role = format!("{:?}", self.truth.roles[number as usize].first());
        let old = self.bytes.clone();
        let how = match self.rng.below(10) {
            0 => {
                self.bytes[start..end].fill(0);
                "zeroed"
            }
            1 | 2 if sector + 512 <= end => {
                self.bytes[sector..sector + 512].fill(0);
                "sector zeroed"
            }
            3 => {
                self.bytes[start..end].fill(b'x');
                "text"
            }
            4 => {
                let noise = self.rng.bytes(end - start);
                self.bytes[start..end].copy_from_slice(&noise);
                "noise"
            }
            5 if sector + 512 <= end => {
                let noise = self.rng.bytes(512);
                self.bytes[sector..sector + 512].copy_from_slice(&noise);
                "sector noise"
            }
            6 if other + (end - start) <= self.bytes.len() => {
                self.bytes.copy_within(other..other + (end - start), start);
                "another's bytes"
            }
            7 if other + cluster <= self.bytes.len() && end - start == cluster && other > 0 => {
                let (a, b) = (old[start..end].to_vec(), old[other..other + cluster].to_vec());
                self.bytes[start..end].copy_from_slice(&b);
                self.bytes[other..other + cluster].copy_from_slice(&a);
                "swapped with another"
            }
            _ => {
                let former = self.rng.below(self.former.len().max(1) as u64) as usize;
                let stale = self.former.get(former)?.get(start..end)?;
                self.bytes[start..end].copy_from_slice(stale);
                "stale"
            }
        };
        (old != *self.bytes).then(|| format!("cluster {number} {role} {how}"))
    }

    fn cut(&mut self) -> Option<String> {
        let cluster = self.truth.head.cluster();
        let length = self.bytes.len() as u64;
        let gone = match self.rng.below(3) {
            0 => 1 + self.rng.below(cluster),
            1 => (1 + self.rng.below(3)) * cluster,
            _ => self.rng.below(length / 2),
        };
        let left = length.saturating_sub(gone);
        (left >= cluster).then(|| {
            self.bytes.truncate(left as usize);
            format!("cut to {left} bytes of {length}")
        })
    }
}
