//! Leaks that no interrupted program leaves: the references to these clusters were lost.

use crate::check::passes::compare::Compared;
use crate::check::report::{Finding, Kind, Place};
use crate::check::survey::context::{Context, MAX_LOOKED_AT};
use crate::format::{ClusterCount, HostCluster};

/// Places that show it, where leaked clusters hold data: clusters that several L1 tables referred
/// to, which no program releases in one step, and beside a refcount that is not lost damaged
/// pointers to refcount structures, and blocks that were overwritten.
pub fn doubtful(ctx: &Context, compared: &Compared, findings: &[Finding]) -> Vec<Place> {
    let all = || ctx.found.findings().iter().chain(findings);
    let leaks: Vec<Leak> = all().filter_map(|finding| leak(finding, compared)).collect();
    let disks = ctx.snapshots.entries.len() as u64 + 1;
    let shared = leaks.iter().filter(|leak| (2..=disks).contains(&leak.stored));
    let mut places: Vec<Place> =
        shared.filter(|leak| leak.has_data(ctx)).map(Leak::place).collect();
    let mut structures: Vec<Place> =
        all().filter(|f| f.kind.is_reftable_entry()).map(|f| f.place).collect();
    structures.extend(compared.lost_blocks.iter().map(|&index| Place::Refblock(index)));
    if !structures.is_empty() && leaks.iter().any(|leak| leak.has_data(ctx)) {
        places.extend(structures);
    }
    places
}

/// Clusters with the same refcount, and without any reference.
struct Leak {
    first: HostCluster,
    count: ClusterCount,
    stored: u64,
}

impl Leak {
    /// Whether one of the clusters is not all zeroes.
    fn has_data(&self, ctx: &Context) -> bool {
        let clusters = ctx.data_clusters(self.first..self.first + self.count);
        clusters.take(MAX_LOOKED_AT).any(|cluster| ctx.has_data(cluster))
    }

    const fn place(&self) -> Place {
        Place::Clusters(self.first, self.count)
    }
}

/// The leak that a finding reports, where its refcount is not lost.
fn leak(finding: &Finding, compared: &Compared) -> Option<Leak> {
    let (&Kind::Count { stored, referenced: 0 }, Place::Clusters(first, count)) =
        (&finding.kind, finding.place)
    else {
        return None;
    };
    (!compared.is_uncounted(first)).then_some(Leak { first, count, stored })
}
