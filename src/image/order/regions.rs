//! Which clusters hold metadata, so that no write hits metadata of another kind.

use std::collections::HashMap;

use crate::format::HostCluster;

use crate::image::run::ClusterRun;

/// A structure that owns clusters of the image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(in crate::image) enum Owner {
    /// The header with its extensions and the backing file's name: cluster 0.
    Header = 1 << 0,
    /// The active L1 table.
    L1 = 1 << 1,
    /// An L2 table that the active L1 table refers to.
    L2 = 1 << 2,
    /// The refcount table.
    Reftable = 1 << 3,
    /// A refcount block.
    Refblock = 1 << 4,
    /// The snapshot table.
    SnapshotTable = 1 << 5,
    /// The L1 table of a snapshot.
    SnapshotL1 = 1 << 6,
    /// The bitmap directory.
    BitmapDirectory = 1 << 7,
    /// The encryption header.
    Crypto = 1 << 8,
}

const OWNERS: [(Owner, &str); 9] = [
    (Owner::Header, "the header"),
    (Owner::L1, "the active L1 table"),
    (Owner::L2, "an L2 table"),
    (Owner::Reftable, "the refcount table"),
    (Owner::Refblock, "a refcount block"),
    (Owner::SnapshotTable, "the snapshot table"),
    (Owner::SnapshotL1, "a snapshot's L1 table"),
    (Owner::BitmapDirectory, "the bitmap directory"),
    (Owner::Crypto, "the encryption header"),
];

/// The structures that each metadata cluster belongs to; more than one where the image is damaged.
#[derive(Debug, Clone, Default)]
pub(in crate::image) struct Regions {
    owners: HashMap<HostCluster, u16>,
}

impl Regions {
    /// Notes that `run` belongs to `owner`.
    pub(in crate::image) fn add(&mut self, run: ClusterRun, owner: Owner) {
        for cluster in run.clusters() {
            *self.owners.entry(cluster).or_default() |= owner as u16;
        }
    }

    /// Notes that `run` no longer belongs to `owner`.
    pub(in crate::image) fn remove(&mut self, run: ClusterRun, owner: Owner) {
        for cluster in run.clusters() {
            if let Some(owners) = self.owners.get_mut(&cluster) {
                *owners &= !(owner as u16);
                if *owners == 0 {
                    self.owners.remove(&cluster);
                }
            }
        }
    }

    /// Whether any metadata is in this cluster.
    pub(in crate::image) fn is_owned(&self, cluster: HostCluster) -> bool {
        self.owners.contains_key(&cluster)
    }

    /// Whether metadata other than an L2 table is in this cluster.
    pub(in crate::image) fn is_fixed(&self, cluster: HostCluster) -> bool {
        self.owners.get(&cluster).is_some_and(|owners| owners & !(Owner::L2 as u16) != 0)
    }

    /// The cluster after the last that holds metadata.
    pub(in crate::image) fn end(&self) -> HostCluster {
        self.owners.keys().max().map_or(HostCluster::new(0), |last| last.next())
    }

    /// What a write to `run` would hit that is not its own (`owner`; `None`: guest data).
    pub(in crate::image) fn conflict(
        &self,
        run: ClusterRun,
        owner: Option<Owner>,
    ) -> Option<&'static str> {
        let own = owner.map_or(0, |owner| owner as u16);
        let hit = run.clusters().find_map(|cluster| {
            self.owners.get(&cluster).map(|owners| owners & !own).filter(|&others| others != 0)
        })?;
        OWNERS.iter().find(|(owner, _)| *owner as u16 & hit != 0).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ClusterCount;

    #[test]
    fn a_write_to_another_structure_is_a_conflict_and_one_to_its_own_is_not() {
        let run = |first, count| ClusterRun::new(HostCluster::new(first), ClusterCount::new(count));
        let mut regions = Regions::default();
        regions.add(run(0, 1), Owner::Header);
        regions.add(run(4, 2), Owner::L1);
        assert_eq!(regions.conflict(run(3, 2), Some(Owner::L2)), Some("the active L1 table"));
        assert_eq!(regions.conflict(run(4, 2), Some(Owner::L1)), None);
        assert_eq!(regions.conflict(run(0, 1), None), Some("the header"));
        regions.add(run(5, 1), Owner::Refblock);
        assert_eq!(regions.conflict(run(4, 2), Some(Owner::L1)), Some("a refcount block"));
        regions.remove(run(5, 1), Owner::Refblock);
        regions.remove(run(4, 2), Owner::L1);
        assert!(!regions.is_owned(HostCluster::new(5)));
    }
}
