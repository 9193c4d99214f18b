//! Damage as an input describes it: which image, in which mode it is repaired, and up to eight changes.

use std::sync::OnceLock;

use qcheck::repair::RepairMode;

use crate::support::images::builder::{Builder, Content, Snapshot};
use crate::support::images::bytes::{
    COPIED, HEADER, OFFSET_MASK, cluster_size, extension, header, l1_entry_at, l2_entry_size,
    l2_entry_through, peek, poke, refblock_at, refcount_bits, reftable_entry_at, snapshot_entries,
};

/// Changes to one image.
const MOST_CHANGES: usize = 8;
/// Bytes of the input for each.
pub const CHANGE_BYTES: usize = 14;
/// Clusters that nothing uses after the end of every image.
const SPARE: u64 = 6;

/// What is to be repaired.
pub struct Damaged {
    pub bytes: Vec<u8>,
    /// The image before the damage; `None` where the bytes are the input's own.
    pub sound: Option<&'static [u8]>,
    pub mode: RepairMode,
    /// Whether the image cannot grow.
    pub fixed: bool,
}

/// The images that get damaged.
pub fn bases() -> &'static [Vec<u8>] {
    static BASES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    BASES.get_or_init(|| {
        let own = Snapshot::own("own", &[(0, Content::Data(0x66)), (90, Content::Data(0x67))]);
        let vm = Snapshot { vm_clusters: 2, ..own.clone() };
        let shared = Snapshot::shared("shared");
        let parts = Content::Subclusters { allocated: 0xff, zero: 0xff00_0000, byte: 0x88 };
        let bitmaps = base(3, 10, 4).bitmap("day", 9, 0xf0).bitmap("hour", 12, 1);
        [
            base(3, 9, 4).feature_names(),
            base(2, 9, 4).snapshot(shared.clone()),
            base(3, 10, 3).snapshot(shared.clone()).snapshot(vm),
            base(3, 9, 1).snapshot(shared),
            base(3, 9, 0).snapshot(own),
            base(3, 9, 6),
            Builder::new(24 << 14)
                .cluster_bits(14)
                .extended_l2()
                .data(0..2, 0x11)
                .at(7, Content::Zero)
                .at(8, parts)
                .at(9, Content::Compressed(0x33)),
            bitmaps,
            base(3, 10, 4).encrypted(),
        ]
        .into_iter()
        .map(|builder| {
            let mut bytes = builder.build().bytes;
            let spare = SPARE * cluster_size(&bytes).min(4096);
            bytes.resize(bytes.len() + spare as usize, 0);
            bytes
        })
        .collect()
    })
}

fn base(version: u32, bits: u32, order: u32) -> Builder {
    let mut builder =
        Builder::new(160 << bits).version(version).cluster_bits(bits).refcount_order(order);
    let data = (0..6_u64).chain([62, 63, 64, 70, 150]);
    builder.contents.extend(data.map(|n| (n, Content::Data(n as u8 + 1))));
    if version >= 3 {
        builder = builder.at(12, Content::ZeroOver(0x22)).at(13, Content::Zero);
    }
    // Narrow counts can't count a cluster of two streams for two disks.
    let compressed = if order > 1 { 20..22 } else { 20..21 };
    builder.contents.extend(compressed.map(|n| (n, Content::Compressed(n as u8))));
    builder
}

impl Damaged {
    /// The first byte chooses the image, the second how it is repaired; the rest are changes, or an image.
    pub fn new(input: &[u8]) -> Option<Self> {
        let (&[which, how], rest) = input.split_first_chunk()?;
        let modes = [RepairMode::Leaks, RepairMode::All, RepairMode::Lossy];
        let (mode, fixed) = (modes[usize::from(how % 3)], how & 0x80 != 0);
        let Some(sound) = bases().get(usize::from(which) % (bases().len() + 1)) else {
            return Some(Self { bytes: rest.to_vec(), sound: None, mode, fixed });
        };
        let mut bytes = sound.clone();
        for change in rest.chunks_exact(CHANGE_BYTES).take(MOST_CHANGES) {
            Change::new(change).make(sound, &mut bytes);
        }
        Some(Self { bytes, sound: Some(sound), mode, fixed })
    }
}

/// One change: of what, and to what.
struct Change {
    kind: u8,
    which: u8,
    how: u8,
    index: u64,
    value: u64,
}

impl Change {
    fn new(input: &[u8]) -> Self {
        let (kind, which, how) = (input[0], input[1], input[2]);
        Self { kind, which, how, index: peek(input, 4, 2), value: peek(input, 6, 8) }
    }

    /// Changes `image`, which was made of `sound`.
    fn make(&self, sound: &[u8], image: &mut Vec<u8>) {
        let cluster = cluster_size(sound) as usize;
        let clusters = sound.len() / cluster;
        let at = usize::from(self.index as u16) % clusters * cluster;
        match self.kind % 12 {
            8 => {
                let end = (at + cluster).min(image.len());
                image[at.min(end)..end].fill(self.value as u8);
            }
            9 => image.resize((self.value as usize) % (sound.len() * 2), self.which),
            10 => {
                let from = self.value as usize % clusters * cluster;
                if from.max(at) + cluster <= image.len() {
                    image.copy_within(from..from + cluster, at);
                }
            }
            _ => {
                if let Some((at, width)) = self.place(sound) {
                    self.change(image, at, width);
                }
            }
        }
    }

    /// The number that is changed: its offset in the valid image, and how many bytes it has.
    fn place(&self, sound: &[u8]) -> Option<(usize, usize)> {
        let within = |count: u64| self.index % count.max(1);
        let which = usize::from(self.which);
        Some(match self.kind % 12 {
            0 => {
                let field = HEADER[which % HEADER.len()];
                (field.at, field.width)
            }
            1 => (self.index as usize % 1024, 1 + which % 8),
            2 => (l1_entry_at(sound, within(header(sound, "l1_size"))), 8),
            3 => {
                let guest = within(header(sound, "size") / cluster_size(sound));
                let l1 = header(sound, "l1_table_offset");
                let at = l2_entry_through(sound, l1, guest * cluster_size(sound))?;
                let second = l2_entry_size(sound) == 16 && which & 1 != 0;
                (at + 8 * usize::from(second), 8)
            }
            4 => (reftable_entry_at(sound, within(4)), 8),
            5 => count_place(sound, within(sound.len() as u64 / cluster_size(sound)))?,
            6 => {
                let entries = snapshot_entries(sound);
                let entry = entries.get(which % entries.len().max(1))?;
                (entry + self.index as usize % 72, [1, 2, 4, 8][which / 16 % 4])
            }
            7 => {
                let (data, length) = extension(sound, 0x2385_2875)?;
                let directory = peek(sound, data + 16, 8) as usize;
                let table = peek(sound, directory, 8) as usize;
                let (start, length) = [(data, length), (directory, 64), (table, 64)][which % 3];
                (start + self.index as usize % length, [1, 2, 4, 8][which / 16 % 4])
            }
            _ => (self.value as usize >> 8 & 0xff_ffff, 1 + which % 8),
        })
    }

    fn change(&self, image: &mut [u8], at: usize, width: usize) {
        if at + width > image.len() {
            return;
        }
        let old = peek(image, at, width);
        let cluster = cluster_size(bases()[0].as_slice()).max(512);
        let length = image.len() as u64;
        let offset = self.value % (length / cluster + 2) * cluster;
        let new = match self.how % 9 {
            0 => self.value,
            1 => old ^ 1 << (self.value % (8 * width as u64)),
            2 => old & !OFFSET_MASK | offset,
            3 => offset | COPIED,
            4 => 0,
            5 => old.wrapping_add(512),
            6 => self.value % 16,
            7 => old.wrapping_add(length),
            _ => old.wrapping_sub(1),
        };
        poke(image, at, width, new);
    }
}

/// The bytes of the count of a cluster; of narrow ones, those that it shares.
fn count_place(sound: &[u8], cluster: u64) -> Option<(usize, usize)> {
    let bits = refcount_bits(sound);
    let per_block = cluster_size(sound) * 8 / bits;
    let block = refblock_at(sound, cluster / per_block);
    let at = block + (cluster % per_block * bits / 8) as usize;
    (block != 0).then_some((at, bits.div_ceil(8) as usize))
}
