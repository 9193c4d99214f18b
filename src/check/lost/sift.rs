//! Leaked clusters that are formed like L2 tables: which of them are something else, and which
//! contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use super::shape::{Evidence, Shape};
use crate::check::survey::beyond::Beyond;
use crate::check::survey::context::Context;
use crate::check::survey::extent::Extent;
use crate::check::survey::refcount_map::RefcountMap;
use crate::check::survey::stored::StoredCounts;
use crate::format::{ClusterCount, HostCluster, HostOffset, L1Index};

/// Bytes that are enough to distinguish most clusters from tables.
pub const HEAD_BYTES: usize = 4096;

/// A cluster that is formed like a table, and where other L1 tables have it.
pub struct Lost {
    /// Its host offset.
    pub table: HostOffset,
    /// What it holds.
    pub shape: Shape,
    /// The L1 index where other L1 tables have it.
    pub index: Option<L1Index>,
    /// Why it is regarded as a table.
    pub evidence: Evidence,
    /// Whether it and others refer to a cluster more often than its refcount allows, so that one of
    /// them is not a table; or whether it does so alone.
    pub contradicted: bool,
}

impl Lost {
    /// Adds the references that it would have and make.
    fn claim(&self, ctx: &Context, claims: &RefcountMap) {
        if self.evidence != Evidence::Counted {
            claims.add(ctx.geometry.cluster_floor(self.table), ClusterCount::new(1), 1);
            let clusters = self.shape.clusters.iter();
            clusters.for_each(|&(first, count)| claims.add(first, count, 1));
        }
    }

    /// The same, but with others no more than the refcounts allow: were a refcount raised to what
    /// contradicts itself, it would be evidence of none of them any more.
    pub fn claim_what_is_counted(
        &self,
        ctx: &Context,
        counts: &StoredCounts,
        claims: &RefcountMap,
    ) {
        if !self.contradicted {
            return self.claim(ctx, claims);
        }
        let own = ctx.geometry.cluster_floor(self.table);
        let all = self.clusters().chain([own]);
        for cluster in all.filter(|_| self.evidence == Evidence::Unreferenced) {
            let claimed = ctx.map.get(cluster) + claims.get(cluster);
            if counts.evident(cluster).is_some_and(|count| claimed < count) {
                claims.add(cluster, ClusterCount::new(1), 1);
            }
        }
    }

    /// Adds what it points to past the end of the file: something that is placed there would be
    /// read as what is missing.
    pub fn claim_past_end(&self, beyond: &Beyond) {
        for &(first, outside) in &self.shape.missing {
            beyond.add(&Extent { first, count: ClusterCount::new(0), outside }, 1);
        }
    }

    fn clusters(&self) -> impl Iterator<Item = HostCluster> + use<'_> {
        let each = |&(first, count): &(HostCluster, ClusterCount)| {
            (0..count.get()).map(move |n| first + ClusterCount::new(n))
        };
        self.shape.clusters.iter().flat_map(each)
    }
}

/// Leaves out what only points to such tables, which is an L1 table of former times, and guest data
/// that looks like one. Marks those that cannot all be tables.
pub fn sift(ctx: &Context, counts: &StoredCounts, lost: &mut Vec<Lost>) {
    let cluster = |lost: &Lost| ctx.geometry.cluster_floor(lost.table);
    let damaged = |lost: &Lost| (cluster(lost), lost.shape.damaged);
    let tables: BTreeMap<HostCluster, u64> = lost.iter().map(damaged).collect();
    let mut data = BTreeSet::new();
    for one in lost.iter() {
        // An entry that points to its own table is damaged.
        let others = || one.clusters().filter(|&to| to != cluster(one));
        if others().any(|to| tables.contains_key(&to)) && points_to_data(ctx, one, &tables) {
            // A weaker candidate proves nothing about a better one.
            let less = |to: &HostCluster| tables.get(to).is_some_and(|&n| n >= one.shape.damaged);
            data.extend(others().filter(less));
        }
    }
    lost.retain(|one| {
        let former_l1 =
            !one.shape.clusters.is_empty() && one.clusters().all(|c| tables.contains_key(&c));
        !former_l1 && !data.contains(&cluster(one))
    });
    contradictions(ctx, counts, lost);
}

/// Whether a table points to something that no L1 table can point to.
fn points_to_data(ctx: &Context, one: &Lost, tables: &BTreeMap<HostCluster, u64>) -> bool {
    let mut head = vec![0; ctx.geometry.cluster_len().min(HEAD_BYTES)];
    one.clusters().filter(|to| !tables.contains_key(to)).any(|to| {
        let read = ctx.source.peek_at(ctx.geometry.offset_of(to).get(), &mut head);
        read.is_ok() && !Shape::begins_like(ctx, &head)
    })
}

/// Each table alone agrees with the refcounts; together they may not.
fn contradictions(ctx: &Context, counts: &StoredCounts, lost: &mut [Lost]) {
    let claims = RefcountMap::default();
    lost.iter().for_each(|one| one.claim(ctx, &claims));
    let too_often = |cluster: HostCluster| {
        let claimed = claims.get(cluster);
        claimed > 1 && counts.evident(cluster).is_some_and(|n| n < ctx.map.get(cluster) + claimed)
    };
    for one in lost {
        let own = ctx.geometry.cluster_floor(one.table);
        one.contradicted = one.shape.shared > 0 || too_often(own) || one.clusters().any(too_often);
    }
}
