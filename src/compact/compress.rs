//! Guest data stored compressed, of the disk and of all snapshots.
//!
//! Batch by batch from the beginning of the file: all threads read and compress, then the batch goes
//! to free clusters, the compressed data next to each other, and all references to a cluster change
//! together. What a batch frees the next one uses. Where nothing is free to begin with, the first
//! batch is behind everything; what moves clusters afterwards takes it to the front.

use std::collections::HashSet;
use std::ops::Range;

use super::CompactOptions;
use super::job::Job;
use super::packer::Packer;
use super::steps::steps;
use crate::check::parallel;
use crate::codec::Compressor;
use crate::error::{Error, Result};
use crate::format::crypto::CryptMethod;
use crate::format::{ClusterCount, HostCluster};
use crate::image::{CompressStep, Image, References, Step};
use crate::threads::cores;

/// Memory for a reference.
const REFERENCE_BYTES: u64 = 24;

/// Bytes that a thread reads and compresses at a time, more where a cluster is longer.
const PIECE_BYTES: usize = 1 << 20;

/// A batch is as long as the free space, if that is at least this part of what it could be.
const SMALL_BATCH: u64 = 8;

/// An error where the image cannot have compressed data, or not of this method.
pub(super) fn refuse(image: &Image, options: &CompactOptions) -> Result<()> {
    let header = image.header()?;
    let unsupported = |why: &str| Err(Error::Unsupported(why.into()));
    if header.has_data_file() {
        return unsupported("data in an external data file cannot be compressed");
    }
    if header.crypt_method != CryptMethod::None {
        return unsupported("the format has no data that are both compressed and encrypted");
    }
    if image.geometry().refcount_bits() == 1 {
        let why = "refcounts of 1 bit cannot count several compressed clusters in one";
        return unsupported(why);
    }
    let has = image.compression()?;
    if options.method.is_none_or(|method| method == has) {
        return Ok(());
    }
    if header.version < 3 {
        return unsupported("version 2 has no compression type but zlib");
    }
    if image.has_compressed_data()? {
        let why = "the image has data that are compressed by another method, and an image has one \
                   method: convert it into a new one";
        return Err(Error::Refused(why.into()));
    }
    Ok(())
}

/// Compresses what gets smaller.
pub(super) fn compress(job: &mut Job<'_>) -> Result<()> {
    if let Some(method) = job.options.method {
        if method != job.image.compression()? {
            job.image.set_compression(method)?;
        }
    }
    let used = job.image.used_from(HostCluster::new(0))?;
    job.control.progress.stage("compressing", job.image.geometry().bytes_of(used));
    let (mut from, end) = (HostCluster::new(0), job.image.used_end()?);
    let mut work =
        Work { packer: Packer::new(job.image.geometry(), Vec::new()), taken: HashSet::new(), job };
    let most = work.job.options.batch / REFERENCE_BYTES;
    while from < end {
        work.job.begin(0)?;
        let mut clusters = work.job.image.used_clusters(from, most)?;
        let Some(&(last, _)) = clusters.last() else { break };
        let range = from..last.next().min(end);
        from = range.end;
        clusters.retain(|(cluster, _)| range.contains(cluster) && !work.taken.contains(cluster));
        clusters.reverse();
        let wanted: HashSet<_> = clusters.iter().map(|&(cluster, _)| cluster).collect();
        let mut found = work.job.image.references(|cluster| wanted.contains(&cluster))?;
        found.packed.clear();
        let mut steps = steps(&found, &clusters);
        steps.retain(|step| !work.job.mixed.contains(&step.from));
        let mut possible = Vec::with_capacity(steps.len());
        for step in steps {
            if work.job.image.is_compressible(&found, &step)? {
                possible.push(step);
            }
        }
        // As a guest reads them.
        possible.sort_unstable_by_key(|step| {
            let first = found.plain[step.references.start];
            (first.holder, first.index)
        });
        work.batches(&found, possible)?;
    }
    Ok(())
}

struct Work<'a, 'b> {
    job: &'a mut Job<'b>,
    packer: Packer,
    /// Clusters that have compressed data of this work.
    taken: HashSet<HostCluster>,
}

/// A cluster that was compressed: where in the bytes of its piece.
type Compressed = Vec<Option<Range<usize>>>;

impl Work<'_, '_> {
    fn batches(&mut self, found: &References, steps: Vec<Step>) -> Result<()> {
        let mut rest = &steps[..];
        while !rest.is_empty() {
            let most = self.make_space(rest.len() as u64)?;
            let (batch, later) = rest.split_at(most.clamp(1, rest.len()));
            let bytes = self.job.image.geometry().bytes_of(ClusterCount::new(batch.len() as u64));
            self.job.begin(bytes)?;
            self.batch(found, batch)?;
            self.job.control.progress.advance(bytes);
            rest = later;
        }
        Ok(())
    }

    /// Finds free clusters, and returns how many can be compressed into them.
    fn make_space(&mut self, left: u64) -> Result<usize> {
        let size = self.job.image.geometry().cluster_bytes();
        let rate = self.job.options.rate.unwrap_or(u64::MAX);
        let most = (self.job.options.batch.min(rate) / size).clamp(1, left);
        let count = usize::try_from(most).unwrap_or(usize::MAX);
        let end = self.job.image.used_end()?;
        let mut free = self.job.image.free_clusters(HostCluster::new(1), end, count)?;
        if (free.len() as u64) < most.div_ceil(SMALL_BATCH) {
            free.extend(self.job.image.clusters_at_end(most - free.len() as u64)?);
        }
        let found = free.len();
        self.packer.refill(free);
        Ok(found)
    }

    fn batch(&mut self, found: &References, batch: &[Step]) -> Result<()> {
        let image = self.job.image;
        let (method, level) = (image.compression()?, self.job.options.level);
        let length = image.geometry().cluster_len();
        let pieces: Vec<&[Step]> = batch.chunks((PIECE_BYTES / length).max(1)).collect();
        let tools = || (Compressor::with_level(method, level), Vec::new());
        let done = parallel::map(cores(), pieces.len(), tools, |(compressor, buffer), number| {
            compress_piece(image, pieces[number], compressor, buffer)
        });
        let (mut packed, mut compressed) = (Vec::new(), Vec::new());
        for (piece, done) in pieces.iter().zip(done) {
            let (bytes, places) = done?;
            let start = packed.len();
            packed.extend_from_slice(&bytes);
            for (step, place) in piece.iter().zip(places) {
                let place = place.map(|place| place.start + start..place.end + start);
                compressed.extend(place.map(|place| (step, place)));
            }
        }
        let mut steps = Vec::with_capacity(compressed.len());
        for (step, bytes) in compressed {
            let to = self.packer.place_bytes(bytes.len() as u64, step.count);
            let (from, count, references) = (step.from, step.count, step.references.clone());
            steps.extend(to.map(|to| CompressStep { from, count, references, to, bytes }));
        }
        if steps.is_empty() {
            return Ok(());
        }
        image.compress_clusters(found, &steps, &packed, &mut self.taken, self.job.copying)?;
        let before = ClusterCount::new(steps.len() as u64);
        self.job.outcome.compressed += image.geometry().bytes_of(before);
        self.job.outcome.compressed_to +=
            steps.iter().map(|step| step.bytes.len() as u64).sum::<u64>();
        Ok(())
    }
}

/// Reads clusters and compresses each; those that do not get smaller are left out.
fn compress_piece(
    image: &Image,
    steps: &[Step],
    compressor: &mut Compressor,
    buffer: &mut Vec<u8>,
) -> Result<(Vec<u8>, Compressed)> {
    let length = image.geometry().cluster_len();
    buffer.resize(steps.len() * length, 0);
    let mut start = 0;
    for run in steps.chunk_by(|a, b| a.from.next() == b.from) {
        let bytes = run.len() * length;
        image.read_clusters(run[0].from, &mut buffer[start..start + bytes])?;
        start += bytes;
    }
    let mut packed = Vec::with_capacity(buffer.len() / 2);
    let places = buffer.chunks(length).map(|cluster| {
        let start = packed.len();
        compressor.compress(cluster, &mut packed)?;
        Some(start..packed.len())
    });
    let places = places.collect();
    Ok((packed, places))
}
