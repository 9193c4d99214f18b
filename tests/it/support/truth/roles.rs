//! What each cluster of an image was for before it was damaged.

use std::ops::Range;

use super::view::{Disk, Head, Segment, Unpacked, View};
use crate::support::images::bytes::{COMPRESSED, OFFSET_MASK};

/// What a cluster is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    Header,
    RefcountTable,
    RefcountBlock,
    CryptoHeader,
    SnapshotTable,
    /// The L1 table of this disk.
    L1(usize),
    /// The L2 table of this L1 entry.
    L2(usize, u64),
    /// Guest data, or VM state, of these sectors of a disk.
    Data(usize, Range<u64>),
    /// The space of a cluster that reads as zeroes.
    Preallocated,
    /// The directory, a table or the data of bitmaps.
    Bitmap,
}

impl Role {
    /// Whether an intact cluster of this kind must be kept.
    pub fn is_kept(&self) -> bool {
        !matches!(
            self,
            Self::Header | Self::RefcountTable | Self::RefcountBlock | Self::Preallocated
        )
    }
}

/// An image before it is damaged.
pub struct Truth<'a> {
    pub view: View<'a>,
    pub head: Head,
    pub disks: Vec<Disk>,
    /// What each disk reads as.
    pub reads: Vec<Vec<Segment>>,
    /// By host cluster.
    pub roles: Vec<Vec<Role>>,
    /// The host clusters of a disk that several of its positions use already.
    pub shares: bool,
}

impl<'a> Truth<'a> {
    /// The roles in a valid image.
    pub fn of(bytes: &'a [u8], unpacked: &'a Unpacked) -> Self {
        let view = View::new(bytes, None, unpacked);
        let head = view.head.clone().expect("the image is valid before it is damaged");
        let disks = view.disks();
        let reads = disks.iter().map(|disk| view.read(disk)).collect();
        let clusters = bytes.len().div_ceil(head.cluster() as usize);
        let roles = vec![Vec::new(); clusters];
        let mut truth = Self { view, head, disks, reads, roles, shares: false };
        truth.metadata();
        for disk in 0..truth.disks.len() {
            truth.disk(disk);
        }
        truth.shares = (0..truth.disks.len()).any(|disk| truth.shared_in(disk));
        truth
    }

    fn add(&mut self, at: u64, length: u64, role: &Role) {
        if length > 0 {
            let cluster = self.head.cluster();
            for n in at / cluster..=(at + length - 1) / cluster {
                if let Some(roles) = self.roles.get_mut(n as usize) {
                    roles.push(role.clone());
                }
            }
        }
    }

    fn metadata(&mut self) {
        let cluster = self.head.cluster();
        self.add(0, 1, &Role::Header);
        let (table, clusters) = (self.view.number(48, 8), self.view.number(56, 4));
        self.add(table, clusters * cluster, &Role::RefcountTable);
        for n in 0..clusters * cluster / 8 {
            let block = self.view.number(table + 8 * n, 8);
            if block != 0 {
                self.add(block, cluster, &Role::RefcountBlock);
            }
        }
        let snapshots = self.view.number(64, 8);
        if self.view.number(60, 4) > 0 {
            let length = self.view.snapshot_table_end() - snapshots;
            self.add(snapshots, length, &Role::SnapshotTable);
        }
        let mut at = if self.head.version == 3 { self.view.number(100, 4) } else { 72 };
        while self.view.number(at, 4) != 0 && at < cluster {
            let (magic, length) = (self.view.number(at, 4), self.view.number(at + 4, 4));
            match magic {
                0x0537_be77 => {
                    let (at, length) = (self.view.number(at + 8, 8), self.view.number(at + 16, 8));
                    self.add(at, length, &Role::CryptoHeader);
                }
                0x2385_2875 if self.head.autoclear & 1 != 0 => self.bitmaps(at + 8),
                _ => {}
            }
            at += 8 + length.next_multiple_of(8);
        }
    }

    fn bitmaps(&mut self, extension: u64) {
        let count = self.view.number(extension, 4);
        let mut at = self.view.number(extension + 16, 8);
        self.add(at, self.view.number(extension + 8, 8), &Role::Bitmap);
        for _ in 0..count {
            let (table, entries) = (self.view.number(at, 8), self.view.number(at + 8, 4));
            self.add(table, entries * 8, &Role::Bitmap);
            for n in 0..entries {
                let data = self.view.number(table + 8 * n, 8) & OFFSET_MASK;
                if data != 0 {
                    self.add(data, self.head.cluster(), &Role::Bitmap);
                }
            }
            let names = self.view.number(at + 18, 2) + self.view.number(at + 20, 4);
            at += (24 + names).next_multiple_of(8);
        }
    }

    fn disk(&mut self, number: usize) {
        let (disk, head) = (self.disks[number].clone(), self.head.clone());
        self.add(disk.l1, disk.entries * 8, &Role::L1(number));
        for index in 0..disk.entries {
            let table = self.view.number(disk.l1 + 8 * index, 8) & OFFSET_MASK;
            if table == 0 {
                continue;
            }
            self.add(table, head.cluster(), &Role::L2(number, index));
            for entry in 0..head.cluster() / head.entry() {
                let guest = index * head.span() + entry * head.cluster();
                self.entry(number, table + entry * head.entry(), guest);
            }
        }
    }

    fn entry(&mut self, disk: usize, at: u64, guest: u64) {
        let head = self.head.clone();
        let bits = self.view.number(at, 8);
        let sectors = guest / 512..(guest + head.cluster()) / 512;
        let host = bits & OFFSET_MASK;
        if bits & COMPRESSED != 0 {
            let (at, length) = View::extent(&head, bits);
            self.add(at, length, &Role::Data(disk, sectors));
        } else if host != 0 && !head.data_file() {
            let zero = match head.extended() {
                true => self.view.number(at + 8, 8) & 0xffff_ffff == 0,
                false => bits & 1 != 0,
            };
            let role = if zero { Role::Preallocated } else { Role::Data(disk, sectors) };
            self.add(host, head.cluster(), &role);
        }
    }

    fn shared_in(&self, disk: usize) -> bool {
        shared(&self.reads[disk]).is_some()
    }
}

/// A host cluster that two positions of a disk share, by the first sector of the second one.
pub fn shared(reads: &[Segment]) -> Option<u64> {
    let mut hosts: Vec<(u64, u64)> =
        reads.iter().filter_map(|segment| Some((segment.host?, segment.start))).collect();
    hosts.sort_unstable();
    hosts.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1)
}
