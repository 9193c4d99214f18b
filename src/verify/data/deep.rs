//! The deep verification: everything that a check takes for granted is read.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use super::bitmaps;
use super::blame::{Blame, Failed};
use super::clusters::Clusters;
use super::compressed::{self, Compressed, First};
use super::files::{self, DataFile};
use super::tables::{Data, Tables};
use crate::check::parallel::take_one;
use crate::check::survey::refcount_map::RefcountMap;
use crate::check::{CheckOptions, Finding, Survey, parallel};
use crate::codec::Method;
use crate::format::feature::autoclear;
use crate::format::{ClusterCount, HostCluster};
use crate::progress::Progress;
use crate::storage::ReadAt;
use crate::verify::Files;

/// Adds to what a check has found: all guest data of all disks read once and decompressed, the data
/// of bitmaps, and the files that the image names.
pub fn deep(
    source: &dyn ReadAt,
    survey: &mut Survey,
    files: &Files<'_>,
    options: &CheckOptions,
    progress: &dyn Progress,
) {
    let mut found: Vec<Finding> = Vec::new();
    let data_file = files::data_file(&survey.area, files, &mut found);
    files::backing(&survey.area, files, &mut found);
    bitmaps::run(source, survey, progress, &mut found);
    found.into_iter().for_each(|finding| survey.report.add(finding, options.keep));
    let threads = parallel::threads(options.threads);
    let tables = Tables::of(source, survey, threads);
    let work = Work { source, tables, options, threads, progress };
    match data_file {
        DataFile::None => {
            let bytes = survey.file_bytes;
            work.run(survey, &Place { source, bytes, tell_end: false });
        }
        DataFile::Open { file, bytes } => {
            // A raw one that is too short is reported as a whole.
            let raw = survey.area.header.autoclear & autoclear::DATA_FILE_RAW != 0;
            let file: Arc<dyn ReadAt> = file;
            work.run(survey, &Place { source: file.as_ref(), bytes, tell_end: !raw });
        }
        DataFile::Closed => {}
    }
}

/// What holds the guest data.
struct Place<'a> {
    source: &'a dyn ReadAt,
    bytes: u64,
    /// Whether data past the end is reported.
    tell_end: bool,
}

struct Work<'a> {
    source: &'a dyn ReadAt,
    tables: Tables<'a>,
    options: &'a CheckOptions,
    threads: usize,
    progress: &'a dyn Progress,
}

/// What the tables point to.
struct Gathered {
    clusters: RefcountMap,
    extents: Mutex<First>,
    /// Clusters past the end of the external data file, up to a limit.
    beyond: Vec<HostCluster>,
}

impl Work<'_> {
    fn run(&self, survey: &mut Survey, place: &Place<'_>) {
        let mut blame = Blame::new(self.options.keep);
        let gathered = self.gather(place);
        for cluster in gathered.beyond {
            blame.clusters(cluster, ClusterCount::new(1), Failed::BeyondEnd);
        }
        let clusters = Clusters {
            source: place.source,
            bytes: place.bytes,
            geometry: *self.tables.geometry(),
            threads: self.threads,
            progress: self.progress,
        };
        clusters.run(&gathered.clusters, &mut blame);
        let method = match survey.area.header.compression_type {
            0 => Some(Method::Zlib),
            1 => Some(Method::Zstd),
            _ => None,
        };
        if let Some(method) = method {
            let (source, threads, progress) = (self.source, self.threads, self.progress);
            let compressed = Compressed { source, method, threads, progress };
            let extents = gathered.extents.into_inner().unwrap_or_else(PoisonError::into_inner);
            compressed.run(&self.tables, extents, &mut blame);
        }
        blame.tell(&self.tables, &mut survey.report);
    }

    fn gather(&self, place: &Place<'_>) -> Gathered {
        let mut gathered = Gathered {
            clusters: RefcountMap::default(),
            extents: Mutex::default(),
            beyond: Vec::new(),
        };
        let room = AtomicUsize::new(self.options.keep);
        let beyond = self.tables.map(|table| self.gather_table(place, table, &gathered, &room));
        gathered.beyond = beyond.into_iter().flatten().collect();
        gathered
    }

    /// Takes in one table; returns the clusters past the end of the external data file.
    fn gather_table(
        &self,
        place: &Place<'_>,
        table: &[u8],
        into: &Gathered,
        room: &AtomicUsize,
    ) -> Vec<HostCluster> {
        compressed::collect(&self.tables, table, &into.extents);
        let mut beyond = Vec::new();
        let mut run = (HostCluster::new(0), ClusterCount::new(0));
        for (_, data) in self.tables.data(table) {
            let Data::Plain(at) = data else { continue };
            let cluster = self.tables.geometry().cluster_floor(at);
            if at.get() >= place.bytes.next_multiple_of(512) {
                if place.tell_end && take_one(room) {
                    beyond.push(cluster);
                }
                continue;
            }
            if run.0 + run.1 == cluster {
                run.1 += ClusterCount::new(1);
            } else {
                into.clusters.add(run.0, run.1, 1);
                run = (cluster, ClusterCount::new(1));
            }
        }
        into.clusters.add(run.0, run.1, 1);
        beyond
    }
}
