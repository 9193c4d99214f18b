//! What a repair must never do, checked against the truth: the image before it was damaged.

use super::roles::{Role, Truth, shared};
use super::view::{Compared, Segment, Token, Unpacked, View, first_broken};
use crate::support::images::bytes::{COMPRESSED, COPIED, OFFSET_MASK};

/// A damaged image and what was made of it.
pub struct Case<'a> {
    pub truth: &'a Truth<'a>,
    pub damaged: View<'a>,
    pub(super) before: Vec<Vec<Segment>>,
}

/// The image after a repair.
pub struct After<'a> {
    view: View<'a>,
    reads: Vec<Vec<Segment>>,
}

impl<'a> Case<'a> {
    /// A damaged image with its truth.
    pub fn new(truth: &'a Truth<'a>, damaged: &'a [u8], unpacked: &'a Unpacked) -> Self {
        let mut damaged = View::new(damaged, Some(&truth.view), unpacked);
        damaged.decrypt_as(&truth.head);
        let before = damaged.disks().iter().map(|disk| damaged.read(disk)).collect();
        Self { truth, damaged, before }
    }

    /// The image after a repair.
    pub fn after(&self, bytes: &'a [u8], unpacked: &'a Unpacked) -> After<'a> {
        let mut view = View::new(bytes, Some(&self.damaged), unpacked);
        view.decrypt_as(&self.truth.head);
        let reads = view.disks().iter().map(|disk| view.read(disk)).collect();
        After { view, reads }
    }

    pub(super) fn is_backed(&self) -> bool {
        self.truth.head.backing.is_some()
    }

    fn truth_of(&self, disk: usize) -> &[Segment] {
        self.truth.reads.get(disk).map_or(&[], Vec::as_slice)
    }

    /// I4: what a position reads as has not changed, or is right now.
    pub fn guessed(&self, after: &After) -> Option<String> {
        if after.view.head.is_none() && self.damaged.head.is_some() {
            return Some("the header cannot be read any more".into());
        }
        for (number, before) in self.before.iter().enumerate().take(self.truth.disks.len()) {
            let Some(reads) = after.reads.get(number) else {
                return Some(format!("disk {number} is gone"));
            };
            // No L1 table is in the header's cluster, which every repair may write.
            if self.damaged.disks().get(number).is_some_and(|d| d.l1 < self.truth.head.cluster()) {
                continue;
            }
            // What is read through metadata changes with it.
            let excused = |segment: &Segment| {
                self.is_metadata(segment.host) || !self.is_l2_table(segment.table)
            };
            let all = [before.as_slice(), self.truth_of(number), reads.as_slice()];
            let wrong = |at: &Compared| {
                // Its own cluster, though its content may be damaged.
                let host = |segment: Option<&Segment>| segment.and_then(|segment| segment.host);
                let own = host(at.after).is_some() && host(at.after) == host(at.truth);
                !at.before_is_after
                    && !at.truth_is_after
                    && !own
                    && !at.before.is_some_and(excused)
                    && !self.is_own_entry(number, at.sector, after)
            };
            let range = 0..self.truth.disks[number].entries * self.truth.head.span() / 512;
            if let Some(sector) = first_broken(all, self.is_backed(), range, wrong) {
                return Some(format!("disk {number} reads otherwise at {:#x}", sector * 512));
            }
        }
        None
    }

    /// Whether what could not be read has its own L2 table again, or the one that its entry names without the bits that
    /// none can have, and reads what the damage left there.
    fn is_own_entry(&self, number: usize, sector: u64, after: &After) -> bool {
        let (head, guest) = (&self.truth.head, sector * 512);
        let disks = after.view.disks();
        let Some(l1) = disks.get(number).map(|disk| disk.l1) else { return false };
        let index = guest / head.span();
        let table = |view: &View, l1: u64| view.number(l1 + 8 * index, 8) & OFFSET_MASK;
        let (is, named) = (table(&after.view, l1), table(&self.damaged, l1));
        let plain = named ^ is != 0 && (named ^ is) & !(head.cluster() - 1) == 0;
        // One of two entries that changed places, and was damaged beside.
        let moved = (0..self.truth.disks[number].entries).any(|other| {
            let entry = |view: &View, index: u64| {
                view.number(self.truth.disks[number].l1 + 8 * index, 8) & OFFSET_MASK
            };
            let truth = &self.truth.view;
            other != index
                && entry(truth, other) == is
                && entry(&self.damaged, other) == entry(truth, index)
        });
        let plain = plain || moved;
        let kept = named == is;
        let own =
            if plain || kept { is } else { table(&self.truth.view, self.truth.disks[number].l1) };
        let entry = own + guest % head.span() / head.cluster() * head.entry();
        let offset = |view: &View| view.number(entry, 8) & !COPIED;
        let bitmap = |view: &View| view.number(entry + 8, 8);
        // Its own cluster again, with the bitmap that the damage left.
        let is_own_offset = head.extended()
            && offset(&after.view) == offset(&self.truth.view)
            && bitmap(&after.view) == bitmap(&self.damaged);
        // Of a table with other content nothing is left as evidence.
        let words = |view: &View| -> Vec<u64> {
            (0..head.cluster())
                .step_by(head.entry() as usize)
                .map(|n| view.number(own + n, 8))
                .collect()
        };
        let (was, left) = (words(&self.truth.view), words(&self.damaged));
        let same = was.iter().zip(&left).filter(|(a, b)| **a != 0 && a == b).count();
        let replaced = 2 * same < was.iter().filter(|word| **word != 0).count();
        // The entry is as it was, or one of those that changed places.
        let number = (entry - own) / head.entry();
        let restored = (0u64..).zip(was.iter().zip(&left)).any(|(n, (was, left))| {
            let moved = n == number || was & !COPIED != left & !COPIED;
            *was != 0 && was & !COPIED == offset(&after.view) && moved
        });
        let is_plain = offset(&self.damaged) & !(head.cluster() - 1) == offset(&after.view);
        own != 0
            && is == own
            && (restored
                || replaced && is_plain
                || !kept && offset(&self.damaged) == offset(&after.view)
                || is_own_offset)
    }

    fn is_l2_table(&self, table: u64) -> bool {
        let roles = self.truth.roles.get((table / self.truth.head.cluster()) as usize);
        roles.is_some_and(|roles| roles.iter().any(|role| matches!(role, Role::L2(..))))
    }

    fn is_metadata(&self, host: Option<u64>) -> bool {
        let cluster = self.truth.head.cluster();
        let role = |host: u64| self.truth.roles.get((host / cluster) as usize);
        host.and_then(role).is_some_and(|roles| {
            roles.iter().any(|role| !matches!(role, Role::Data(..) | Role::Preallocated))
        })
    }

    /// I3: every intact cluster is where it was and counted, or what it held is reached where it belongs.
    pub fn destroyed(&self, after: &After) -> Option<String> {
        let cluster = self.truth.head.cluster();
        let like_a_crash = self.is_like_a_crash();
        for (number, roles) in self.truth.roles.iter().enumerate() {
            let kept: Vec<&Role> = roles.iter().filter(|role| role.is_kept()).collect();
            if kept.is_empty() || !self.is_intact(number as u64) {
                continue;
            }
            // Bitmaps without their bit belong to nobody.
            let stale = self.damaged.head.as_ref().is_some_and(|head| head.autoclear & 1 == 0);
            let lost = kept.iter().all(|role| match role {
                Role::Data(..) | Role::Bitmap => true,
                Role::L2(disk, index) => self.is_lost_as_in_a_crash(*disk, *index),
                _ => false,
            });
            let bitmap = kept.iter().all(|role| **role == Role::Bitmap);
            if like_a_crash && lost || bitmap && stale {
                continue;
            }
            let why = if !self.is_unchanged(number as u64, &kept, after) {
                "overwritten"
            } else if self.is_released(number as u64, after) {
                "released"
            } else {
                continue;
            };
            if !kept.iter().all(|role| self.is_reached(role, after)) {
                let at = number as u64 * cluster;
                return Some(format!("cluster {number} at {at:#x} ({:?}) is {why}", kept[0]));
            }
        }
        None
    }

    /// Whether a cluster with something in it has survived the damage.
    fn is_intact(&self, number: u64) -> bool {
        let was = slice(self.truth.view.bytes, number, self.truth.head.cluster());
        let is = slice(self.damaged.bytes, number, self.truth.head.cluster());
        was == is && was.iter().any(|&byte| byte != 0)
    }

    /// Whether the cluster has the bytes that it had; in tables COPIED may have changed.
    fn is_unchanged(&self, number: u64, roles: &[&Role], after: &After) -> bool {
        let was = slice(self.damaged.bytes, number, self.truth.head.cluster());
        let is = slice(after.view.bytes, number, self.truth.head.cluster());
        // The last cluster of a file is filled up with zeroes.
        let (is, rest) = is.split_at(was.len().min(is.len()));
        if was == is {
            return rest.iter().all(|&byte| byte == 0);
        }
        let table = roles.iter().all(|role| matches!(role, Role::L1(_) | Role::L2(..)));
        let bit = (COPIED >> 56) as u8;
        // A pointer to a copy of what it pointed to.
        let cluster = self.truth.head.cluster();
        let contents = |was: u64, is: u64| {
            let at = |entry: u64| (entry & OFFSET_MASK) / cluster;
            let standard = (was | is) & COMPRESSED == 0 && (was ^ is) & !OFFSET_MASK & !COPIED == 0;
            let old = slice(self.damaged.bytes, at(was), cluster);
            let new = slice(after.view.bytes, at(is), cluster);
            (standard && !old.is_empty()).then_some((old, new))
        };
        let is_copy = |was, is| contents(was, is).is_some_and(|(old, new)| old == new);
        // A table's copy points to copies in its turn.
        let is_copied_table = |was, is| {
            contents(was, is).is_some_and(|(old, new)| {
                let mut pairs = old.chunks_exact(8).zip(new.chunks_exact(8));
                pairs.all(|(a, b)| {
                    let (a, b) = (word(a, 0), word(b, 0));
                    a | COPIED == b | COPIED || is_copy(a, b)
                })
            })
        };
        let is_l1 = matches!(roles[0], Role::L1(_));
        let step = if matches!(roles[0], Role::L2(..)) { self.truth.head.entry() } else { 8 };
        table
            && was.len() == is.len()
            && was.iter().zip(is).enumerate().all(|(at, (a, b))| {
                let start = at / 8 * 8;
                a == b
                    || (at as u64 % step == 0 && a | bit == b | bit)
                    || is_copy(word(was, start), word(is, start))
                    || is_l1 && is_copied_table(word(was, start), word(is, start))
            })
    }

    /// Whether a cluster that was counted, or of which no count was left, is free now.
    fn is_released(&self, number: u64, after: &After) -> bool {
        let at = number * self.truth.head.cluster();
        count(&after.view, at) == Some(0) && count(&self.damaged, at) != Some(0)
    }

    /// Whether what a cluster was for is as it was before the damage.
    fn is_reached(&self, role: &Role, after: &After) -> bool {
        let reads_right = |disk: usize, range: std::ops::Range<u64>| {
            after.reads.get(disk).is_some_and(|reads| {
                let all = [&[], self.truth_of(disk), reads.as_slice()];
                first_broken(all, self.is_backed(), range, |at| !at.truth_is_after).is_none()
            })
        };
        let span = self.truth.head.span() / 512;
        match role {
            Role::Data(disk, sectors) => reads_right(*disk, sectors.clone()),
            Role::L2(disk, index) => reads_right(*disk, index * span..(index + 1) * span),
            Role::L1(disk) => reads_right(*disk, 0..self.truth.disks[*disk].entries * span),
            Role::SnapshotTable => {
                let names = |view: &View| -> Vec<_> {
                    view.disks().into_iter().map(|disk| (disk.name.1, disk.size)).collect()
                };
                names(&self.truth.view) == names(&after.view)
            }
            _ => false,
        }
    }

    /// A repair that calls an image clean in which two positions of a disk share what they did not.
    pub fn shares(&self, after: &After) -> Option<String> {
        if self.truth.shares {
            return None;
        }
        let disk = |(number, reads): (usize, &Vec<Segment>)| {
            let sector = shared(reads)?;
            Some(format!("disk {number} shares what it has at {:#x} with itself", sector * 512))
        };
        after.reads.iter().enumerate().find_map(disk)
    }

    /// With leave: what was read right before is read right after, of every disk that is left.
    pub fn gave_up_too_much(&self, after: &After) -> Option<String> {
        let same = |view: &View| {
            view.head.as_ref().is_some_and(|head| {
                (head.cluster_bits, head.extended(), head.data_file(), head.crypt)
                    == (
                        self.truth.head.cluster_bits,
                        self.truth.head.extended(),
                        self.truth.head.data_file(),
                        self.truth.head.crypt,
                    )
            })
        };
        if !same(&self.damaged) || !same(&after.view) {
            return None;
        }
        let before = self.damaged.disks();
        for (number, disk) in self.truth.disks.iter().enumerate() {
            let (Some(is), Some(was)) = (
                after.view.disks().iter().position(|d| d.name == disk.name),
                before.iter().position(|d| d.name == disk.name),
            ) else {
                continue;
            };
            let all = [&self.before[was], self.truth_of(number), after.reads[is].as_slice()];
            let lost = |at: &Compared| at.truth_is_before && !at.truth_is_after;
            let range = 0..disk.size.div_ceil(512);
            if let Some(sector) = first_broken(all, self.is_backed(), range, lost) {
                let at = |segments: &[Segment]| {
                    let here = |s: &&Segment| s.start <= sector && sector < s.start + s.count;
                    segments
                        .iter()
                        .find(here)
                        .map(|s| (s.host, s.table, s.token == Token::Unreadable))
                };
                let seen = all.map(at);
                return Some(format!("disk {number} was right at {:#x}: {seen:x?}", sector * 512));
            }
        }
        None
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |word| word.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)))
}

pub(super) fn slice(bytes: &[u8], number: u64, cluster: u64) -> &[u8] {
    let at = |n: u64| usize::try_from(n * cluster).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[at(number)..at(number + 1)]
}

/// The stored refcount of the cluster there; `None` where there is no block that can be read.
pub(super) fn count(view: &View, at: u64) -> Option<u64> {
    let head = view.head.as_ref()?;
    let number = at / head.cluster();
    let (table, clusters) = (view.number(48, 8), view.number(56, 4));
    let per_block = (head.cluster() * 8) >> head.refcount_order;
    let index = number / per_block;
    if table % head.cluster() != 0
        || table == 0
        || index >= clusters.min(1 << 20) * head.cluster() / 8
    {
        return None;
    }
    let block = view.number(table + 8 * index, 8);
    if block & OFFSET_MASK != block
        || block % head.cluster() != 0
        || block == 0
        || block >= view.bytes.len() as u64
    {
        return None;
    }
    let bit = (number % per_block) << head.refcount_order;
    Some(match head.refcount_order {
        0..=2 => {
            let mask = (1 << (1 << head.refcount_order)) - 1;
            view.number(block + bit / 8, 1) >> (bit % 8) & mask
        }
        wide => view.number(block + bit / 8, 1 << (wide - 3)),
    })
}
