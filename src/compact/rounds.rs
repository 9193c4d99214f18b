//! Clusters from the end of the file into free ones before them.
//!
//! A round begins with the structures of neighbouring clusters, which need neighbouring free ones,
//! and goes on with single clusters, the last ones first, as far as there is free space before
//! them. What one round frees is used by the next. The last round moves nothing.

use std::collections::HashSet;
use std::ops::Range;

use super::job::{BATCH_STEPS, Job};
use super::packer::Packer;
use super::pairs::pairs;
use super::steps::steps;
use crate::error::Result;
use crate::format::{ClusterCount, HostCluster};
use crate::image::{PackedStep, References, Step, Window};

/// Memory for a reference. There are as many in memory as take the bytes of a batch; all tables are
/// read once for so many.
const REFERENCE_BYTES: u64 = 24;

/// Most rounds: what then still could move is little.
const MAX_ROUNDS: usize = 32;

/// Clusters before this one are never free.
const FIRST: HostCluster = HostCluster::new(1);

/// The rounds of one image.
pub(super) struct Rounds<'a, 'b> {
    job: &'a mut Job<'b>,
    /// Nothing before this cluster moves.
    floor: HostCluster,
    /// Before this cluster nothing is free, or what is free was passed over.
    free_from: HostCluster,
}

impl<'a, 'b> Rounds<'a, 'b> {
    pub(super) fn new(job: &'a mut Job<'b>) -> Result<Self> {
        let floor = job.floor();
        // Were everything in use together, it would end here.
        let dense = HostCluster::new(job.image.used_from(HostCluster::new(0))?.get());
        let after = job.image.used_from(dense.max(floor))?;
        let bytes = job.image.geometry().bytes_of(after).min(job.left());
        job.control.progress.stage("moving clusters", bytes);
        Ok(Self { job, floor, free_from: FIRST })
    }

    /// Runs rounds until nothing can move.
    pub(super) fn run(mut self) -> Result<()> {
        for _ in 0..MAX_ROUNDS {
            let moved = self.round()?;
            self.job.image.drop_empty_blocks()?;
            self.job.image.shorten_reftable()?;
            self.job.image.cut_end()?;
            if !moved || self.job.left() == 0 {
                break;
            }
        }
        Ok(())
    }

    fn round(&mut self) -> Result<bool> {
        self.free_from = FIRST;
        let mut moved = self.move_roots()?;
        moved |= self.move_windows()?;
        moved |= self.move_blocks()?;
        Ok(moved)
    }

    /// Where the file could end at best, if that is not before the floor.
    fn goal(&self) -> Result<HostCluster> {
        let used = self.job.image.used_from(HostCluster::new(0))?;
        Ok(HostCluster::new(used.get()).max(self.floor))
    }

    fn move_roots(&mut self) -> Result<bool> {
        let goal = self.goal()?;
        let mut roots = self.job.image.roots()?;
        roots.retain(|&(_, first, count)| first + count > goal);
        roots.sort_unstable_by_key(|&(_, first, _)| std::cmp::Reverse(first));
        let mut moved = false;
        for (root, first, count) in roots {
            let bytes = self.job.image.geometry().bytes_of(count);
            if bytes > self.job.left() {
                continue;
            }
            let Some(to) = self.job.image.free_run(count, first)? else { continue };
            self.job.begin(bytes)?;
            self.job.image.move_root(root, to)?;
            self.job.moved(bytes);
            moved = true;
        }
        Ok(moved)
    }

    /// Moves refcount blocks, those that are left once the empty ones are gone.
    fn move_blocks(&mut self) -> Result<bool> {
        self.job.image.drop_empty_blocks()?;
        let blocks = self.job.image.refblocks_from(self.goal()?)?;
        let from: Vec<_> = blocks.iter().map(|&(_, cluster)| cluster).collect();
        let Some(&last) = from.first() else { return Ok(false) };
        let free = self.job.image.free_clusters(FIRST, last, self.fitting(from.len()))?;
        let pairs = pairs(&from, &free);
        // The last blocks, which come first, have pairs.
        let moving = blocks[..pairs.len()].iter().rev().zip(pairs);
        let moves: Vec<_> = moving.map(|(&(index, _), (from, to))| (index, from, to)).collect();
        for moves in moves.rchunks(self.job.per_batch()) {
            let bytes = self.bytes_of(moves.len());
            self.job.begin(bytes)?;
            self.job.image.move_refblocks(moves)?;
            self.job.moved(bytes);
        }
        Ok(!moves.is_empty())
    }

    /// Moves single clusters and compressed data, from the end of the file on.
    fn move_windows(&mut self) -> Result<bool> {
        let mut end = self.job.image.used_end()?;
        let mut moved = false;
        let references = self.job.options.batch / REFERENCE_BYTES;
        while end > self.floor && self.job.left() > 0 {
            self.job.begin(0)?;
            if self.next_free(end, 1)?.is_empty() {
                break;
            }
            let window = self.job.image.window(self.floor, end, references)?;
            let range = window.first..end;
            if !window.clusters.is_empty() {
                let mut found = self.job.image.references(|cluster| range.contains(&cluster))?;
                found.leave(&self.job.mixed, &self.job.image.geometry());
                moved |= self.move_packed(&mut found, &range)?;
                moved |= self.move_plain(&mut found, &window)?;
            }
            end = window.first;
        }
        Ok(moved)
    }

    fn next_free(&self, end: HostCluster, most: usize) -> Result<Vec<HostCluster>> {
        self.job.image.free_clusters(self.free_from, end, most)
    }

    fn bytes_of(&self, clusters: usize) -> u64 {
        self.job.image.geometry().bytes_of(ClusterCount::new(clusters as u64))
    }

    /// As many clusters of `count` as may still move.
    fn fitting(&self, count: usize) -> usize {
        let left = self.job.left() / self.job.image.geometry().cluster_bytes();
        count.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    fn move_plain(&mut self, found: &mut References, window: &Window) -> Result<bool> {
        let mut steps = steps(found, &window.clusters);
        let mut from: Vec<_> = steps.iter().rev().map(|step| step.from).collect();
        let Some(&last) = from.first() else { return Ok(false) };
        from.truncate(self.fitting(from.len()));
        let free = self.next_free(last, from.len())?;
        let pairs = pairs(&from, &free);
        let Some(&(_, highest)) = pairs.last() else { return Ok(false) };
        // The last steps have pairs.
        let moving = steps.split_off(steps.len() - pairs.len()).into_iter().zip(pairs);
        let moves: Vec<_> = moving.map(|(step, (_, to))| Step { to: Some(to), ..step }).collect();
        let groups = self.job.groups(found, &moves);
        self.job.move_groups(found, &groups)?;
        self.free_from = highest.next();
        Ok(true)
    }

    /// Moves compressed data that are in a range of clusters.
    fn move_packed(&mut self, found: &mut References, range: &Range<HostCluster>) -> Result<bool> {
        let groups = found.extents();
        if groups.is_empty() {
            return Ok(false);
        }
        let most: u64 = groups.iter().map(|group| found.packed[group.start].extent.bytes).sum();
        let size = self.job.image.geometry().cluster_bytes();
        let most = usize::try_from(most.div_ceil(size)).unwrap_or(usize::MAX);
        let free = self.next_free(range.end, most.saturating_mul(2).saturating_add(16))?;
        let mut packer = Packer::new(self.job.image.geometry(), free);
        let mut taken = HashSet::new();
        let mut moved = false;
        let mut end = groups.len();
        while end > 0 && self.job.left() > 0 {
            let start = self.batch_start(found, &groups[..end]);
            let steps = self.place(found, &groups[start..end], &mut packer);
            end = start;
            let bytes: u64 = steps.iter().map(|step| step.from.bytes).sum();
            if steps.is_empty() || bytes > self.job.left() {
                break;
            }
            self.job.begin(bytes)?;
            self.job.image.move_packed(found, &steps, &mut taken, self.job.copying)?;
            self.job.moved(bytes);
            moved = true;
        }
        self.free_from = packer.end.map_or(self.free_from, |end| end.max(self.free_from));
        Ok(moved)
    }

    /// Where the last batch of these groups begins.
    fn batch_start(&self, found: &References, groups: &[Range<usize>]) -> usize {
        let (mut bytes, mut start) = (0, groups.len());
        let most = self.job.batch_bytes().min(self.job.left());
        while start > 0 && groups.len() - start < BATCH_STEPS {
            bytes += found.packed[groups[start - 1].start].extent.bytes;
            if bytes > most && start < groups.len() {
                break;
            }
            start -= 1;
        }
        start
    }

    /// The steps for groups of references to the same data each, as far as there is space.
    fn place(
        &self,
        found: &References,
        groups: &[Range<usize>],
        packer: &mut Packer,
    ) -> Vec<PackedStep> {
        packer.begin();
        let geometry = self.job.image.geometry();
        let step = |group: &Range<usize>| {
            let extent = found.packed[group.start].extent;
            let first = geometry.cluster_floor(extent.offset);
            let to = packer.place(extent, found.count_packed(group), first)?;
            Some(PackedStep { from: extent, to: Some(to), references: group.clone() })
        };
        groups.iter().filter_map(step).collect()
    }
}
