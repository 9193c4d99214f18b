//! Guest data stored compressed, of the disk and of all snapshots.
//!
//! Batch by batch from the beginning of the file: all threads read and compress, then the batch
//! goes to free clusters, the compressed data next to each other, and all references to a cluster
//! change together. What a batch frees the next one uses. Where nothing is free to begin with, the
//! first batch is after everything; what moves clusters later takes it to the front.

use std::collections::HashSet;
use std::ops::Range;

use super::CompactOptions;
use super::job::{Job, join};
use super::packer::Packer;
use super::steps::steps;
use crate::check::parallel;
use crate::codec::{Compressor, Method};
use crate::error::{Error, Result};
use crate::format::crypto::CryptMethod;
use crate::format::{ClusterCount, HostCluster};
use crate::image::{CompressStep, Image, References, Step};
use crate::threads::cores;

/// Memory for a reference.
const REFERENCE_BYTES: u64 = 24;

/// Bytes that a thread reads and compresses at a time, more where a cluster is longer.
const PIECE_BYTES: usize = 1 << 20;

/// Free space is used alone, if it is at least this part of what a batch needs; otherwise the file
/// gets longer meanwhile.
const SMALL_PART: u64 = 8;

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
        work.batches(&found, &possible)?;
    }
    Ok(())
}

struct Work<'a, 'b> {
    job: &'a mut Job<'b>,
    packer: Packer,
    /// Clusters that have compressed data of this work.
    taken: HashSet<HostCluster>,
}

/// What became of a batch: the compressed data, and where in them each cluster is.
struct Squeezed<'s> {
    packed: Vec<u8>,
    clusters: Vec<(&'s Step, Range<usize>)>,
}

/// A part of a batch: the compressed data, and where in them each cluster is that got smaller.
type Piece = (Vec<u8>, Vec<Option<Range<usize>>>);

impl Work<'_, '_> {
    /// While a batch is written and its pointers change, the next one is compressed.
    fn batches(&mut self, found: &References, steps: &[Step]) -> Result<()> {
        let size = self.job.image.geometry().cluster_bytes();
        let most = (self.job.batch_bytes() / size).max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let image = self.job.image;
        let (method, level) = (image.compression()?, self.job.options.level);
        let squeeze = |steps| squeeze(image, steps, (method, level));
        let mut ready = None;
        let mut batches = steps.chunks(most).peekable();
        while let Some(batch) = batches.next() {
            self.job.begin(batch.len() as u64 * size)?;
            let now = match ready.take() {
                Some(ready) => ready,
                None => squeeze(batch)?,
            };
            let next = batches.peek().copied();
            let (done, squeezed) = std::thread::scope(|scope| {
                let next = next.map(|steps| scope.spawn(move || squeeze(steps)));
                let done = self.store(found, &now);
                (done, next.map(join))
            });
            done?;
            ready = squeezed.transpose()?;
            self.job.control.progress.advance(batch.len() as u64 * size);
        }
        Ok(())
    }

    /// Stores the compressed data of a batch, in parts where there is little free space.
    fn store(&mut self, found: &References, squeezed: &Squeezed<'_>) -> Result<()> {
        let mut rest = &squeezed.clusters[..];
        while !rest.is_empty() {
            let bytes = rest[rest.len() - 1].1.end - rest[0].1.start;
            self.make_space(bytes as u64)?;
            let mut steps = Vec::with_capacity(rest.len());
            for (step, bytes) in rest {
                let to = self.packer.place_bytes(bytes.len() as u64, step.count);
                let Some(to) = to else { break };
                let (from, count, references) = (step.from, step.count, step.references.clone());
                steps.push(CompressStep { from, count, references, to, bytes: bytes.clone() });
            }
            if steps.is_empty() {
                // No space for the first one: it stays as it is.
                rest = &rest[1..];
                continue;
            }
            rest = &rest[steps.len()..];
            let (image, copying) = (self.job.image, self.job.copying);
            image.compress_clusters(found, &steps, &squeezed.packed, &mut self.taken, copying)?;
            let before = ClusterCount::new(steps.len() as u64);
            self.job.outcome.compressed += image.geometry().bytes_of(before);
            self.job.outcome.compressed_to +=
                steps.iter().map(|step| step.bytes.len() as u64).sum::<u64>();
        }
        Ok(())
    }

    /// Finds free clusters for so many bytes, or for a part of them.
    fn make_space(&mut self, bytes: u64) -> Result<()> {
        let image = self.job.image;
        // One for what is left of each cluster, where few references fit into a refcount.
        let needed = bytes / image.geometry().cluster_bytes() + 2;
        let count = usize::try_from(needed).unwrap_or(usize::MAX);
        let end = image.used_end()?;
        let mut free = image.free_clusters(HostCluster::new(1), end, count)?;
        if (free.len() as u64) < needed.div_ceil(SMALL_PART) {
            let more = image.clusters_at_end(needed - free.len() as u64)?;
            // A refcount block that describes them may have taken one.
            free = image.still_free(free)?;
            free.extend(more);
        }
        self.packer.refill(free);
        Ok(())
    }
}

/// Reads and compresses clusters with all threads.
fn squeeze<'s>(
    image: &Image,
    steps: &'s [Step],
    (method, level): (Method, Option<u8>),
) -> Result<Squeezed<'s>> {
    let length = image.geometry().cluster_len();
    let pieces: Vec<&[Step]> = steps.chunks((PIECE_BYTES / length).max(1)).collect();
    let tools = || (Compressor::with_level(method, level), Vec::new());
    let done = parallel::map(cores(), pieces.len(), tools, |(compressor, buffer), number| {
        squeeze_piece(image, pieces[number], compressor, buffer)
    });
    let mut squeezed = Squeezed { packed: Vec::new(), clusters: Vec::new() };
    for (piece, done) in pieces.iter().zip(done) {
        let (bytes, places) = done?;
        let start = squeezed.packed.len();
        squeezed.packed.extend_from_slice(&bytes);
        for (step, place) in piece.iter().zip(places) {
            let place = place.map(|place| place.start + start..place.end + start);
            squeezed.clusters.extend(place.map(|place| (step, place)));
        }
    }
    Ok(squeezed)
}

/// Reads clusters and compresses each; those that do not get smaller are left out.
fn squeeze_piece(
    image: &Image,
    steps: &[Step],
    compressor: &mut Compressor,
    buffer: &mut Vec<u8>,
) -> Result<Piece> {
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
