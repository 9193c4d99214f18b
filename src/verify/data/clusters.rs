//! Clusters of guest data as they are: each is read once, in the order of the file, holes are not.

use std::io;
use std::ops::Range;

use super::blame::{Blame, Failed};
use crate::check::parallel;
use crate::check::survey::refcount_map::RefcountMap;
use crate::format::geometry::Geometry;
use crate::format::{ClusterCount, HostCluster};
use crate::progress::Progress;
use crate::storage::ReadAt;

/// What a thread takes at once, in bytes.
const WINDOW_BYTES: u64 = 16 << 20;
/// What is read at once, in bytes.
const READ_BYTES: u64 = 1 << 20;

/// How clusters are read.
pub(super) struct Clusters<'a> {
    /// What holds them: the image, or the external data file.
    pub(super) source: &'a dyn ReadAt,
    /// Its length; bytes past it read as zeroes.
    pub(super) bytes: u64,
    /// The image's sizes.
    pub(super) geometry: Geometry,
    /// How many threads read.
    pub(super) threads: usize,
    /// Receives the progress.
    pub(super) progress: &'a dyn Progress,
}

/// Clusters and what is wrong with them.
type Wrong = (HostCluster, ClusterCount, Failed);

impl Clusters<'_> {
    /// Reads all clusters that are counted.
    pub(super) fn run(&self, map: &RefcountMap, blame: &mut Blame) {
        let windows = self.windows(map);
        let mut total = 0;
        for window in &windows {
            total += runs(map, window).map(|(_, count)| self.geometry.bytes_of(count)).sum::<u64>();
        }
        if total > 0 {
            self.progress.stage("guest data", total);
        }
        let wrong =
            parallel::map(self.threads, windows.len(), Reader::default, |reader, number| {
                let mut wrong = Vec::new();
                for (first, count) in runs(map, &windows[number]) {
                    let start = self.geometry.offset_of(first).get();
                    let end = self.geometry.offset_of(first + count).get().min(self.bytes);
                    reader.read(self, start..end, &mut wrong);
                    self.progress.advance(self.geometry.bytes_of(count));
                }
                wrong
            });
        for (first, count, failed) in wrong.into_iter().flatten() {
            blame.clusters(first, count, failed);
        }
    }

    fn windows(&self, map: &RefcountMap) -> Vec<Range<HostCluster>> {
        let most = ClusterCount::new((WINDOW_BYTES / self.geometry.cluster_bytes()).max(1));
        let mut windows = Vec::new();
        for range in map.ranges() {
            let mut start = range.start;
            while start < range.end {
                let end = (start + most).min(range.end);
                windows.push(start..end);
                start = end;
            }
        }
        windows
    }
}

/// The clusters of a window that are counted, in runs. They are gathered first: while they are,
/// others wait.
fn runs(
    map: &RefcountMap,
    window: &Range<HostCluster>,
) -> impl Iterator<Item = (HostCluster, ClusterCount)> + use<> {
    let mut runs: Vec<(HostCluster, ClusterCount)> = Vec::new();
    map.for_each_run(window.clone(), |first, count, uses| match runs.last_mut() {
        _ if uses == 0 => {}
        Some((start, length)) if *start + *length == first => *length += count,
        _ => runs.push((first, count)),
    });
    runs.into_iter()
}

/// What a thread keeps from run to run.
#[derive(Debug, Default)]
struct Reader {
    buffer: Vec<u8>,
    /// A range in which there is no hole.
    data: Range<u64>,
    /// A range that is a hole.
    hole: Range<u64>,
}

impl Reader {
    fn read(&mut self, clusters: &Clusters<'_>, range: Range<u64>, wrong: &mut Vec<Wrong>) {
        let mut at = range.start;
        while at < range.end {
            at = self.skip_hole(clusters.source, at);
            if at >= range.end {
                return;
            }
            let end = range.end.min(self.data.end).min(at.saturating_add(READ_BYTES));
            if self.read_part(clusters.source, at..end).is_err() {
                self.narrow(clusters, at..end, wrong);
            }
            at = end;
        }
    }

    /// The first byte from `at` on that is not in a hole.
    fn skip_hole(&mut self, source: &dyn ReadAt, at: u64) -> u64 {
        if self.data.contains(&at) {
            return at;
        }
        if !self.hole.contains(&at) {
            match source.next_data(at) {
                Ok(Some(data)) => {
                    self.hole = at..data.start;
                    self.data = data.start.max(at)..data.end;
                }
                Ok(None) => self.hole = at..u64::MAX,
                Err(_) => self.data = at..u64::MAX,
            }
        }
        if self.hole.contains(&at) { self.hole.end } else { at }
    }

    fn read_part(&mut self, source: &dyn ReadAt, range: Range<u64>) -> io::Result<()> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        self.buffer.resize(length, 0);
        source.read_padded_at(range.start, &mut self.buffer)
    }

    /// Finds out which clusters of a range cannot be read.
    fn narrow(&mut self, clusters: &Clusters<'_>, range: Range<u64>, wrong: &mut Vec<Wrong>) {
        let bytes = clusters.geometry.cluster_bytes();
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / bytes + 1) * bytes);
            if let Err(error) = self.read_part(clusters.source, at..end) {
                let cluster = HostCluster::new(at / bytes);
                wrong.push((cluster, ClusterCount::new(1), Failed::Unreadable(error.to_string())));
            }
            at = end;
        }
    }
}
