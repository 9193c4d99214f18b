//! Whose data it is that could not be read: the tables are read once more, only where something
//! failed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;

use super::packed::Packed;
use super::tables::{Data, Tables};
use crate::check::parallel::take_one;
use crate::check::{CheckReport, Finding, Kind, Place};
use crate::codec::Fault;
use crate::format::{ClusterCount, HostCluster, HostOffset, L2Index};

/// What is wrong with guest data.
#[derive(Debug, Clone)]
pub(super) enum Failed {
    /// The system could not read it, with this error.
    Unreadable(String),
    /// It cannot be decompressed.
    Fault(Fault),
    /// It is past the end of the external data file.
    BeyondEnd,
}

/// Guest data that something is wrong with.
#[derive(Debug)]
pub(super) struct Blame {
    /// How many findings are kept one by one.
    keep: usize,
    packed: HashMap<Packed, Failed>,
    /// Runs of clusters by their first.
    clusters: BTreeMap<HostCluster, (ClusterCount, Failed)>,
    /// Those that are counted only.
    more: u64,
}

impl Blame {
    /// Nothing is wrong yet.
    pub(super) fn new(keep: usize) -> Self {
        Self { keep, packed: HashMap::new(), clusters: BTreeMap::new(), more: 0 }
    }

    /// Something is wrong with an extent.
    pub(super) fn packed(&mut self, packed: Packed, failed: Failed) {
        if self.packed.len() < self.keep {
            self.packed.insert(packed, failed);
        } else {
            self.more += 1;
        }
    }

    /// Something is wrong with clusters.
    pub(super) fn clusters(&mut self, first: HostCluster, count: ClusterCount, failed: Failed) {
        if self.clusters.len() < self.keep {
            self.clusters.insert(first, (count, failed));
        } else {
            self.more += count.get();
        }
    }

    /// Reports each guest cluster that refers to it, as far as findings are kept.
    pub(super) fn tell(self, tables: &Tables<'_>, report: &mut CheckReport) {
        report.add_unlisted(self.more);
        if self.packed.is_empty() && self.clusters.is_empty() {
            return;
        }
        let room = AtomicUsize::new(self.keep.saturating_sub(report.findings.len()));
        let told = tables.map(|table| self.in_table(tables, table, &room));
        let mut findings = Vec::new();
        for (number, (entries, more)) in told.into_iter().enumerate() {
            let visits = tables.visits(number);
            report.add_unlisted(more.saturating_mul(visits.len() as u64));
            for (l2, kind) in entries {
                let room = self.keep.saturating_sub(findings.len());
                for visit in visits.iter().take(room) {
                    let place = Place::L2(visit.source, visit.index, l2);
                    findings.push(Finding::new(kind.clone(), place));
                }
                report.add_unlisted((visits.len() as u64).saturating_sub(room as u64));
            }
        }
        findings.sort_by_key(|finding| finding.place);
        findings.into_iter().for_each(|finding| report.add(finding, self.keep));
    }

    /// The entries of a table that lead there, and how many more there are than can be kept.
    fn in_table(
        &self,
        tables: &Tables<'_>,
        table: &[u8],
        room: &AtomicUsize,
    ) -> (Vec<(L2Index, Kind)>, u64) {
        let (mut found, mut more) = (Vec::new(), 0);
        for (index, data) in tables.data(table) {
            let Some(kind) = self.kind(tables, data) else { continue };
            if take_one(room) {
                found.push((index, kind));
            } else {
                more += 1;
            }
        }
        (found, more)
    }

    fn kind(&self, tables: &Tables<'_>, data: Data) -> Option<Kind> {
        let geometry = tables.geometry();
        let (offset, failed) = match data {
            Data::Packed(extent) => {
                (extent.offset, self.packed.get(&Packed::of(extent, geometry))?)
            }
            Data::Plain(at) => {
                let cluster = geometry.cluster_floor(at);
                let (&first, (count, failed)) = self.clusters.range(..=cluster).next_back()?;
                if cluster >= first + *count {
                    return None;
                }
                (at, failed)
            }
        };
        Some(kind_of(failed, offset, tables.is_external(), geometry.cluster_bytes()))
    }
}

fn kind_of(failed: &Failed, offset: HostOffset, external: bool, cluster_bytes: u64) -> Kind {
    match failed {
        Failed::Unreadable(error) => {
            Kind::DataUnreadable { offset, external, error: error.clone() }
        }
        Failed::BeyondEnd => Kind::DataBeyondEnd(offset),
        Failed::Fault(fault) => {
            let problem = match fault {
                Fault::Broken(bytes) => format!("is damaged after {bytes} bytes of its cluster"),
                Fault::Short(bytes) => {
                    format!("ends after {bytes} bytes of its cluster of {cluster_bytes}")
                }
            };
            Kind::CompressedData { offset, problem }
        }
    }
}
