//! A new qcow2 image, written in the order of its disk and its header last.
//!
//! Each thread finds out what of its item has to be stored and compresses it; then, in the order of
//! the disk, the item gets its place (`placement`); and whoever placed it writes it, all data of it
//! that is contiguous at once.

mod bitmaps;
mod counts;
mod gaps;
mod placement;

use std::ops::Range;
use std::sync::Arc;

use crate::codec::{Compressor, Method};
use crate::create::{NewImage, cut_off, header_last, put, sync};
use crate::crypt::SectorCipher;
use crate::error::{Error, Result};
use crate::format::crypto::CryptoHeader;
use crate::format::feature::autoclear;
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset};
use crate::sector::SECTOR;
use crate::storage::{Capacity, Storage, is_zero};

use crate::convert::bitmaps::Bitmaps;
use crate::convert::flow::buffer::{Buffer, Pool};
use crate::convert::flow::in_order::InOrder;
use crate::convert::flow::item::{Item, Kind};
use crate::convert::flow::pipeline::Target;
use crate::convert::source::SourceDisk;
use crate::disk::zeroes;
use counts::Block;
use placement::{Placement, State};

/// All 32nds of a cluster.
const ALL: u64 = u32::MAX as u64;

/// What a new image is made of.
pub(in crate::convert) struct Plan<'a> {
    /// Its options.
    pub(in crate::convert) new: &'a NewImage,
    /// Where it goes.
    pub(in crate::convert) storage: &'a dyn Storage,
    /// What it is filled from, for those clusters that the system copies.
    pub(in crate::convert) source: &'a SourceDisk,
    /// How clusters are compressed, and how hard it is tried, if they are.
    pub(in crate::convert) method: Option<(Method, Option<u8>)>,
    /// The disk's size, where it is known and nothing but the disk goes into the image.
    pub(in crate::convert) size: Option<u64>,
    /// The least run of zeroes that is not stored; 0: all are.
    pub(in crate::convert) sparse: u64,
    /// Its backing file: what is the same there is not stored.
    pub(in crate::convert) backing: Option<&'a SourceDisk>,
    /// Buffers.
    pub(in crate::convert) pool: &'a Pool,
}

/// A new image that is being filled.
pub(in crate::convert) struct Fresh<'a> {
    plan: Plan<'a>,
    geometry: Geometry,
    /// Whether zeroes can be distinguished from the backing file's data.
    has_zero_flag: bool,
    order: InOrder<Prepared, Placement>,
    encryption: Option<Encryption>,
}

/// The encryption of a new image.
struct Encryption {
    cipher: Arc<SectorCipher>,
    header: CryptoHeader,
}

/// An item whose clusters' states are known.
struct Prepared {
    first: u64,
    /// Bytes of the source that the system is to copy, from here on.
    offload: Option<Range<u64>>,
    states: Vec<State>,
    plain: Buffer,
    compressed: Vec<u8>,
}

/// Data that goes to one place of the file.
struct Write {
    at: HostOffset,
    from: Range<usize>,
    compressed: bool,
}

/// What is to be written of an item: neighbours in memory and in the file are one.
#[derive(Default)]
struct Writes(Vec<Write>);

impl Writes {
    fn add(&mut self, write: Write) {
        match self.0.iter_mut().rev().find(|last| last.compressed == write.compressed) {
            Some(last)
                if last.from.end == write.from.start
                    && last.at.saturating_add(last.from.len() as u64) == write.at =>
            {
                last.from.end = write.from.end;
            }
            _ => self.0.push(write),
        }
    }

    /// Adds those 32nds of a cluster that have data.
    fn add_units(&mut self, at: HostOffset, cluster: Range<usize>, data: u64) {
        if data == ALL {
            return self.add(Write { at, from: cluster, compressed: false });
        }
        let unit = cluster.len() / 32;
        for n in (0..32).filter(|n| data >> n & 1 != 0) {
            let start = cluster.start + n * unit;
            let at = at.saturating_add((n * unit) as u64);
            self.add(Write { at, from: start..start + unit, compressed: false });
        }
    }
}

/// The clusters of a run, one by one.
fn clusters_of(run: Range<HostCluster>) -> impl Iterator<Item = HostCluster> {
    (0..(run.end - run.start).get()).map(move |n| run.start + ClusterCount::new(n))
}

/// An item that has its place.
struct Placed {
    prepared: Prepared,
    writes: Vec<Write>,
}

/// What a thread keeps between items.
pub(in crate::convert) struct Tools {
    compressor: Option<Compressor>,
    compare: Buffer,
}

impl<'a> Fresh<'a> {
    /// Empties the storage: from now on it is not an image until [`Fresh::finish`] has made one.
    pub(in crate::convert) fn new(plan: Plan<'a>, threads: usize) -> Result<Self> {
        let geometry = plan.new.geometry();
        let limit = match plan.storage.capacity() {
            Capacity::Fixed(bytes) => bytes,
            Capacity::Growable => u64::MAX,
        };
        let emptied = match plan.storage.capacity() {
            Capacity::Growable => cut_off(plan.storage),
            Capacity::Fixed(_) => plan.storage.write_zeroes(0, geometry.cluster_bytes()),
        };
        emptied.map_err(|e| Error::file("empty the file", e))?;
        sync(plan.storage)?;
        let mut placement = match plan.method {
            Some(_) => Placement::compressing(geometry, limit, plan.size)?,
            None => Placement::new(geometry, limit)?,
        };
        let encryption = encryption(&plan, &mut placement)?;
        let order = InOrder::new(placement, threads as u64);
        let has_zero_flag = plan.new.is_version_3();
        Ok(Self { plan, geometry, has_zero_flag, order, encryption })
    }

    /// Ends the image of a disk of `size` bytes, with bitmaps if there are any.
    pub(in crate::convert) fn finish(self, size: u64, bitmaps: Option<&Bitmaps<'_>>) -> Result<()> {
        let storage = self.plan.storage;
        let mut placement = self.order.into_books();
        let mut blocks = Vec::new();
        let geometry = self.geometry.with_virtual_size(size);
        let extension = match bitmaps {
            Some(bitmaps) => bitmaps.write(&mut placement, storage, &geometry)?,
            None => Vec::new(),
        };
        let mut roots = placement.finish(size, &mut blocks)?;
        roots.header.crypto = self.encryption.map(|encryption| encryption.header);
        if !extension.is_empty() {
            roots.header.autoclear = autoclear::BITMAPS;
        }
        write_blocks(storage, blocks)?;
        if storage.capacity() == Capacity::Growable {
            let bytes = roots.file_bytes;
            storage.set_len(bytes).map_err(|e| Error::io("set the length", bytes, e))?;
        }
        let header = self.plan.new.header_with(size, &roots.header, &extension)?;
        header_last(storage, &header)
    }

    /// What becomes of each cluster of an item.
    fn prepare(&self, item: Item, mut plain: Buffer, tools: &mut Tools) -> Result<Prepared> {
        let size = self.geometry.cluster_len();
        let clusters = plain.len().div_ceil(size);
        let used = plain.len();
        // The disk may end inside a cluster, whose rest is zero.
        if used < clusters * size {
            plain.extend_zeroed(clusters * size);
        }
        let first = item.start >> self.geometry.cluster_bits();
        if let Some(backing) = self.plan.backing {
            tools.compare.set_len(plain.len());
            backing.read(item.start, &mut tools.compare)?;
        }
        // Of a compressed image a whole cluster is zero or is stored.
        let runs = match tools.compressor {
            Some(_) if self.plan.sparse > 0 => Vec::new(),
            _ => zeroes::data_runs(&plain, item.start, self.plan.sparse),
        };
        let mut runs = runs.as_slice();
        let mut states = Vec::with_capacity(clusters);
        let mut compressed = Vec::new();
        for n in 0..clusters {
            let range = n * size..(n + 1) * size;
            let cluster = &plain[range.clone()];
            let below = self.plan.backing.map(|_| &tools.compare[range.clone()]);
            let data = match tools.compressor {
                Some(_) if self.plan.sparse > 0 => u64::from(!is_zero(cluster)) * ALL,
                _ => units_of(&mut runs, range),
            };
            let mut state = self.state(cluster, data, below);
            if let (State::Plain { .. }, Some(compressor)) = (state, &mut tools.compressor) {
                if let Some(length) = compressor.compress(cluster, &mut compressed) {
                    state = State::Packed(u32::try_from(length).unwrap_or(u32::MAX));
                }
            }
            states.push(state);
        }
        Ok(Prepared { first, offload: None, states, plain, compressed })
    }

    /// What becomes of a cluster in which these 32nds have data.
    fn state(&self, cluster: &[u8], data: u64, below: Option<&[u8]>) -> State {
        if below.is_some_and(|below| below == cluster) {
            return State::Unallocated;
        }
        let extended = self.geometry.extended_l2();
        match below {
            None if data == 0 => State::Unallocated,
            Some(_) if data == 0 && self.has_zero_flag => State::Zero,
            _ if !extended => State::Plain { bitmap: 0, data: ALL },
            None => State::Plain { bitmap: data, data },
            Some(_) => State::Plain { bitmap: data | (!data & ALL) << 32, data },
        }
    }

    /// Gives the clusters of an item their places.
    fn place(
        &self,
        placement: &mut Placement,
        prepared: Prepared,
        blocks: &mut Vec<Block>,
    ) -> Result<Placed> {
        let size = self.geometry.cluster_len();
        let plain = prepared.states.iter().filter(|s| matches!(s, State::Plain { .. })).count();
        let is_stored = |state: &State| *state != State::Unallocated;
        if let Some(first) = prepared.states.iter().position(is_stored) {
            placement.enter(prepared.first + first as u64, blocks)?;
        }
        let mut places = placement.place_plain(plain as u64)?.into_iter().flat_map(clusters_of);
        let mut writes = Writes::default();
        let mut compressed_at = 0;
        for (n, state) in prepared.states.iter().enumerate() {
            let guest = prepared.first + n as u64;
            let entry = match *state {
                State::Unallocated => continue,
                State::Zero => placement.zero_entry(),
                State::Plain { bitmap, data } => {
                    let place = places.next().expect("space for every plain cluster");
                    let at = self.geometry.offset_of(place);
                    writes.add_units(at, n * size..(n + 1) * size, data);
                    placement.plain_entry(at, bitmap)
                }
                State::Packed(bytes) => {
                    placement.enter(guest, blocks)?;
                    let at = placement.place_compressed(u64::from(bytes))?;
                    let start = compressed_at;
                    compressed_at += bytes as usize;
                    writes.add(Write { at, from: start..compressed_at, compressed: true });
                    placement.compressed_entry(at, u64::from(bytes))?
                }
            };
            placement.map(guest, entry, blocks)?;
        }
        placement.take_settled(blocks);
        Ok(Placed { prepared, writes: writes.0 })
    }

    fn write(&self, mut placed: Placed) -> Result<()> {
        if let Some(range) = &placed.prepared.offload {
            for write in placed.writes {
                self.offload_write(range, write)?;
            }
            return Ok(());
        }
        for write in placed.writes {
            if let Some(encryption) = &self.encryption {
                // Nothing else reads these bytes any more.
                let sectors = &mut placed.prepared.plain[write.from.clone()];
                encryption.cipher.encrypt(write.at.get() / SECTOR, sectors);
            }
            let from = if write.compressed {
                &placed.prepared.compressed
            } else {
                &*placed.prepared.plain
            };
            put(self.plan.storage, write.at, &from[write.from], "guest data")?;
        }
        self.plan.pool.give_back(placed.prepared.plain);
        Ok(())
    }

    /// Has the system copy what it can; the rest is read and written.
    fn offload_write(&self, range: &Range<u64>, write: Write) -> Result<()> {
        let source = self.plan.source;
        let mut at = range.start + write.from.start as u64;
        let end = (range.start + write.from.end as u64).min(range.end);
        let mut host = write.at;
        while at < end {
            let plain = source.plain(at, end - at)?;
            let done = match plain {
                Some(plain) if plain.copy_to(self.plan.storage, host.get())? => plain.bytes,
                plain => {
                    let most = plain.map_or_else(
                        || source.extent(at, end - at).map(|extent| extent.bytes),
                        |plain| Ok(plain.bytes),
                    )?;
                    let mut bytes =
                        self.plan.pool.take(usize::try_from(most).unwrap_or(usize::MAX));
                    source.read(at, &mut bytes)?;
                    put(self.plan.storage, host, &bytes, "guest data")?;
                    self.plan.pool.give_back(bytes);
                    most
                }
            };
            at += done;
            host = host.saturating_add(done);
        }
        let rest = write.at.get() + write.from.len() as u64 - host.get();
        let zeroes = vec![0; usize::try_from(rest).unwrap_or(0)];
        if rest == 0 { Ok(()) } else { put(self.plan.storage, host, &zeroes, "guest data") }
    }

    fn submit(&self, number: u64, prepared: Prepared) -> Result<()> {
        let (mut blocks, mut placed) = (Vec::new(), Vec::new());
        self.order.submit(number, prepared, |placement, prepared| {
            placed.push(self.place(placement, prepared, &mut blocks)?);
            Ok(())
        })?;
        placed.into_iter().try_for_each(|placed| self.write(placed))?;
        write_blocks(self.plan.storage, blocks)
    }

    /// Zeroes over a backing file that may have something else there.
    fn zeroes(&self, item: Item, bytes: Buffer) -> Result<Prepared> {
        let size = self.geometry.cluster_bytes();
        let first = item.start >> self.geometry.cluster_bits();
        let nothing = |plain| Prepared {
            first,
            offload: None,
            states: Vec::new(),
            plain,
            compressed: Vec::new(),
        };
        let Some(backing) = self.plan.backing else { return Ok(nothing(bytes)) };
        let mut states = Vec::new();
        let (mut at, end) = (item.start, item.start + item.bytes);
        while at < end {
            let extent = backing.extent(at, end - at)?;
            let stop = at + extent.bytes;
            let upto = (stop - item.start).div_ceil(size);
            let state = if extent.zero { State::Unallocated } else { State::Zero };
            let partial = extent.zero && stop < end;
            // A cluster that is zero only in part below has to be written.
            let upto = if partial { (stop - item.start) / size } else { upto };
            let upto = usize::try_from(upto).unwrap_or(usize::MAX);
            if states.len() < upto {
                states.resize(upto, state);
            }
            at = stop;
        }
        Ok(Prepared { first, offload: None, states, plain: bytes, compressed: Vec::new() })
    }
}

impl Target for Fresh<'_> {
    type Tools = Tools;

    fn tools(&self) -> Tools {
        let compressor =
            self.plan.method.map(|(method, level)| Compressor::with_level(method, level));
        Tools { compressor, compare: Buffer::default() }
    }

    fn put(&self, item: Item, bytes: Buffer, tools: &mut Tools) -> Result<()> {
        let prepared = match item.kind {
            Kind::Data => self.prepare(item, bytes, tools)?,
            Kind::Zero => self.zeroes(item, bytes)?,
            Kind::Backing => Prepared {
                first: item.start >> self.geometry.cluster_bits(),
                offload: None,
                states: Vec::new(),
                plain: bytes,
                compressed: Vec::new(),
            },
        };
        self.submit(item.number, prepared)
    }

    fn offload(&self, item: Item, _source: &SourceDisk) -> Result<bool> {
        if self.plan.backing.is_some() || self.encryption.is_some() {
            return Ok(false);
        }
        let clusters = item.bytes.div_ceil(self.geometry.cluster_bytes());
        let bitmap = if self.geometry.extended_l2() { ALL } else { 0 };
        let prepared = Prepared {
            first: item.start >> self.geometry.cluster_bits(),
            offload: Some(item.start..item.start + item.bytes),
            states: vec![
                State::Plain { bitmap, data: ALL };
                usize::try_from(clusters).unwrap_or(usize::MAX)
            ],
            plain: Buffer::default(),
            compressed: Vec::new(),
        };
        self.submit(item.number, prepared)?;
        Ok(true)
    }

    fn stop(&self) {
        self.order.stop();
    }
}

/// The encryption of the image, whose header is written before any data.
fn encryption(plan: &Plan<'_>, placement: &mut Placement) -> Result<Option<Encryption>> {
    let Some(header) = plan.new.encryption() else { return Ok(None) };
    let length = header.payload_offset();
    let offset = placement.place_table(length)?;
    put(plan.storage, offset, header.bytes(), "the encryption header")?;
    if plan.storage.capacity() == Capacity::Growable {
        // As in `create`: what is in use has its space, so that QEMU looks for no holes.
        let geometry = plan.new.geometry();
        let bytes = geometry.bytes_of(geometry.clusters_for(length));
        let _ = plan.storage.allocate(offset.get(), bytes);
    }
    let header_place = CryptoHeader { offset, length };
    Ok(Some(Encryption { cipher: header.cipher(), header: header_place }))
}

/// The 32nds of a cluster that have data, bit by bit. `runs` are those of all clusters; those that
/// end before this one are dropped.
fn units_of(runs: &mut &[Range<usize>], cluster: Range<usize>) -> u64 {
    while let [first, rest @ ..] = runs {
        if first.end > cluster.start {
            break;
        }
        *runs = rest;
    }
    let unit = cluster.len() / 32;
    let here = runs.iter().take_while(|run| run.start < cluster.end);
    here.fold(0, |bits, run| {
        let start = run.start.max(cluster.start) - cluster.start;
        let end = run.end.min(cluster.end) - cluster.start;
        let (low, high) = (start / unit, end.div_ceil(unit));
        bits | (((1u64 << high) - 1) & !((1u64 << low) - 1))
    })
}

/// Writes metadata, neighbours together.
fn write_blocks(storage: &dyn Storage, blocks: Vec<Block>) -> Result<()> {
    let mut blocks = blocks.into_iter().peekable();
    while let Some(mut block) = blocks.next() {
        while let Some(next) =
            blocks.next_if(|next| next.at == block.at.saturating_add(block.bytes.len() as u64))
        {
            block.bytes.extend(next.bytes);
        }
        put(storage, block.at, &block.bytes, "tables")?;
    }
    Ok(())
}
