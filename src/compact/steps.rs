//! What can move one by one, from what was found of it.

use crate::format::HostCluster;
use crate::image::{References, Step};

/// One step for each of these clusters that something refers to, in order; where it goes is left
/// open. Each cluster comes with its refcount, the last one first.
pub(super) fn steps(found: &References, clusters: &[(HostCluster, u64)]) -> Vec<Step> {
    let mut steps = Vec::new();
    for references in found.clusters() {
        let group = &found.plain[references.clone()];
        let from = group[0].cluster;
        let at = clusters.binary_search_by(|(cluster, _)| from.cmp(cluster));
        // Tables and data do not share clusters, nor do compressed data and others.
        let is_alike = group.iter().all(|r| r.holder.content() == group[0].holder.content());
        if let (Ok(at), true) = (at, is_alike) {
            let count = clusters[at].1;
            if found.count(&references) == count {
                steps.push(Step { from, to: None, count, references });
            }
        }
    }
    steps
}
