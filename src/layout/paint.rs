//! The clusters of a file by their roles, as runs in the file's order: painted piece by piece, so
//! that memory is bounded whatever there is.

use std::convert::Infallible;
use std::ops::Range;

use super::holes::Holes;
use super::{Role, Totals, damage};
use crate::check::Survey;
use crate::check::survey::refcount_map::RefcountMap;
use crate::format::refcount::counted;
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset, ReftableIndex};
use crate::storage::ReadAt;

/// Clusters that are painted together.
const PIECE: u64 = 1 << 15;

/// Neighbouring clusters that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRun {
    /// The first one.
    pub first: HostCluster,
    /// How many there are, a last one perhaps in part.
    pub count: ClusterCount,
    /// What they are for.
    pub role: Role,
    /// Whether an error was found that is about them.
    pub damaged: bool,
    /// Whether they are holes of the file: nothing is stored for them.
    pub hole: bool,
}

impl FileRun {
    fn end(&self) -> HostCluster {
        self.first + self.count
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.role, self.damaged, self.hole) == (other.role, other.damaged, other.hole)
    }
}

/// What each cluster of a file is for.
pub struct Layout<'a> {
    source: &'a dyn ReadAt,
    survey: &'a Survey,
    geometry: Geometry,
    end: HostCluster,
    damaged: Vec<Range<HostCluster>>,
}

impl<'a> Layout<'a> {
    /// The layout of an image that was checked.
    pub fn new(source: &'a dyn ReadAt, survey: &'a Survey) -> Self {
        let geometry = survey.area.geometry;
        let end = HostCluster::new(geometry.clusters_for(survey.file_bytes).get());
        Self { source, survey, geometry, end, damaged: damage::ranges(source, survey) }
    }

    /// Where a run begins in the file, and how many of its bytes the file has.
    pub fn bytes_of(&self, run: &FileRun) -> (HostOffset, u64) {
        let start = self.geometry.offset_of(run.first);
        let end = start.get().saturating_add(self.geometry.bytes_of(run.count));
        (start, end.min(self.survey.file_bytes) - start.get())
    }

    /// How many bytes have each role.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.for_each(|run| totals.add(&run, self.bytes_of(&run).1));
        totals
    }

    /// Calls `visit` for each run, from the beginning of the file to its end.
    pub fn for_each(&self, mut visit: impl FnMut(FileRun)) {
        let result: Result<(), Infallible> = self.try_for_each(|run| {
            visit(run);
            Ok(())
        });
        result.unwrap_or_else(|never| match never {});
    }

    /// Calls `visit` for each run, from the beginning of the file to its end, or to the first
    /// error.
    pub fn try_for_each<E>(
        &self,
        mut visit: impl FnMut(FileRun) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut pending: Option<FileRun> = None;
        let mut take = |run: FileRun| match &mut pending {
            Some(last) if last.is_like(&run) && last.end() == run.first => {
                last.count += run.count;
                Ok(())
            }
            _ => pending.replace(run).map_or(Ok(()), &mut visit),
        };
        let mut holes = Holes::new(self.source, self.geometry);
        let mut blocks = LastBlock::default();
        let mut roles = Vec::new();
        let mut at = HostCluster::new(0);
        for used in self.used() {
            self.blank(at..used.start, &mut holes, &mut take)?;
            at = used.start;
            while at < used.end {
                let until = (at + ClusterCount::new(PIECE)).min(used.end);
                self.paint(at..until, &mut blocks, &mut roles);
                self.emit(at, &roles, &mut holes, &mut take)?;
                at = until;
            }
        }
        self.blank(at..self.end, &mut holes, &mut take)?;
        pending.map_or(Ok(()), visit)
    }

    /// The ranges outside of which nothing is used or counted, in order.
    fn used(&self) -> Vec<Range<HostCluster>> {
        let entries = ClusterCount::new(self.geometry.refblock_entries());
        let block = |&index: &ReftableIndex| {
            let first = self.geometry.first_cluster_of_block(index);
            first..first + entries
        };
        let counted = self.survey.differing.iter().map(block);
        let mut all: Vec<_> = self.survey.map.ranges().into_iter().chain(counted).collect();
        all.extend(self.damaged.iter().cloned());
        damage::joined(all, self.end)
    }

    /// A range in which nothing is used.
    fn blank<E>(
        &self,
        range: Range<HostCluster>,
        holes: &mut Holes<'_>,
        take: &mut impl FnMut(FileRun) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = range.start;
        while at < range.end {
            let (hole, until) = holes.run_at(at, range.end);
            let (first, count) = (at, until - at);
            take(FileRun { first, count, role: Role::Free, damaged: false, hole })?;
            at = until;
        }
        Ok(())
    }

    /// Finds the role of each cluster of a range, and whether it is damaged.
    fn paint(
        &self,
        range: Range<HostCluster>,
        blocks: &mut LastBlock,
        roles: &mut Vec<(Role, bool)>,
    ) {
        roles.clear();
        roles.resize(place(range.end - range.start), (Role::Free, false));
        let mut paint = |part: Range<HostCluster>, role: Role| {
            let (start, end) = (part.start.max(range.start), part.end.min(range.end));
            if start < end {
                let part = &mut roles[place(start - range.start)..place(end - range.start)];
                part.iter_mut().for_each(|(known, _)| *known = role.min(*known));
            }
        };
        self.paint_counted(&range, blocks, &mut paint);
        let maps = [
            (&*self.survey.map, Role::SnapshotData),
            (&self.survey.active, Role::Data),
            (&self.survey.compressed, Role::Compressed),
        ];
        for (map, role) in maps {
            map.for_each_run(range.clone(), |first, count, references| {
                if references > 0 {
                    paint(first..first + count, role);
                }
            });
        }
        for region in self.survey.regions.touching(range.clone()) {
            paint(region.first..region.end(), Role::of(region.kind));
        }
        let from = self.damaged.partition_point(|damaged| damaged.end <= range.start);
        for damaged in self.damaged[from..].iter().take_while(|d| d.start < range.end) {
            let (start, end) = (damaged.start.max(range.start), damaged.end.min(range.end));
            let part = &mut roles[place(start - range.start)..place(end - range.start)];
            part.iter_mut().for_each(|(_, flag)| *flag = true);
        }
    }

    /// What has a refcount though nothing references it: leaked, or what a lost table points to.
    fn paint_counted(
        &self,
        range: &Range<HostCluster>,
        blocks: &mut LastBlock,
        paint: &mut impl FnMut(Range<HostCluster>, Role),
    ) {
        let (mut index, _) = self.geometry.refcount_place(range.start);
        loop {
            let first = self.geometry.first_cluster_of_block(index);
            if first >= range.end {
                break;
            }
            if let Some(bytes) = blocks.load(self.source, self.survey, index) {
                let end = first + ClusterCount::new(self.geometry.refblock_entries());
                let part = first.max(range.start)..end.min(range.end);
                let unused = |from: HostCluster, count: ClusterCount, references: u64| {
                    (references == 0).then_some(from..from + count)
                };
                let mut ranges = Vec::new();
                self.survey.map.for_each_run(part, |a, b, c| ranges.extend(unused(a, b, c)));
                for range in ranges {
                    self.paint_block(bytes, first, range, paint);
                }
            }
            index = ReftableIndex::new(index.get() + 1);
        }
        let claimed: &RefcountMap = &self.survey.claims;
        if claimed.last().is_some() {
            claimed.for_each_run(range.clone(), |first, count, references| {
                if references > 0 {
                    paint(first..first + count, Role::Lost);
                }
            });
        }
    }

    /// The clusters of an unused range that a block counts; `first` is the block's first cluster.
    fn paint_block(
        &self,
        block: &[u8],
        first: HostCluster,
        range: Range<HostCluster>,
        paint: &mut impl FnMut(Range<HostCluster>, Role),
    ) {
        let order = self.geometry.refcount_order();
        let entries = place(range.start - first)..place(range.end - first);
        for (entry, _) in counted(block, order, entries) {
            let at = first + ClusterCount::new(entry as u64);
            paint(at..at.next(), Role::Leaked);
        }
    }

    /// Reports painted clusters in runs.
    fn emit<E>(
        &self,
        start: HostCluster,
        roles: &[(Role, bool)],
        holes: &mut Holes<'_>,
        take: &mut impl FnMut(FileRun) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = start;
        for alike in roles.chunk_by(|a, b| a == b) {
            let (role, damaged) = alike[0];
            let end = at + ClusterCount::new(alike.len() as u64);
            while at < end {
                let (hole, until) = holes.run_at(at, end);
                take(FileRun { first: at, count: until - at, role, damaged, hole })?;
                at = until;
            }
        }
        Ok(())
    }
}

/// A position inside a piece or a block.
fn place(count: ClusterCount) -> usize {
    usize::try_from(count.get()).unwrap_or(usize::MAX)
}

/// The refcount block that was read last.
#[derive(Default)]
struct LastBlock {
    index: Option<ReftableIndex>,
    bytes: Option<Vec<u8>>,
}

impl LastBlock {
    /// A block's bytes where they differ from the references: all others have nothing to add.
    fn load(
        &mut self,
        source: &dyn ReadAt,
        survey: &Survey,
        index: ReftableIndex,
    ) -> Option<&[u8]> {
        if self.index != Some(index) {
            self.index = Some(index);
            self.bytes = read(source, survey, index);
        }
        self.bytes.as_deref()
    }
}

fn read(source: &dyn ReadAt, survey: &Survey, index: ReftableIndex) -> Option<Vec<u8>> {
    survey.differing.binary_search(&index).ok()?;
    let geometry = &survey.area.geometry;
    let block = survey.refcounts.block(index)?;
    let readable = geometry.is_aligned(block.offset) && block.offset.get() > 0;
    let mut bytes = vec![0; geometry.cluster_len()];
    let read = readable.then(|| source.read_padded_at(block.offset.get(), &mut bytes))?;
    read.is_ok().then_some(bytes)
}
