//! What a guest reads from an image in whatever state, as QEMU reads it; shares no code with the library.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use super::inflate::inflate;
use crate::support::images::bytes::{COMPRESSED, COPIED, OFFSET_MASK};

/// Bytes of a sector: guest data is compared sector by sector.
pub const SECTOR: u64 = 512;
/// No L1 table of these images has more entries.
const MOST_ENTRIES: u64 = 1 << 13;
/// QEMU's limit on an L1 table's entries.
const LIMIT: u64 = 4 << 20;
/// No image here has more snapshots.
const MOST_SNAPSHOTS: u64 = 64;

/// The fields of a header, decoded only as far as they make sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub version: u64,
    pub cluster_bits: u64,
    pub size: u64,
    pub crypt: u64,
    pub incompatible: u64,
    pub autoclear: u64,
    pub refcount_order: u64,
    pub backing: Option<Vec<u8>>,
    pub zstd: bool,
}

impl Head {
    /// `None` where QEMU does not recognise an image, or cannot read its sizes.
    fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 72 || bytes[..4] != *b"QFI\xfb" {
            return None;
        }
        let (version, cluster_bits) = (number(bytes, 4, 4), number(bytes, 20, 4));
        if !(2..=3).contains(&version) || !(9..=21).contains(&cluster_bits) {
            return None;
        }
        let v3 = |at, width, old| if version == 3 { number(bytes, at, width) } else { old };
        let (name, length) = (number(bytes, 8, 8) as usize, number(bytes, 16, 4) as usize);
        let backing = (name != 0).then(|| bytes.get(name..name.saturating_add(length)));
        let head = Self {
            version,
            cluster_bits,
            size: number(bytes, 24, 8),
            crypt: number(bytes, 32, 4),
            incompatible: v3(72, 8, 0),
            autoclear: v3(88, 8, 0),
            refcount_order: v3(96, 4, 4),
            backing: backing.flatten().map(<[u8]>::to_vec),
            zstd: version == 3 && number(bytes, 100, 4) > 104 && number(bytes, 104, 1) == 1,
        };
        (head.refcount_order <= 6 && head.incompatible & !0x1f == 0).then_some(head)
    }

    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    pub fn extended(&self) -> bool {
        self.incompatible & 0x10 != 0
    }

    pub fn data_file(&self) -> bool {
        self.incompatible & 4 != 0
    }

    /// Bytes of an L2 entry.
    pub fn entry(&self) -> u64 {
        if self.extended() { 16 } else { 8 }
    }

    /// Guest bytes below an L1 entry.
    pub fn span(&self) -> u64 {
        self.cluster() / self.entry() * self.cluster()
    }
}

/// A disk: the active one or a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Id and name, empty for the active disk.
    pub name: (Vec<u8>, Vec<u8>),
    pub l1: u64,
    pub entries: u64,
    pub size: u64,
}

/// What a run of sectors reads as. What is nowhere reads as the backing file, or as zeroes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Unreadable,
    Zero,
    /// The hash of each sector; 0 for zeroes.
    Data(Rc<[u64]>),
}

/// A run of sectors of a disk.
#[derive(Debug, Clone)]
pub struct Segment {
    pub start: u64,
    pub count: u64,
    pub token: Token,
    /// Where in the file the bytes are, for data that is not compressed.
    pub host: Option<u64>,
    /// Where the L2 table is.
    pub table: u64,
}

/// Decompressed clusters by descriptor and content, shared by the images of a case.
pub type Unpacked = RefCell<HashMap<(u64, u64), Option<Rc<[u64]>>>>;

/// An image to be read.
pub struct View<'a> {
    pub bytes: &'a [u8],
    pub head: Option<Head>,
    hashes: Vec<u64>,
    unpacked: &'a Unpacked,
}

impl<'a> View<'a> {
    /// With an unknown method of encryption nothing can be read: what a repair makes readable is
    /// compared with what the damage left.
    pub fn decrypt_as(&mut self, truth: &Head) {
        if let Some(head) = self.head.as_mut().filter(|head| head.crypt > 2) {
            head.crypt = truth.crypt;
        }
    }

    /// A view of these bytes; `like`: another one, whose hashes are used where bytes are the same.
    pub fn new(bytes: &'a [u8], like: Option<&View>, unpacked: &'a Unpacked) -> Self {
        Self { bytes, head: Head::of(bytes), hashes: hashes(bytes, like), unpacked }
    }

    pub fn number(&self, at: u64, width: u64) -> u64 {
        number(self.bytes, usize::try_from(at).unwrap_or(usize::MAX), width as usize)
    }

    /// The active disk, then the snapshots.
    pub fn disks(&self) -> Vec<Disk> {
        let Some(head) = &self.head else { return Vec::new() };
        let (l1, entries) = (self.number(40, 8), self.number(36, 4));
        let name = (Vec::new(), Vec::new());
        let mut disks = vec![Disk { name, l1, entries, size: head.size }];
        let mut at = self.number(64, 8);
        for _ in 0..self.number(60, 4).min(MOST_SNAPSHOTS) {
            at = match at.checked_next_multiple_of(8) {
                Some(at) if at < self.bytes.len() as u64 => at,
                _ => break,
            };
            let extra = self.number(at + 36, 4);
            let (id, name) = (self.number(at + 12, 2), self.number(at + 14, 2));
            let Some(names) = at.checked_add(40 + extra) else { break };
            if names + id + name > self.bytes.len() as u64 {
                break;
            }
            let text = |from: u64, len: u64| self.bytes[from as usize..][..len as usize].to_vec();
            let size = if extra >= 16 { self.number(at + 48, 8) } else { head.size };
            disks.push(Disk {
                name: (text(names, id), text(names + id, name)),
                l1: self.number(at, 8),
                entries: self.number(at + 8, 4),
                size,
            });
            at = names + id + name;
        }
        disks
    }

    /// The end of the snapshot table.
    pub fn snapshot_table_end(&self) -> u64 {
        let mut at = self.number(64, 8);
        for _ in 0..self.number(60, 4).min(MOST_SNAPSHOTS) {
            at = match at.checked_next_multiple_of(8) {
                Some(at) if at < self.bytes.len() as u64 => at,
                _ => break,
            };
            at += 40 + self.number(at + 36, 4) + self.number(at + 12, 2) + self.number(at + 14, 2);
        }
        at
    }

    /// What a disk reads as, VM state after its end included; in order.
    pub fn read(&self, disk: &Disk) -> Vec<Segment> {
        let Some(head) = &self.head else { return Vec::new() };
        let mut found = Vec::new();
        if disk.l1 % head.cluster() != 0 || disk.entries > LIMIT {
            let token = Token::Unreadable;
            return vec![Segment { start: 0, count: 1 << 40, token, host: None, table: 0 }];
        }
        for index in 0..disk.entries.min(MOST_ENTRIES) {
            let table = self.number(disk.l1 + 8 * index, 8) & OFFSET_MASK;
            if table % head.cluster() != 0 {
                let (start, count) = (index * head.span() / SECTOR, head.span() / SECTOR);
                found.push(Segment { start, count, token: Token::Unreadable, host: None, table });
            } else if table != 0 {
                self.read_table(head, table, index, &mut found);
            }
        }
        found
    }

    fn read_table(&self, head: &Head, table: u64, index: u64, found: &mut Vec<Segment>) {
        let per_cluster = head.cluster() / SECTOR;
        let start = usize::try_from(table).unwrap_or(usize::MAX).min(self.bytes.len());
        let end = (start + head.cluster() as usize).min(self.bytes.len());
        for (entry, bytes) in (0..).zip(self.bytes[start..end].chunks(head.entry() as usize)) {
            if bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            let at = table + entry * head.entry();
            let bits = self.number(at, 8);
            let bitmap = if head.extended() { self.number(at + 8, 8) } else { 0 };
            let guest = index * head.span() + entry * head.cluster();
            let one = |(token, host)| Segment {
                start: guest / SECTOR,
                count: per_cluster,
                token,
                host,
                table,
            };
            if head.extended() && bits & COMPRESSED == 0 {
                self.read_subclusters(head, (table, bits & OFFSET_MASK), bitmap, guest, found);
            } else {
                found.extend(self.read_entry(head, bits, guest).map(one));
            }
        }
    }

    /// A standard or compressed entry; `None` where it reads as what is below.
    fn read_entry(&self, head: &Head, bits: u64, guest: u64) -> Option<(Token, Option<u64>)> {
        let host = bits & OFFSET_MASK;
        let aligned = host % head.cluster() == 0;
        if bits & COMPRESSED != 0 {
            let token = match head.data_file() {
                true => None,
                false => self.unpack(head, bits),
            };
            return Some((token.map_or(Token::Unreadable, Token::Data), None));
        }
        if bits & 1 != 0 {
            let sound = head.version == 3 && aligned;
            return Some((if sound { Token::Zero } else { Token::Unreadable }, None));
        }
        if host == 0 && !(head.data_file() && bits & COPIED != 0) {
            return None;
        }
        Some((self.data(head, host, guest, head.cluster()), Some(host)))
    }

    fn read_subclusters(
        &self,
        head: &Head,
        (table, host): (u64, u64),
        bitmap: u64,
        guest: u64,
        found: &mut Vec<Segment>,
    ) {
        let (allocated, zero) = (bitmap & 0xffff_ffff, bitmap >> 32);
        let length = head.cluster() / 32;
        let nowhere = host == 0 && !head.data_file();
        let invalid = allocated & zero != 0 || (nowhere && allocated != 0);
        for n in 0..32 {
            let start = guest + n * length;
            let (token, at) = match (allocated >> n & 1, zero >> n & 1) {
                _ if invalid || host % head.cluster() != 0 => (Token::Unreadable, None),
                (1, _) => {
                    (self.data(head, host + n * length, start, length), Some(host + n * length))
                }
                (_, 1) => (Token::Zero, None),
                _ => continue,
            };
            found.push(Segment {
                start: start / SECTOR,
                count: length / SECTOR,
                token,
                host: at,
                table,
            });
        }
    }

    fn data(&self, head: &Head, host: u64, guest: u64, length: u64) -> Token {
        let sectors = 0..length / SECTOR;
        if head.data_file() {
            let token = |n| mix(guest / SECTOR + n, 0x5eed);
            return match host == guest {
                true => Token::Data(sectors.map(token).collect()),
                false => Token::Unreadable,
            };
        }
        if host % head.cluster().min(length) != 0 {
            return Token::Unreadable;
        }
        let at = |n| self.hashes.get((host / SECTOR + n) as usize).copied().unwrap_or(0);
        Token::Data(match head.crypt {
            2 => sectors.map(|n| mix(at(n), host / SECTOR + n)).collect(),
            _ => sectors.map(at).collect(),
        })
    }

    /// The position of a compressed cluster.
    pub fn extent(head: &Head, bits: u64) -> (u64, u64) {
        let shift = 62 - (head.cluster_bits - 8);
        let at = bits & ((1 << shift) - 1);
        let sectors = (bits & (COMPRESSED - 1)) >> shift;
        (at, (sectors + 1) * 512 - at % 512)
    }

    fn unpack(&self, head: &Head, bits: u64) -> Option<Rc<[u64]>> {
        let (at, length) = Self::extent(head, bits);
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(self.bytes.len());
        let end = (start + length as usize).min(self.bytes.len());
        if start == end {
            return None;
        }
        // All sectors that the extent touches.
        let sectors = self.hashes.get(start / 512..end.div_ceil(512)).unwrap_or_default();
        let key = (bits & !COPIED, sectors.iter().fold(1, |so_far, &sector| mix(so_far, sector)));
        if let Some(known) = self.unpacked.borrow().get(&key) {
            return known.clone();
        }
        let mut input = Cow::Borrowed(&self.bytes[start..end]);
        if end - start < length as usize {
            input.to_mut().resize(length as usize, 0);
        }
        let sectors = OUTPUT.with_borrow_mut(|output| {
            output.resize(head.cluster() as usize, 0);
            let is_whole = inflate(&input, output, head.zstd).is_some();
            is_whole.then(|| output.chunks(512).map(hash).collect::<Rc<[u64]>>())
        });
        self.unpacked.borrow_mut().insert(key, sectors.clone());
        sectors
    }
}

thread_local! {
    /// A decompressed cluster: tables of noise have many entries that look compressed.
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The big-endian number of `width` bytes at `at`; bytes past the end read as zeroes.
fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    if let (8, Some(word)) = (width, bytes.get(at..at.saturating_add(8))) {
        let mut whole = [0; 8];
        whole.copy_from_slice(word);
        return u64::from_be_bytes(whole);
    }
    let byte = |n| u64::from(at.checked_add(n).and_then(|at| bytes.get(at)).copied().unwrap_or(0));
    (0..width).fold(0, |value, n| (value << 8) | byte(n))
}

const fn mix(a: u64, b: u64) -> u64 {
    (a.rotate_left(23) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The hash of a sector, the last one of a file perhaps short; 0 for zeroes.
fn hash(sector: &[u8]) -> u64 {
    if sector.iter().all(|&byte| byte == 0) {
        return 0;
    }
    let mut hash = 0;
    for word in sector.chunks_exact(8) {
        let mut whole = [0; 8];
        whole.copy_from_slice(word);
        hash = mix(hash, u64::from_be_bytes(whole)) ^ (hash >> 29);
    }
    let rest = sector.chunks_exact(8).remainder();
    if !rest.is_empty() {
        let mut padded = [0; 8];
        padded[..rest.len()].copy_from_slice(rest);
        hash = mix(hash, u64::from_be_bytes(padded)) ^ (hash >> 29);
    }
    // The sector is filled up with zeroes.
    for _ in sector.len().div_ceil(8)..64 {
        hash = mix(hash, 0) ^ hash >> 29;
    }
    hash | 1
}

fn hashes(bytes: &[u8], like: Option<&View>) -> Vec<u64> {
    const BLOCK: usize = 16 << 10;
    let mut found = Vec::with_capacity(bytes.len() / 512 + 1);
    for (n, block) in bytes.chunks(BLOCK).enumerate() {
        let same =
            like.filter(|like| like.bytes.get(n * BLOCK..n * BLOCK + block.len()) == Some(block));
        let sectors = n * BLOCK / 512..(n * BLOCK + block.len()).div_ceil(512);
        match same {
            Some(like) if block.len() == BLOCK => found.extend_from_slice(&like.hashes[sectors]),
            _ => found.extend(block.chunks(512).map(hash)),
        }
    }
    found
}

/// What three images read as at a sector, pairwise compared.
pub struct Compared<'a> {
    pub sector: u64,
    pub before: Option<&'a Segment>,
    pub truth: Option<&'a Segment>,
    pub after: Option<&'a Segment>,
    pub before_is_after: bool,
    pub truth_is_after: bool,
    pub truth_is_before: bool,
}

/// The first sector, of those that some segment records, for which the rule is broken. `reads`: what is read before a
/// repair, in truth, and after the repair. No rule is broken where the truth is read after it.
pub fn first_broken(
    reads: [&[Segment]; 3],
    backed: bool,
    range: Range<u64>,
    breaks: impl Fn(&Compared) -> bool,
) -> Option<u64> {
    let inside = |at: &u64| range.contains(at);
    let edges = reads.iter().flat_map(|s| s.iter().flat_map(|s| [s.start, s.start + s.count]));
    let mut edges: Vec<u64> = edges.filter(inside).chain([range.start, range.end]).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut cursors = reads.map(|segments| Cursor { segments, at: 0 });
    for edge in edges.windows(2) {
        let (start, end) = (edge[0], edge[1]);
        let [before, truth, after] = &mut cursors;
        let (b, t, a) = (before.at(start), truth.at(start), after.at(start));
        if data_at(t, start..end).is_some_and(|truth| data_at(a, start..end) == Some(truth)) {
            continue;
        }
        let uniform =
            [b, t, a].iter().all(|s| s.is_none_or(|s| !matches!(s.token, Token::Data(_))));
        let last = if uniform { start + 1 } else { end };
        for sector in start..last {
            let value = |segment: Option<&Segment>| value(segment, sector, backed);
            let (vb, vt, va) = (value(b), value(t), value(a));
            let compared = Compared {
                sector,
                before: b,
                truth: t,
                after: a,
                before_is_after: vb == va,
                truth_is_after: vt == va,
                truth_is_before: vt == vb,
            };
            if breaks(&compared) {
                return Some(sector);
            }
        }
    }
    None
}

struct Cursor<'a> {
    segments: &'a [Segment],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The segment that has this sector; requested in order.
    fn at(&mut self, sector: u64) -> Option<&'a Segment> {
        while self.segments.get(self.at).is_some_and(|s| s.start + s.count <= sector) {
            self.at += 1;
        }
        self.segments.get(self.at).filter(|s| s.start <= sector)
    }
}

/// The hashes of sectors of data.
fn data_at(segment: Option<&Segment>, sectors: Range<u64>) -> Option<&[u64]> {
    let segment = segment?;
    let at = |sector: u64| (sector - segment.start) as usize;
    match &segment.token {
        Token::Data(hashes) => hashes.get(at(sectors.start)..at(sectors.end)),
        Token::Unreadable | Token::Zero => None,
    }
}

/// What a sector reads as; `None` where it cannot be read.
fn value(segment: Option<&Segment>, sector: u64, backed: bool) -> Option<u64> {
    match segment {
        None => Some(if backed { u64::MAX } else { 0 }),
        Some(segment) => match &segment.token {
            Token::Unreadable => None,
            Token::Zero => Some(0),
            Token::Data(hashes) => hashes.get((sector - segment.start) as usize).copied(),
        },
    }
}
