//! Which references and which refcount suspected clusters have at one moment.

use std::collections::HashMap;

use super::referrers::{Referrer, Referrers, fixed_references};
use super::stored;
use crate::check::Survey;
use crate::format::HostCluster;
use crate::format::header::Header;
use crate::storage::ReadAt;

/// How often each cluster is looked at.
const LOOKS: u32 = 3;

/// What was true of a cluster at each of several moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proof {
    /// The references to it that the second check found and that are still there.
    pub references: u64,
    /// How many of these are entries of which no two refer to the same cluster.
    pub exclusive: u64,
    /// Whether all references that the second check found are still there.
    pub is_complete: bool,
    /// Its refcount; `None` where it has none, or where that changed.
    pub refcount: Option<u64>,
}

/// What was true of each suspected cluster.
pub struct Proofs<'a> {
    source: &'a dyn ReadAt,
    survey: &'a Survey,
    referrers: &'a Referrers,
    known: std::cell::RefCell<HashMap<HostCluster, Proof>>,
}

impl<'a> Proofs<'a> {
    /// Of the clusters whose referrers the second check noted.
    pub fn new(source: &'a dyn ReadAt, survey: &'a Survey, referrers: &'a Referrers) -> Self {
        Self { source, survey, referrers, known: std::cell::RefCell::default() }
    }

    /// What is true of a cluster now: its referrers are read, then its refcount, then the referrers
    /// again. What is the same before and after was the same in between.
    pub fn of(&self, cluster: HostCluster) -> Proof {
        if let Some(&proof) = self.known.borrow().get(&cluster) {
            return proof;
        }
        let looks = (0..LOOKS).map(|_| self.look(cluster));
        let proof = looks.reduce(weakest).unwrap_or_default();
        self.known.borrow_mut().insert(cluster, proof);
        proof
    }

    fn look(&self, cluster: HostCluster) -> Proof {
        let found = self.referrers.of(cluster);
        let Some(header) = stored::header(self.source) else { return Proof::default() };
        let before: Vec<bool> = found.iter().map(|r| self.is_there(r)).collect();
        let geometry = &self.survey.area.geometry;
        let refcount = stored::refcount(self.source, &header, geometry, cluster);
        let stays = |(referrer, &was): (&'a Referrer, &bool)| {
            (was && self.is_there(referrer)).then_some(referrer)
        };
        let there: Vec<&Referrer> = found.iter().zip(&before).filter_map(stays).collect();
        let has_same_roots =
            stored::header(self.source).is_some_and(|now| self.has_same_roots(&now));
        let fixed = fixed_references(self.survey, cluster);
        let fixed = if has_same_roots { fixed } else { 0 };
        let references: u64 = there.iter().map(|r| r.times).sum::<u64>() + fixed;
        let exclusive = there.iter().filter(|r| r.is_exclusive).count() as u64;
        let is_complete = references >= self.survey.map.get(cluster);
        Proof { references, exclusive, is_complete, refcount }
    }

    fn is_there(&self, referrer: &Referrer) -> bool {
        let mut bytes = [0; 8];
        let read = self.source.read_padded_at(referrer.at, &mut bytes);
        read.is_ok() && u64::from_be_bytes(bytes) == referrer.bits
    }

    /// Whether the header points to the same tables as when the second check read it.
    fn has_same_roots(&self, now: &Header) -> bool {
        let was = &self.survey.area.header;
        (now.l1_table, now.l1_entries) == (was.l1_table, was.l1_entries)
            && (now.reftable, now.reftable_clusters) == (was.reftable, was.reftable_clusters)
            && (now.snapshot_table, now.snapshot_count) == (was.snapshot_table, was.snapshot_count)
    }
}

/// What two looks have in common.
fn weakest(one: Proof, other: Proof) -> Proof {
    Proof {
        references: one.references.min(other.references),
        exclusive: one.exclusive.min(other.exclusive),
        is_complete: one.is_complete && other.is_complete,
        refcount: one.refcount.filter(|_| one.refcount == other.refcount),
    }
}
