//! The entries and fields that findings are about, read again and again.

use std::collections::HashSet;

use super::matching::{Key, is_only_counted, is_suspect};
use super::stored;
use crate::check::affected::spots::Spots;
use crate::check::{CheckReport, Finding, Place, Survey};
use crate::format::{ClusterCount, Geometry, HostCluster};
use crate::storage::ReadAt;

/// Bytes of a structure that are compared; the rest of a longer one is not looked at.
const MAX_BYTES: u64 = 64 << 10;
/// Clusters of a run whose refcounts are compared, and in all.
const MAX_COUNTS: u64 = 64;
const MAX_COUNTED: usize = 1 << 14;

/// What a finding is about.
struct Item {
    /// `None` of one about clusters.
    key: Option<Key>,
    words: Vec<Word>,
    /// Clusters with the refcounts that they had.
    counts: Vec<(HostCluster, Option<u64>)>,
    /// Whether a change shows that there is nothing. The refcount of a cluster that is in use twice
    /// may change and be too low all the same.
    is_refutable: bool,
    is_unchanged: bool,
}

/// Bytes of the file as they were.
struct Word {
    at: u64,
    bytes: Vec<u8>,
}

/// What the findings of the first check are about.
pub struct Evidence<'a> {
    source: &'a dyn ReadAt,
    geometry: Geometry,
    items: Vec<Item>,
    /// Findings of the first check that have changed since then.
    changed: HashSet<Key>,
    /// Places of the active disk: the L1 table that they are in.
    l1_table: (u64, u32),
}

impl<'a> Evidence<'a> {
    /// Reads all of it for the first time.
    pub fn gather(source: &'a dyn ReadAt, survey: &Survey) -> Self {
        let spots = Spots::new(source, survey);
        let header = &survey.area.header;
        let geometry = survey.area.geometry;
        let now = stored::header(source);
        let mut budget = MAX_COUNTED;
        let report = &survey.report;
        let suspects = report.findings.iter().filter(|finding| is_suspect(finding));
        let items = suspects.map(|finding| {
            let places = [path(finding.place), Some(finding.place)];
            let entries = places.into_iter().flatten().filter_map(|place| spots.entry(place));
            let words = entries.map(|range| Word::read(source, range)).collect();
            let clusters = counted(report, finding, &mut budget);
            let count = |cluster| {
                let header = now.as_ref()?;
                stored::refcount(source, header, &geometry, cluster)
            };
            let is_about_clusters = matches!(finding.place, Place::Clusters(..));
            Item {
                key: (!is_about_clusters).then(|| Key::of(report, finding)),
                words,
                is_refutable: !is_about_clusters
                    || is_only_counted(&finding.kind) && !clusters.is_empty(),
                counts: clusters.into_iter().map(|cluster| (cluster, count(cluster))).collect(),
                is_unchanged: true,
            }
        });
        Self {
            source,
            geometry,
            items: items.collect(),
            changed: HashSet::new(),
            l1_table: (header.l1_table.get(), header.l1_entries),
        }
    }

    /// Reads it again.
    pub fn look_again(&mut self) {
        let (source, geometry) = (self.source, self.geometry);
        let header = stored::header(source);
        let l1_table = header.as_ref().map(|h| (h.l1_table.get(), h.l1_entries));
        let is_same_table = l1_table == Some(self.l1_table);
        let count = |cluster| {
            let header = header.as_ref()?;
            stored::refcount(source, header, &geometry, cluster)
        };
        for item in self.items.iter_mut().filter(|item| item.is_unchanged) {
            let is_same = item.words.iter().all(|word| word.is_unchanged(source))
                && item.counts.iter().all(|&(cluster, was)| count(cluster) == was);
            if !is_same || !is_same_table {
                item.is_unchanged = false;
                self.changed.extend(item.key.clone());
            }
        }
    }

    /// Whether all that was found was changed since then in a way that leaves nothing of it.
    pub fn is_refuted(&self) -> bool {
        self.items.iter().all(|item| item.is_refutable && !item.is_unchanged)
    }

    /// Whether what a finding is about never changed.
    pub fn is_unchanged(&self, key: &Key) -> bool {
        !self.changed.contains(key)
    }
}

impl Word {
    fn read(source: &dyn ReadAt, range: std::ops::Range<u64>) -> Self {
        let length = (range.end - range.start).min(MAX_BYTES);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        if source.read_padded_at(range.start, &mut bytes).is_err() {
            bytes.clear();
        }
        Self { at: range.start, bytes }
    }

    fn is_unchanged(&self, source: &dyn ReadAt) -> bool {
        let end = self.at.saturating_add(self.bytes.len() as u64);
        Self::read(source, self.at..end).bytes == self.bytes
    }
}

/// The entry through which an entry of an L2 table is reached.
const fn path(place: Place) -> Option<Place> {
    match place {
        Place::L2(source, l1, _) => Some(Place::L1(source, l1)),
        _ => None,
    }
}

/// The clusters of a finding whose refcounts are compared.
fn counted(report: &CheckReport, finding: &Finding, budget: &mut usize) -> Vec<HostCluster> {
    let Some((first, count)) = report.clusters(finding) else { return Vec::new() };
    let count = count.get();
    let Ok(clusters) = usize::try_from(count) else { return Vec::new() };
    if count > MAX_COUNTS || clusters > *budget {
        return Vec::new();
    }
    *budget -= clusters;
    (0..count).map(|n| HostCluster::new(first) + ClusterCount::new(n)).collect()
}
