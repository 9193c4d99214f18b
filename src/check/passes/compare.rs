//! The stored refcounts against the references: a correct block is recognised by one
//! comparison of memory. Relies on everything being counted.

use std::io;
use std::ops::Range;

use crate::check::parallel;
use crate::check::report::{Finding, Kind, Place};
use crate::check::survey::context::Context;
use crate::check::survey::refcounts::{Block, Refcounts};
use crate::check::survey::stored;
use crate::format::l2::SECTOR_BYTES;
use crate::format::refcount;
use crate::format::{ClusterCount, Geometry, HostCluster, ReftableIndex};

/// Blocks that are next to each other are read together up to this many bytes.
const READ_BYTES: usize = 1 << 20;

/// What the comparison leaves to those that follow.
#[derive(Debug, Default)]
pub struct Compared {
    /// Blocks with a refcount that is not as it should be, or one that cannot be, in order.
    pub differing: Vec<ReftableIndex>,
    /// Something is referenced where no block is.
    pub missing: bool,
    /// A refcount is lower than the references require.
    pub too_low: bool,
    /// Clusters past the end of the file that are counted as used: from the first to the last of
    /// each block.
    pub beyond: Vec<Range<HostCluster>>,
    /// Clusters of the file without a refcount that can be relied on, in order: where it is 0, or
    /// missing, they may be in use all the same.
    pub uncounted: Vec<Range<HostCluster>>,
    /// Blocks of which most is lost: they were overwritten, or the refcount table points to
    /// something else.
    pub lost_blocks: Vec<ReftableIndex>,
}

impl Compared {
    /// Whether no refcount of a cluster can be relied on.
    pub fn is_uncounted(&self, cluster: HostCluster) -> bool {
        stored::is_within(&self.uncounted, cluster)
    }

    /// Whether every refcount is as it should be.
    pub fn is_equal(&self) -> bool {
        self.differing.is_empty() && !self.missing
    }
}

/// A run of clusters with its refcounts.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: u64,
    count: u64,
    stored: u64,
    referenced: u64,
}

/// What is wrong in a block.
#[derive(Debug, Default)]
struct Differences {
    runs: Vec<Run>,
    /// The last cluster that it counts.
    last: Option<HostCluster>,
    /// From the first to the last cluster that it counts past the end of the comparison.
    beyond: Option<Range<HostCluster>>,
    /// Clusters whose refcounts are in a sector that was lost.
    lost: Vec<Range<HostCluster>>,
    /// Clusters whose refcounts are in sectors that describe something referenced.
    used: u64,
}

/// Reports what is counted past the end of the file.
pub fn beyond(ctx: &mut Context, compared: &Compared) {
    for clusters in &compared.beyond {
        let place = Place::Clusters(clusters.start, clusters.end - clusters.start);
        ctx.find(Kind::CountedBeyondEnd, place);
    }
}

/// Compares all refcounts; returns the result and the last cluster that is used or counted.
pub fn run(ctx: &mut Context, refcounts: &Refcounts) -> (Compared, HostCluster) {
    let mut compared = Compared::default();
    let mut last = ctx.map.last().unwrap_or_default();
    if refcounts.unreadable {
        compared.uncounted.push(HostCluster::new(0)..HostCluster::new(ctx.file_clusters().get()));
        return (compared, last);
    }
    let end = ctx.compare_end();
    let blocks = comparable(ctx, refcounts, end);
    ctx.progress.stage("refcount blocks", blocks.len() as u64 * ctx.geometry.cluster_bytes());
    let Batch { differing, unread } = look_for_differences(ctx, &blocks);
    for (Block { offset, index, .. }, error) in unread {
        let kind = Kind::Unreadable { what: "refcount block", offset, error };
        ctx.find(kind, Place::Refblock(index));
    }
    let differing: Vec<Block> = differing.into_iter().map(|number| *blocks[number]).collect();
    drop(blocks);
    let missing = missing(ctx, refcounts, end);
    overflows(ctx, &differing, &missing);
    let before = ctx.found.tally().corruptions;
    compared.uncounted = without_block(ctx, refcounts, &missing);
    tell(ctx, &differing, &missing, end, (&mut compared, &mut last));
    in_file(ctx, &mut compared.uncounted);
    compared.too_low = ctx.found.tally().corruptions > before;
    compared.differing = differing.iter().map(|b| b.index).collect();
    compared.missing = !missing.is_empty();
    (compared, last)
}

/// The blocks whose refcounts can be read and are evidence.
fn comparable<'a>(ctx: &Context, refcounts: &'a Refcounts, end: HostCluster) -> Vec<&'a Block> {
    let readable = |b: &&Block| {
        b.offset.get() != 0
            && ctx.geometry.is_aligned(b.offset)
            && ctx.geometry.first_cluster_of_block(b.index) < end
    };
    refcounts.blocks.iter().filter(readable).collect()
}

/// What a batch of blocks is like.
#[derive(Default)]
struct Batch {
    /// The numbers of those that are not as they should be.
    differing: Vec<usize>,
    /// Those that could not be read.
    unread: Vec<(Block, String)>,
}

/// The blocks that are not as they should be, and those that could not be read.
fn look_for_differences(ctx: &Context, blocks: &[&Block]) -> Batch {
    let len = ctx.geometry.cluster_len();
    let mut batches: Vec<Range<usize>> = Vec::new();
    for (i, block) in blocks.iter().enumerate() {
        match batches.last_mut() {
            Some(batch)
                if blocks[i - 1].offset.saturating_add(len as u64) == block.offset
                    && (batch.len() + 1) * len <= READ_BYTES =>
            {
                batch.end += 1;
            }
            _ => batches.push(i..i + 1),
        }
    }
    let work = |(read, expected): &mut (Vec<u8>, Vec<u8>), number: usize| {
        let batch = batches[number].clone();
        read.resize(batch.len() * len, 0);
        expected.resize(len, 0);
        ctx.progress.advance(read.len() as u64);
        let mut found = Batch::default();
        if let Err(error) = ctx.source.read_padded_at(blocks[batch.start].offset.get(), read) {
            found.unread = batch.map(|i| (*blocks[i], error.to_string())).collect();
            return found;
        }
        for (i, stored) in batch.zip(read.chunks_exact(len)) {
            let fits = ctx.map.encode_block(blocks[i].index, &ctx.geometry, expected);
            if !fits || stored != expected {
                found.differing.push(i);
            }
        }
        found
    };
    let mut all = Batch::default();
    parallel::for_each(ctx.threads, batches.len(), Default::default, work, |batch| {
        all.differing.extend(batch.differing);
        all.unread.extend(batch.unread);
    });
    all
}

/// The clusters that are referenced where no block is.
fn missing(ctx: &Context, refcounts: &Refcounts, end: HostCluster) -> Vec<Range<HostCluster>> {
    let entries = ClusterCount::new(ctx.geometry.refblock_entries());
    let mut gaps = Vec::new();
    let mut from = HostCluster::new(0);
    let covering = refcounts.blocks.iter().filter(|b| b.offset.get() != 0);
    for first in covering.map(|b| ctx.geometry.first_cluster_of_block(b.index)) {
        if from < first {
            gaps.push(from..first.min(end));
        }
        from = first + entries;
    }
    if from < end {
        gaps.push(from..end);
    }
    let used = ctx.map.ranges();
    let mut missing = Vec::new();
    for gap in gaps {
        let overlapping = used.iter().skip(used.partition_point(|u| u.end <= gap.start));
        for used in overlapping.take_while(|u| u.start < gap.end) {
            let (start, stop) = (used.start.max(gap.start), used.end.min(gap.end));
            if start < stop && !ctx.map.is_unreferenced(start, stop - start) {
                missing.push(start..stop);
            }
        }
    }
    missing
}

/// Reports clusters with more references than can be counted.
fn overflows(ctx: &mut Context, differing: &[Block], missing: &[Range<HostCluster>]) {
    let max = ctx.geometry.refcount_max();
    let cluster_bytes = ctx.geometry.cluster_bytes();
    let entries = ClusterCount::new(ctx.geometry.refblock_entries());
    let blocks = differing.iter().map(|b| {
        let first = ctx.geometry.first_cluster_of_block(b.index);
        first..first + entries
    });
    let mut found = Vec::new();
    let room = ctx.found.room();
    for range in blocks.chain(missing.iter().cloned()) {
        ctx.map.for_each_run(range, |first, count, references| {
            if references > max && found.len() <= room {
                let kind = Kind::Overflow { excess: references - max, cluster_bytes };
                found.push(Finding::new(kind, Place::Clusters(first, count)));
            }
        });
    }
    for finding in found {
        ctx.found.push(finding);
    }
}

/// The clusters that no usable block describes, where something is referenced.
fn without_block(
    ctx: &Context,
    refcounts: &Refcounts,
    missing: &[Range<HostCluster>],
) -> Vec<Range<HostCluster>> {
    let entries = ClusterCount::new(ctx.geometry.refblock_entries());
    let described = |index| {
        let first = ctx.geometry.first_cluster_of_block(index);
        first..first + entries
    };
    let unsound = refcounts.blocks.iter().filter(|block| !block.sound);
    let mut found: Vec<_> = unsound.map(|block| described(block.index)).collect();
    for range in missing {
        let (low, _) = ctx.geometry.refcount_place(range.start);
        let (high, _) = ctx.geometry.refcount_place(HostCluster::new(range.end.get() - 1));
        found.extend((low.get()..=high.get()).map(|index| described(ReftableIndex::new(index))));
    }
    found
}

/// Sorts ranges, joins them, and cuts them off at the end of the file.
fn in_file(ctx: &Context, ranges: &mut Vec<Range<HostCluster>>) {
    let end = HostCluster::new(ctx.file_clusters().get());
    ranges.iter_mut().for_each(|range| range.end = range.end.min(end));
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, range| {
        let joins = next.start <= range.end;
        if joins {
            range.end = range.end.max(next.end);
        }
        joins
    });
}

/// Reports every difference, in the order of clusters; collects what has a refcount past the end,
/// and what is lost.
fn tell(
    ctx: &mut Context,
    differing: &[Block],
    missing: &[Range<HostCluster>],
    end: HostCluster,
    (compared, last): (&mut Compared, &mut HostCluster),
) {
    let mut gaps = missing.iter().peekable();
    for wave in differing.chunks(ctx.threads * 4) {
        let runs =
            parallel::map(ctx.threads, wave.len(), || (), |(), i| differences(ctx, wave[i], end));
        for (block, runs) in wave.iter().zip(runs) {
            let found = runs.unwrap_or_else(|error| {
                let error = error.to_string();
                let kind = Kind::Unreadable { what: "refcount block", offset: block.offset, error };
                ctx.find(kind, Place::Refblock(block.index));
                Differences::default()
            });
            let first = ctx.geometry.first_cluster_of_block(block.index);
            while let Some(gap) = gaps.next_if(|gap| gap.start < first) {
                tell_missing(ctx, gap.clone());
            }
            for run in found.runs {
                tell_run(ctx, run);
            }
            compared.beyond.extend(found.beyond);
            let lost: u64 =
                found.lost.iter().map(|range| range.end.get() - range.start.get()).sum();
            if 2 * lost > found.used {
                compared.lost_blocks.push(block.index);
            }
            compared.uncounted.extend(found.lost);
            *last = found.last.map_or(*last, |stored| stored.max(*last));
        }
    }
    for gap in gaps {
        tell_missing(ctx, gap.clone());
    }
}

fn tell_missing(ctx: &mut Context, gap: Range<HostCluster>) {
    let max = ctx.geometry.refcount_max();
    let Context { map, found, .. } = ctx;
    // There can be as many runs as clusters: the collector keeps no more than it should.
    map.for_each_run(gap, |first, count, references| {
        if references > 0 {
            let kind = Kind::Count { stored: 0, referenced: references.min(max) };
            found.push(Finding::new(kind, Place::Clusters(first, count)));
        }
    });
}

fn tell_run(ctx: &mut Context, run: Run) {
    let place = Place::Clusters(HostCluster::new(run.first), ClusterCount::new(run.count));
    ctx.find(Kind::Count { stored: run.stored, referenced: run.referenced }, place);
}

/// What is wrong with the refcounts of a block.
fn differences(ctx: &Context, block: Block, end: HostCluster) -> io::Result<Differences> {
    let geometry = &ctx.geometry;
    let mut stored = vec![0; geometry.cluster_len()];
    let mut expected = stored.clone();
    ctx.source.read_padded_at(block.offset.get(), &mut stored)?;
    ctx.map.encode_block(block.index, geometry, &mut expected);
    let first = geometry.first_cluster_of_block(block.index);
    let entries = geometry.refblock_entries().min((end - first).get());
    let order = geometry.refcount_order();
    let mut found = Differences::default();
    let length = usize::try_from(entries).unwrap_or(usize::MAX);
    let last = refcount::counted(&stored, order, 0..length).next_back();
    found.last = last.map(|(entry, _)| first + ClusterCount::new(entry as u64));
    for (entry, is, should) in refcount::differing((&stored, &expected), order, 0..length) {
        let cluster = first.get() + entry as u64;
        match found.runs.last_mut() {
            Some(run)
                if run.first + run.count == cluster
                    && (run.stored, run.referenced) == (is, should) =>
            {
                run.count += 1;
            }
            _ => found.runs.push(Run { first: cluster, count: 1, stored: is, referenced: should }),
        }
    }
    found.beyond = counted(&stored, geometry, first, length..geometry.refblock_len());
    (found.lost, found.used) = lost_sectors(ctx, (&stored, &expected), first, length);
    Ok(found)
}

/// The clusters whose refcounts are in sectors of a block that were overwritten: most of what is
/// referenced there has a refcount that is too low, or higher than any image has.
fn lost_sectors(
    ctx: &Context,
    (stored, expected): (&[u8], &[u8]),
    first: HostCluster,
    entries: usize,
) -> (Vec<Range<HostCluster>>, u64) {
    let order = ctx.geometry.refcount_order();
    let per_sector = usize::try_from((SECTOR_BYTES * 8) >> order).unwrap_or(1);
    let known = ctx.plausible();
    let mut in_use = 0;
    let mut is_lost = |start: &usize| {
        let (mut used, mut low) = (0, 0);
        let sector = *start..(start + per_sector).min(entries);
        for (_, is, should) in refcount::counted_in_either((stored, expected), order, sector) {
            used += u64::from(should > 0 || known.excludes(is, should));
            low += u64::from(known.is_lost(is, should));
        }
        in_use += if used > 0 { per_sector } else { 0 };
        used > 0 && 2 * low > used
    };
    let starts = (0..entries).step_by(per_sector);
    let lost: Vec<usize> = starts.filter(|start| is_lost(start)).collect();
    let clusters = lost.into_iter().map(|start| {
        let start = first + ClusterCount::new(start as u64);
        start..start + ClusterCount::new(per_sector as u64)
    });
    (clusters.collect(), in_use as u64)
}

/// From the first to the last cluster that a block counts in a range of its entries.
fn counted(
    block: &[u8],
    geometry: &Geometry,
    first: HostCluster,
    range: Range<usize>,
) -> Option<Range<HostCluster>> {
    let mut counted = refcount::counted(block, geometry.refcount_order(), range);
    let (from, _) = counted.next()?;
    let to = counted.next_back().map_or(from, |(to, _)| to);
    let cluster = |entry: usize| first + ClusterCount::new(entry as u64);
    Some(cluster(from)..cluster(to + 1))
}
