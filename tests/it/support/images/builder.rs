//! Builds qcow2 images byte by byte from the specification's constants, sharing no code with the library.
//!
//! The counts are computed here, from the references the builder itself wrote, so an image it builds is
//! a second opinion on both the library and the checker.

use std::collections::BTreeMap;

use crate::support::images::bytes::{COMPRESSED, COPIED, poke};
use crate::support::images::layout::Layout;
use crate::support::images::luks::{self, LUKS_BYTES};

/// What one guest cluster holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// A cluster of this byte.
    Data(u8),
    /// Reads as zeroes, nothing allocated.
    Zero,
    /// Reads as zeroes over an allocated cluster of this byte.
    ZeroOver(u8),
    /// A compressed cluster of this byte.
    Compressed(u8),
    /// Extended L2 only: the subclusters allocated, those that read as zeroes, and the byte.
    Subclusters { allocated: u32, zero: u32, byte: u8 },
}

/// An internal snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub name: String,
    /// Guest clusters in tables of its own, or `None` to share the active disk's tables.
    pub own: Option<Vec<(u64, Content)>>,
    /// Clusters of VM state after the disk.
    pub vm_clusters: u64,
    /// Extra data of this entry; a version 3 image needs 16 bytes at least.
    pub extra: Vec<u8>,
}

impl Snapshot {
    /// A snapshot that shares the active disk's tables.
    pub fn shared(name: &str) -> Self {
        Self { name: name.into(), own: None, vm_clusters: 0, extra: Vec::new() }
    }

    /// A snapshot with tables of its own.
    pub fn own(name: &str, contents: &[(u64, Content)]) -> Self {
        Self { own: Some(contents.to_vec()), ..Self::shared(name) }
    }
}

/// A persistent bitmap; every cluster of its table is stored.
#[derive(Clone, Debug)]
pub struct Bitmap {
    pub name: String,
    pub granularity_bits: u8,
    pub byte: u8,
}

/// A finished image.
#[derive(Clone, Debug)]
pub struct Built {
    pub bytes: Vec<u8>,
    /// The external data file, where there is one.
    pub data: Option<Vec<u8>>,
}

/// The image to build. Fields are public; the methods are the usual ones, chained.
#[derive(Clone, Debug)]
pub struct Builder {
    pub version: u32,
    pub cluster_bits: u32,
    pub refcount_order: u32,
    pub extended_l2: bool,
    pub size: u64,
    pub incompatible: u64,
    pub compatible: u64,
    pub autoclear: u64,
    pub crypt_method: u32,
    pub contents: Vec<(u64, Content)>,
    pub backing: Option<(String, Option<String>)>,
    /// Name of the external data file and whether it is raw.
    pub data_file: Option<(String, bool)>,
    pub snapshots: Vec<Snapshot>,
    pub bitmaps: Vec<Bitmap>,
    pub luks: bool,
    pub extensions: Vec<(u32, Vec<u8>)>,
}

impl Builder {
    /// A version 3 image of 4 KiB clusters and 16-bit counts.
    pub fn new(size: u64) -> Self {
        Self {
            version: 3,
            cluster_bits: 12,
            refcount_order: 4,
            extended_l2: false,
            size,
            incompatible: 0,
            compatible: 0,
            autoclear: 0,
            crypt_method: 0,
            contents: Vec::new(),
            backing: None,
            data_file: None,
            snapshots: Vec::new(),
            bitmaps: Vec::new(),
            luks: false,
            extensions: Vec::new(),
        }
    }

    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    pub fn cluster_bits(mut self, bits: u32) -> Self {
        self.cluster_bits = bits;
        self
    }

    pub fn refcount_order(mut self, order: u32) -> Self {
        self.refcount_order = order;
        self
    }

    /// 16-byte L2 entries with subcluster bitmaps.
    pub fn extended_l2(mut self) -> Self {
        self.extended_l2 = true;
        self.incompatible |= 0x10;
        self
    }

    /// Puts this content at a guest cluster.
    pub fn at(mut self, guest_cluster: u64, content: Content) -> Self {
        self.contents.push((guest_cluster, content));
        self
    }

    /// Puts clusters of this byte at a range of guest clusters.
    pub fn data(mut self, guest_clusters: std::ops::Range<u64>, byte: u8) -> Self {
        self.contents.extend(guest_clusters.map(|c| (c, Content::Data(byte))));
        self
    }

    pub fn backing(mut self, name: &str, format: Option<&str>) -> Self {
        self.backing = Some((name.into(), format.map(Into::into)));
        self
    }

    /// Keeps the data in an external file.
    pub fn data_file(mut self, name: &str, raw: bool) -> Self {
        self.data_file = Some((name.into(), raw));
        self.incompatible |= 0x4;
        self.autoclear |= if raw { 0x2 } else { 0 };
        self
    }

    pub fn snapshot(mut self, snapshot: Snapshot) -> Self {
        self.snapshots.push(snapshot);
        self
    }

    pub fn bitmap(mut self, name: &str, granularity_bits: u8, byte: u8) -> Self {
        self.bitmaps.push(Bitmap { name: name.into(), granularity_bits, byte });
        self.autoclear |= 0x1;
        self
    }

    /// A LUKS header that follows all rules, though no passphrase opens it.
    pub fn encrypted(mut self) -> Self {
        self.crypt_method = 2;
        self.luks = true;
        self
    }

    pub fn extension(mut self, kind: u32, data: &[u8]) -> Self {
        self.extensions.push((kind, data.to_vec()));
        self
    }

    /// The feature name table with the names of bits 0 and 1.
    pub fn feature_names(self) -> Self {
        let mut table = Vec::new();
        for (kind, bit, name) in [(0u8, 0u8, "dirty bit"), (0, 1, "corrupt bit"), (1, 0, "lazy")] {
            let mut entry = vec![kind, bit];
            entry.extend_from_slice(name.as_bytes());
            entry.resize(48, 0);
            table.extend(entry);
        }
        self.extension(0x6803_f857, &table)
    }

    /// Lays the image out and computes its counts.
    pub fn build(&self) -> Built {
        assert!(!self.extended_l2 || self.cluster_bits >= 14, "subclusters need 16 KiB clusters");
        let mut layout = Layout::new(self.cluster_bits);
        layout.take(1); // the header
        let shared = self.snapshots.iter().filter(|s| s.own.is_none()).count() as u64;
        let tables = self.write_mapping(&mut layout, &self.contents, 1 + shared, 0);
        let l1_offset = self.write_l1(&mut layout, &tables, shared == 0, self.l1_entries());
        let snapshots_offset = self.write_snapshots(&mut layout, &tables);
        let mut extensions = self.extensions.clone();
        extensions.extend(self.write_bitmaps(&mut layout));
        extensions.extend(self.write_crypto(&mut layout));
        let (reftable, reftable_clusters) = layout.write_refcounts(self.refcount_order);
        let fields = [l1_offset, reftable, reftable_clusters, snapshots_offset];
        self.write_header(&mut layout, fields, &extensions);
        let raw = layout.data.take();
        Built {
            bytes: layout.bytes,
            data: self.data_file.as_ref().map(|_| raw.unwrap_or_default()),
        }
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn l2_entries(&self) -> u64 {
        self.cluster() / if self.extended_l2 { 16 } else { 8 }
    }

    fn l1_entries(&self) -> u64 {
        self.size.div_ceil(self.cluster() * self.l2_entries())
    }

    /// Writes L2 tables and their data, each referenced `references` times: L1 index to table offset.
    fn write_mapping(
        &self,
        layout: &mut Layout,
        contents: &[(u64, Content)],
        references: u64,
        vm_clusters: u64,
    ) -> BTreeMap<u64, u64> {
        let copied = if references == 1 { COPIED } else { 0 };
        let mut tables = BTreeMap::new();
        let vm_start = self.l1_entries() * self.l2_entries();
        let vm_state = (0..vm_clusters).map(|i| (vm_start + i, Content::Data(0x77)));
        for (guest, content) in contents.iter().cloned().chain(vm_state) {
            let table = *tables.entry(guest / self.l2_entries()).or_insert_with(|| {
                let table = layout.take(1);
                layout.refer(table, references);
                table
            });
            let (entry, bitmap) = self.write_content(layout, guest, &content, references, copied);
            let width = if self.extended_l2 { 16 } else { 8 };
            let at = (table + guest % self.l2_entries() * width) as usize;
            poke(&mut layout.bytes, at, 8, entry);
            if self.extended_l2 {
                poke(&mut layout.bytes, at + 8, 8, bitmap);
            }
        }
        tables
    }

    /// Writes one guest cluster; its L2 entry and subcluster bitmap.
    fn write_content(
        &self,
        layout: &mut Layout,
        guest: u64,
        content: &Content,
        references: u64,
        copied: u64,
    ) -> (u64, u64) {
        let zero_bit = u64::from(!self.extended_l2);
        match *content {
            Content::Data(byte) => {
                (self.write_data(layout, guest, byte, references) | copied, 0xffff_ffff)
            }
            Content::Zero => (zero_bit, 0xffff_ffff << 32),
            Content::ZeroOver(byte) => {
                let host = self.write_data(layout, guest, byte, references);
                (host | copied | zero_bit, 0xffff_ffff << 32)
            }
            Content::Compressed(byte) => {
                assert!(self.data_file.is_none(), "no compressed clusters beside a data file");
                let stream = stored_deflate(byte, self.cluster());
                let (at, last) = layout.append_compressed(&stream, references);
                let sectors = last / 512 - at / 512;
                let shift = 62 - (self.cluster_bits - 8);
                (COMPRESSED | (sectors << shift) | at, 0)
            }
            Content::Subclusters { allocated, zero, byte } => {
                let host = self.write_data(layout, guest, byte, references);
                (host | copied, u64::from(zero) << 32 | u64::from(allocated))
            }
        }
    }

    /// Writes a data cluster where this image keeps data; its host offset.
    fn write_data(&self, layout: &mut Layout, guest: u64, byte: u8, references: u64) -> u64 {
        if self.data_file.is_some() {
            return layout.write_external(guest * self.cluster(), byte);
        }
        let host = layout.take(1);
        layout.refer(host, references);
        layout.fill(host, byte);
        host
    }

    fn write_l1(
        &self,
        layout: &mut Layout,
        tables: &BTreeMap<u64, u64>,
        copied: bool,
        entries: u64,
    ) -> u64 {
        let clusters = (entries * 8).div_ceil(self.cluster());
        let at = layout.take(clusters.max(1)); // a disk of no bytes still has somewhere to point
        layout.refer_run(at, clusters);
        for (index, table) in tables {
            let entry = table | if copied { COPIED } else { 0 };
            poke(&mut layout.bytes, (at + 8 * index) as usize, 8, entry);
        }
        at
    }

    /// Writes every snapshot's tables and the snapshot table; its offset.
    fn write_snapshots(&self, layout: &mut Layout, active: &BTreeMap<u64, u64>) -> u64 {
        let mut table = Vec::new();
        for (index, snapshot) in self.snapshots.iter().enumerate() {
            let mut tables = active.clone();
            if let Some(own) = &snapshot.own {
                tables = self.write_mapping(layout, own, 1, snapshot.vm_clusters);
            } else if snapshot.vm_clusters > 0 {
                tables.extend(self.write_mapping(layout, &[], 1, snapshot.vm_clusters));
            }
            let vm_tables = snapshot.vm_clusters.div_ceil(self.l2_entries());
            let entries = self.l1_entries() + vm_tables;
            let l1 = self.write_l1(layout, &tables, false, entries);
            self.push_snapshot(&mut table, index, snapshot, (l1, entries));
        }
        if table.is_empty() {
            return 0;
        }
        let clusters = (table.len() as u64).div_ceil(self.cluster());
        let at = layout.take(clusters);
        layout.refer_run(at, clusters);
        layout.bytes[at as usize..at as usize + table.len()].copy_from_slice(&table);
        at
    }

    fn push_snapshot(&self, table: &mut Vec<u8>, index: usize, s: &Snapshot, l1: (u64, u64)) {
        let id = (index + 1).to_string();
        let vm_bytes = s.vm_clusters * self.cluster();
        let mut extra = s.extra.clone();
        if self.version >= 3 {
            extra.resize(extra.len().max(16), 0);
            poke(&mut extra, 0, 8, vm_bytes);
            poke(&mut extra, 8, 8, self.size);
        }
        let start = table.len();
        table.resize(start + 40, 0);
        poke(table, start, 8, l1.0);
        poke(table, start + 8, 4, l1.1);
        poke(table, start + 12, 2, id.len() as u64);
        poke(table, start + 14, 2, s.name.len() as u64);
        poke(table, start + 16, 4, 1_700_000_000);
        poke(table, start + 32, 4, vm_bytes);
        poke(table, start + 36, 4, extra.len() as u64);
        table.extend(extra);
        table.extend(id.into_bytes());
        table.extend(s.name.bytes());
        table.resize(table.len().next_multiple_of(8), 0);
    }

    /// Writes bitmap data, tables and directory; the header extension that names the directory.
    fn write_bitmaps(&self, layout: &mut Layout) -> Option<(u32, Vec<u8>)> {
        let mut directory = Vec::new();
        for bitmap in &self.bitmaps {
            let bits = self.size.div_ceil(1 << bitmap.granularity_bits);
            let entries = bits.div_ceil(8).div_ceil(self.cluster());
            let table_clusters = (entries * 8).div_ceil(self.cluster());
            let table = layout.take(table_clusters);
            layout.refer_run(table, table_clusters);
            for index in 0..entries {
                let data = layout.take(1);
                layout.refer(data, 1);
                layout.fill(data, bitmap.byte);
                poke(&mut layout.bytes, (table + 8 * index) as usize, 8, data);
            }
            let start = directory.len();
            directory.resize(start + 24, 0);
            poke(&mut directory, start, 8, table);
            poke(&mut directory, start + 8, 4, entries);
            poke(&mut directory, start + 12, 4, 0x2); // auto
            directory[start + 16] = 1; // dirty tracking bitmap
            directory[start + 17] = bitmap.granularity_bits;
            poke(&mut directory, start + 18, 2, bitmap.name.len() as u64);
            directory.extend(bitmap.name.bytes());
            directory.resize(directory.len().next_multiple_of(8), 0);
        }
        if directory.is_empty() {
            return None;
        }
        let clusters = (directory.len() as u64).div_ceil(self.cluster());
        let at = layout.take(clusters);
        layout.refer_run(at, clusters);
        layout.bytes[at as usize..at as usize + directory.len()].copy_from_slice(&directory);
        let mut data = vec![0; 24];
        poke(&mut data, 0, 4, self.bitmaps.len() as u64);
        poke(&mut data, 8, 8, directory.len() as u64);
        poke(&mut data, 16, 8, at);
        Some((0x2385_2875, data))
    }

    fn write_crypto(&self, layout: &mut Layout) -> Option<(u32, Vec<u8>)> {
        if !self.luks {
            return None;
        }
        let clusters = LUKS_BYTES.div_ceil(self.cluster());
        let at = layout.take(clusters);
        layout.refer_run(at, clusters);
        let header = luks::header();
        layout.bytes[at as usize..at as usize + header.len()].copy_from_slice(&header);
        let mut data = vec![0; 16];
        poke(&mut data, 0, 8, at);
        poke(&mut data, 8, 8, LUKS_BYTES);
        Some((0x0537_be77, data))
    }

    /// Writes the header: `[l1, reftable, reftable clusters, snapshots]`, then the extensions, then the backing name.
    fn write_header(&self, layout: &mut Layout, fields: [u64; 4], more: &[(u32, Vec<u8>)]) {
        let mut h = vec![0u8; if self.version >= 3 { 104 } else { 72 }];
        h[..4].copy_from_slice(b"QFI\xfb");
        poke(&mut h, 4, 4, u64::from(self.version));
        poke(&mut h, 20, 4, u64::from(self.cluster_bits));
        poke(&mut h, 24, 8, self.size);
        poke(&mut h, 32, 4, u64::from(self.crypt_method));
        poke(&mut h, 36, 4, self.l1_entries());
        poke(&mut h, 40, 8, fields[0]);
        poke(&mut h, 48, 8, fields[1]);
        poke(&mut h, 56, 4, fields[2]);
        poke(&mut h, 60, 4, self.snapshots.len() as u64);
        poke(&mut h, 64, 8, fields[3]);
        if self.version >= 3 {
            poke(&mut h, 72, 8, self.incompatible);
            poke(&mut h, 80, 8, self.compatible);
            poke(&mut h, 88, 8, self.autoclear);
            poke(&mut h, 96, 4, u64::from(self.refcount_order));
            poke(&mut h, 100, 4, 104);
        }
        if let Some((_, Some(format))) = &self.backing {
            push_extension(&mut h, 0xe279_2aca, format.as_bytes());
        }
        if let Some((name, _)) = &self.data_file {
            push_extension(&mut h, 0x4441_5441, name.as_bytes());
        }
        for (kind, data) in more {
            push_extension(&mut h, *kind, data);
        }
        push_extension(&mut h, 0, &[]);
        if let Some((name, _)) = &self.backing {
            let at = h.len() as u64;
            poke(&mut h, 8, 8, at);
            poke(&mut h, 16, 4, name.len() as u64);
            h.extend_from_slice(name.as_bytes());
        }
        assert!(h.len() as u64 <= self.cluster(), "the header does not fit its cluster");
        layout.bytes[..h.len()].copy_from_slice(&h);
    }
}

fn push_extension(header: &mut Vec<u8>, kind: u32, data: &[u8]) {
    header.extend_from_slice(&kind.to_be_bytes());
    header.extend_from_slice(&(data.len() as u32).to_be_bytes());
    header.extend_from_slice(data);
    header.resize(header.len().next_multiple_of(8), 0);
}

/// A raw deflate stream of `len` equal bytes, in stored blocks.
fn stored_deflate(byte: u8, len: u64) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut left = len as usize;
    while left > 0 {
        let block = left.min(0xffff);
        left -= block;
        stream.push(u8::from(left == 0));
        stream.extend_from_slice(&[block as u8, (block >> 8) as u8]);
        stream.extend_from_slice(&[!block as u8, (!block >> 8) as u8]);
        stream.resize(stream.len() + block, byte);
    }
    stream
}
