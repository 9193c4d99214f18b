//! The file a builder fills: clusters handed out in order, and who refers to them.

use std::collections::BTreeMap;

use crate::support::images::bytes::poke;

/// Bytes and references of an image that is being built.
#[derive(Debug)]
pub struct Layout {
    pub bytes: Vec<u8>,
    /// Bytes of the external data file, once something was written there.
    pub data: Option<Vec<u8>>,
    cluster_bits: u32,
    references: BTreeMap<u64, u64>,
    /// Free bytes in the last cluster of compressed data: where they start and end.
    compressed: (u64, u64),
}

impl Layout {
    /// An empty file. The header's cluster, 0, has a reference.
    pub fn new(cluster_bits: u32) -> Self {
        let references = BTreeMap::from([(0, 1)]);
        Self { bytes: Vec::new(), data: None, cluster_bits, references, compressed: (0, 0) }
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Appends this many clusters of zeroes; the offset of the first.
    pub fn take(&mut self, clusters: u64) -> u64 {
        let at = self.bytes.len() as u64;
        self.bytes.resize((at + clusters * self.cluster()) as usize, 0);
        at
    }

    /// Adds references to the cluster at this offset.
    pub fn refer(&mut self, at: u64, references: u64) {
        *self.references.entry(at >> self.cluster_bits).or_default() += references;
    }

    /// Adds one reference to each cluster of a run.
    pub fn refer_run(&mut self, at: u64, clusters: u64) {
        for i in 0..clusters {
            self.refer(at + i * self.cluster(), 1);
        }
    }

    /// Fills the cluster at this offset.
    pub fn fill(&mut self, at: u64, byte: u8) {
        let end = (at + self.cluster()) as usize;
        self.bytes[at as usize..end].fill(byte);
    }

    /// Writes a cluster at the same offset of the data file as in the guest; that offset.
    pub fn write_external(&mut self, guest: u64, byte: u8) -> u64 {
        let end = (guest + self.cluster()) as usize;
        let data = self.data.get_or_insert_with(Vec::new);
        data.resize(data.len().max(end), 0);
        data[guest as usize..end].fill(byte);
        guest
    }

    /// Appends compressed bytes right after the last ones; the offsets of the first and the last byte.
    pub fn append_compressed(&mut self, stream: &[u8], references: u64) -> (u64, u64) {
        let len = stream.len() as u64;
        let (mut at, end) = self.compressed;
        let adjacent = end == self.bytes.len() as u64;
        if at + len > end {
            let room = if adjacent { end - at } else { 0 };
            let new = self.take((len - room).div_ceil(self.cluster()));
            at = if adjacent { at } else { new };
        }
        let last = at + len - 1;
        for cluster in at >> self.cluster_bits..=last >> self.cluster_bits {
            self.refer(cluster << self.cluster_bits, references);
        }
        self.bytes[at as usize..=last as usize].copy_from_slice(stream);
        self.compressed = (last + 1, (last + 1).next_multiple_of(self.cluster()));
        (at, last)
    }

    /// Appends refcount blocks and the refcount table; offset and clusters of the table.
    pub fn write_refcounts(&mut self, order: u32) -> (u64, u64) {
        let bits = 1u64 << order;
        let per_block = self.cluster() * 8 / bits;
        let used = self.bytes.len() as u64 >> self.cluster_bits;
        let (mut blocks, mut table) = (1, 1);
        while used + blocks + table > blocks * per_block {
            blocks += 1;
            table = (blocks * 8).div_ceil(self.cluster());
        }
        let first_block = self.take(blocks);
        self.refer_run(first_block, blocks);
        let table_at = self.take(table);
        self.refer_run(table_at, table);
        for i in 0..blocks {
            let at = (table_at + 8 * i) as usize;
            let block = first_block + (i << self.cluster_bits);
            poke(&mut self.bytes, at, 8, block);
        }
        for (cluster, count) in &self.references {
            assert!(bits == 64 || count >> bits == 0, "{count} references in {bits} bits");
            let block = (first_block + cluster / per_block * (1 << self.cluster_bits)) as usize;
            let bit = cluster % per_block * bits;
            let at = block + (bit / 8) as usize;
            if bits >= 8 {
                poke(&mut self.bytes, at, (bits / 8) as usize, *count);
            } else {
                self.bytes[at] |= (*count as u8) << (bit % 8);
            }
        }
        (table_at, table)
    }
}
