//! Whose clusters a finding is about: a second, targeted walk, for suspicious clusters only.

pub(crate) mod references;
pub(crate) mod spots;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use crate::check::Survey;
use crate::check::report::{Finding, GuestRange, Kind, Place, RegionKind, Severity, Source};
use crate::check::survey::regions::Region;
use crate::format::{ClusterCount, HostCluster, HostOffset, L1Index, L2Index};
use crate::storage::ReadAt;

/// Clusters of one finding whose referrers are searched for.
const MAX_CLUSTERS: u64 = 4096;
/// Clusters in all whose referrers are searched for, each once for every finding about it.
const MAX_WANTED: usize = 1 << 17;
/// Referrers that are named for one finding.
const MAX_OWNERS: usize = 256;
/// Referrers that are named in all: a cluster can have any number of findings and of referrers.
const MAX_NAMED: usize = 1 << 18;

/// Who uses a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The metadata that it is; none where it is guest data.
    pub metadata: Option<RegionKind>,
    /// What the guest reads through it, where it reads anything.
    pub guest: Option<GuestRange>,
}

/// What findings mean for guests.
#[derive(Debug, Default)]
pub struct Affected {
    /// Referrers of a finding's clusters, by the finding's position in the report; only of findings
    /// that are about clusters.
    owners: BTreeMap<usize, Vec<Owner>>,
    /// The bytes of the file that each finding is about, in the order of the report.
    spots: Vec<Option<Range<u64>>>,
    /// Bytes of all disks in the ranges that something is wrong with, each counted once.
    pub bytes_at_risk: u64,
}

impl Affected {
    /// Searches for the referrers of all suspicious clusters.
    pub fn find(source: &dyn ReadAt, survey: &Survey) -> Self {
        let findings = &survey.report.findings;
        let spots = spots::find(source, survey);
        if !findings.iter().any(is_suspicious) {
            return Self { spots, ..Self::default() };
        }
        let mut affected = Self { spots, ..Self::default() };
        let mut room = MAX_NAMED;
        affected.metadata(survey, findings, &mut room);
        affected.data(source, survey, wanted(findings), &mut room);
        for owners in affected.owners.values_mut() {
            owners.sort_unstable();
            owners.dedup();
        }
        affected.bytes_at_risk = affected.at_risk(survey);
        affected
    }

    /// The referrers of the clusters that a finding is about.
    pub fn owners(&self, number: usize) -> &[Owner] {
        self.owners.get(&number).map_or(&[], Vec::as_slice)
    }

    /// The bytes of the file that a finding is about: the field, entry or clusters that are wrong.
    /// None where they are not known or not in the file.
    pub fn bytes(&self, number: usize) -> Option<Range<u64>> {
        self.spots.get(number)?.clone()
    }

    /// Names a referrer of a finding's clusters; returns whether more may be named.
    fn add(&mut self, number: usize, owner: Owner, room: &mut usize) -> bool {
        let owners = self.owners.entry(number).or_default();
        if owners.len() < MAX_OWNERS && *room > 0 {
            owners.push(owner);
            *room -= 1;
        }
        owners.len() < MAX_OWNERS && *room > 0
    }

    fn metadata(&mut self, survey: &Survey, findings: &[Finding], room: &mut usize) {
        let suspicious = findings.iter().enumerate().filter(|(_, f)| is_suspicious(f));
        let touched = |(number, finding): (usize, &Finding)| {
            let Place::Clusters(first, count) = finding.place else { return Vec::new() };
            let regions = survey.regions.touching(first..first + count).take(MAX_OWNERS);
            regions.map(|region| (number, region)).collect()
        };
        let touched: Vec<(usize, Region)> = suspicious.flat_map(touched).take(MAX_WANTED).collect();
        let tables = touched.iter().map(|(_, r)| survey.area.geometry.offset_of(r.first)).collect();
        let visits = visits(survey, &tables);
        for (number, region) in touched {
            let metadata = Some(region.kind);
            let table = survey.area.geometry.offset_of(region.first);
            match (region.kind, visits.get(&table)) {
                (RegionKind::L2Table, Some(visits)) => {
                    for &(source, index) in visits {
                        let guest = Some(below_l1(survey, source, index));
                        self.add(number, Owner { metadata, guest }, room);
                    }
                }
                (RegionKind::L1Table(source), _) => {
                    let guest = Some(whole_disk(survey, source));
                    self.add(number, Owner { metadata, guest }, room);
                }
                _ => {
                    self.add(number, Owner { metadata, guest: None }, room);
                }
            }
        }
    }

    fn data(
        &mut self,
        source: &dyn ReadAt,
        survey: &Survey,
        mut wanted: HashMap<HostCluster, Vec<usize>>,
        room: &mut usize,
    ) {
        let clusters: HashSet<HostCluster> = wanted.keys().copied().collect();
        let owners = references::find_first(source, survey, &clusters, MAX_WANTED);
        let visits = visits(survey, &owners.iter().map(|owner| owner.table).collect());
        for owner in owners {
            let places = visits.get(&owner.table).map_or(&[][..], Vec::as_slice);
            for n in 0..owner.count.get() {
                let Some(findings) = wanted.get_mut(&(owner.first + ClusterCount::new(n))) else {
                    continue;
                };
                findings.retain(|&number| {
                    places.iter().take(MAX_OWNERS).all(|&(disk, l1)| {
                        let guest = Some(below_l2(survey, disk, l1, owner.index));
                        self.add(number, Owner { metadata: None, guest }, room)
                    })
                });
            }
        }
    }

    /// The guest bytes of every range that an error is about.
    fn at_risk(&self, survey: &Survey) -> u64 {
        let mut ranges: BTreeMap<Source, Vec<(u64, u64)>> = BTreeMap::new();
        for (number, finding) in survey.report.findings.iter().enumerate() {
            if finding.severity() != Severity::Corruption {
                continue;
            }
            let own = survey.report.guest_range(finding);
            let owned = self.owners(number).iter().filter_map(|owner| owner.guest);
            for range in own.into_iter().chain(owned) {
                let start = range.offset.get();
                let end = start.saturating_add(range.bytes);
                ranges.entry(range.source).or_default().push((start, end));
            }
        }
        // Each disk may be as long as a number can be.
        ranges.into_values().map(length).fold(0, u64::saturating_add)
    }
}

/// The clusters that suspicious findings are about, with those findings.
fn wanted(findings: &[Finding]) -> HashMap<HostCluster, Vec<usize>> {
    let suspicious = findings.iter().enumerate().filter(|(_, f)| is_suspicious(f));
    let clusters = suspicious.flat_map(|(number, finding)| {
        let (first, count) = match finding.place {
            Place::Clusters(first, count) => (first, count.get().min(MAX_CLUSTERS)),
            _ => (HostCluster::new(0), 0),
        };
        (0..count).map(move |n| (first + ClusterCount::new(n), number))
    });
    let mut wanted: HashMap<HostCluster, Vec<usize>> = HashMap::new();
    for (cluster, number) in clusters.take(MAX_WANTED) {
        wanted.entry(cluster).or_default().push(number);
    }
    wanted
}

/// Whether a finding is about clusters that somebody may use.
fn is_suspicious(finding: &Finding) -> bool {
    finding.severity() != Severity::Leak
        && !matches!(finding.kind, Kind::OrphanTable(_) | Kind::InFlux(_))
}

/// Bytes that ranges cover together.
fn length(mut ranges: Vec<(u64, u64)>) -> u64 {
    ranges.sort_unstable();
    let (mut sum, mut reached) = (0, 0);
    for (start, end) in ranges {
        sum += end.saturating_sub(start.max(reached));
        reached = reached.max(end);
    }
    sum
}

/// The first L1 entries that point to these tables.
fn visits(
    survey: &Survey,
    tables: &HashSet<HostOffset>,
) -> HashMap<HostOffset, Vec<(Source, L1Index)>> {
    let mut visits: HashMap<HostOffset, Vec<(Source, L1Index)>> = HashMap::new();
    for visit in survey.visits.iter().filter(|_| !tables.is_empty()) {
        let table = visit.entry.offset();
        if tables.contains(&table) {
            let places = visits.entry(table).or_default();
            if places.len() < MAX_OWNERS {
                places.push((visit.source, visit.index));
            }
        }
    }
    visits
}

fn below_l1(survey: &Survey, source: Source, index: L1Index) -> GuestRange {
    let geometry = &survey.area.geometry;
    let offset = geometry.guest_offset(index, L2Index::new(0));
    GuestRange { offset, bytes: geometry.bytes_per_l2_table(), source }
}

fn below_l2(survey: &Survey, source: Source, l1: L1Index, l2: L2Index) -> GuestRange {
    let geometry = &survey.area.geometry;
    GuestRange { offset: geometry.guest_offset(l1, l2), bytes: geometry.cluster_bytes(), source }
}

fn whole_disk(survey: &Survey, source: Source) -> GuestRange {
    let size = survey.area.header.size;
    let of = |index: u32| survey.snapshots.entries.get(index as usize)?.disk_bytes();
    let bytes = match source {
        Source::Active => size,
        Source::Snapshot(index) => of(index).unwrap_or(size),
    };
    GuestRange { offset: crate::format::GuestOffset::new(0), bytes, source }
}
