//! Which references and which refcount suspected clusters have at one moment.

use std::collections::HashMap;

use super::referrers::{Referrer, Referrers, Root, fixed_references};
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
    /// Whether its refcount was lower than these references.
    pub is_too_low: bool,
    /// Whether its refcount was 0.
    pub is_free: bool,
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
        // Tables that nothing points to any more keep their content for a while.
        let Some(now) = stored::header(self.source) else { return Proof::default() };
        let there = there.into_iter().filter(|referrer| self.is_reached(referrer.root, &now));
        let there: Vec<&Referrer> = there.collect();
        let has_all_roots = [Root::Active, Root::Snapshots, Root::Reftable]
            .iter()
            .all(|&r| self.is_reached(r, &now));
        let fixed = if has_all_roots { fixed_references(self.survey, cluster) } else { 0 };
        let references = there.len() as u64 + fixed;
        Proof {
            references,
            exclusive: there.iter().filter(|r| r.is_exclusive).count() as u64,
            is_complete: references >= self.survey.map.get(cluster),
            is_too_low: refcount.is_some_and(|stored| stored < references),
            is_free: refcount == Some(0),
        }
    }

    fn is_there(&self, referrer: &Referrer) -> bool {
        referrer.path.iter().all(|&(at, bits)| {
            let mut bytes = [0; 8];
            let read = self.source.read_padded_at(at, &mut bytes);
            read.is_ok() && u64::from_be_bytes(bytes) == bits
        })
    }

    /// Whether the header points to the same table as when the second check read it.
    fn is_reached(&self, root: Root, now: &Header) -> bool {
        let was = &self.survey.area.header;
        match root {
            Root::Active => (now.l1_table, now.l1_entries) == (was.l1_table, was.l1_entries),
            Root::Snapshots => {
                let (table, count) = (was.snapshot_table, was.snapshot_count);
                (now.snapshot_table, now.snapshot_count) == (table, count)
            }
            Root::Reftable => {
                let (table, clusters) = (was.reftable, was.reftable_clusters);
                (now.reftable, now.reftable_clusters) == (table, clusters)
            }
        }
    }
}

/// What two looks have in common.
fn weakest(one: Proof, other: Proof) -> Proof {
    Proof {
        references: one.references.min(other.references),
        exclusive: one.exclusive.min(other.exclusive),
        is_complete: one.is_complete && other.is_complete,
        is_too_low: one.is_too_low && other.is_too_low,
        is_free: one.is_free && other.is_free,
    }
}
