//! What reads as zeroes and has clusters all the same.

use crate::error::{Error, Result};
use crate::format::geometry::SUBCLUSTERS;
use crate::format::l2::{CompressedExtent, L2Entry, Meaning};
use crate::format::{GuestOffset, HostCluster, HostOffset};
use crate::storage::is_zero;

use super::references::{Holder, Packed, Reference, References, entries_of};
use crate::image::Image;

/// Most bytes of neighbouring clusters that are read together.
const READ_BYTES: u64 = 2 << 20;

/// Compressed data up to this part of a cluster may be zeroes: both methods make less of them.
const PACKED_PART: u64 = 64;

/// What of an L2 table reads as zeroes.
#[derive(Debug, Default)]
pub(crate) struct Zeroes {
    /// Clusters with one reference, which is this.
    pub(crate) alone: Vec<Reference>,
    /// Clusters of zeroes with several references.
    pub(crate) shared: Vec<HostCluster>,
    /// Compressed data.
    pub(crate) packed: Vec<Packed>,
    /// Bytes of guest data that were looked at.
    pub(crate) bytes_read: u64,
    /// Ranges of an external data file.
    pub(crate) external: Vec<(u64, u64)>,
}

/// A cluster whose content decides.
struct Candidate {
    index: u32,
    host: HostOffset,
    entry: L2Entry,
    is_shared: bool,
}

impl Image {
    /// Whether clusters of zeroes can be given up: version 2 has no zeroes that hide a backing
    /// file.
    pub(crate) fn can_free_zeroes(&self) -> Result<bool> {
        Ok(self.meta()?.header().version >= 3 || self.backing.is_none())
    }

    /// What of an L2 table of `found` reads as zeroes.
    pub(crate) fn zeroes_of(&self, found: &References, table: u32) -> Result<Zeroes> {
        let (at, weight) = {
            let table = &found.tables[table as usize];
            (table.at, table.weight)
        };
        let bytes = self.meta()?.table_bytes(at)?;
        let mut zeroes = Zeroes::default();
        let mut candidates = Vec::new();
        let is_external = self.data_file.is_some();
        for (index, entry) in (0u32..).zip(entries_of(&bytes, &self.geometry)) {
            match entry.meaning(&self.geometry, is_external) {
                Meaning::Data(host) => {
                    let is_shared = !is_external && (weight > 1 || self.is_shared(host)?);
                    candidates.push(Candidate { index, host, entry, is_shared });
                }
                Meaning::ZeroAllocated(host)
                    if !is_external && weight == 1 && !self.is_shared(host)? =>
                {
                    zeroes.alone.push(self.reference(host, table, index));
                }
                Meaning::Compressed(extent) if self.is_zero_packed(extent)? => {
                    zeroes.packed.push(Packed { extent, table, index });
                }
                _ => {}
            }
        }
        candidates.sort_unstable_by_key(|candidate| candidate.host);
        for run in neighbours(&candidates, self.geometry.cluster_bytes()) {
            self.sort_out(run, table, &mut zeroes)?;
        }
        Ok(zeroes)
    }

    fn reference(&self, host: HostOffset, table: u32, index: u32) -> Reference {
        let cluster = self.geometry.cluster_floor(host);
        Reference { cluster, holder: Holder::Table(table), index }
    }

    fn is_shared(&self, host: HostOffset) -> Result<bool> {
        let cluster = self.geometry.cluster_floor(host);
        Ok(self.meta()?.refcount(cluster)? != 1)
    }

    /// Reads neighbouring clusters, and sorts out those that are zeroes.
    fn sort_out(&self, run: &[Candidate], table: u32, zeroes: &mut Zeroes) -> Result<()> {
        let size = self.geometry.cluster_bytes();
        let (first, bytes) = (run[0].host, run.len() as u64 * size);
        let is_hole = self.encryption.is_none() && self.data().is_hole(first.get(), bytes);
        let mut buf = Vec::new();
        if !is_hole {
            buf.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
            let failed = |e| Error::io("read guest data", first.get(), e);
            self.data().read_padded_at(first.get(), &mut buf).map_err(failed)?;
            if let Some(encryption) = &self.encryption {
                encryption.decrypt(GuestOffset::new(0), first, &mut buf);
            }
            zeroes.bytes_read += bytes;
        }
        for (n, candidate) in run.iter().enumerate() {
            let start = n * self.geometry.cluster_len();
            let cluster = buf.get(start..start + self.geometry.cluster_len());
            if cluster.is_some_and(|cluster| !self.is_zero_for(candidate, cluster)) {
                continue;
            }
            if self.data_file.is_some() {
                if !is_hole {
                    zeroes.external.push((candidate.host.get(), size));
                }
            } else if candidate.is_shared {
                zeroes.shared.push(self.geometry.cluster_floor(candidate.host));
            } else {
                zeroes.alone.push(self.reference(candidate.host, table, candidate.index));
            }
        }
        Ok(())
    }

    /// Whether a guest reads zeroes from a cluster; what others may read of it counts too.
    fn is_zero_for(&self, candidate: &Candidate, cluster: &[u8]) -> bool {
        if !self.geometry.extended_l2() || candidate.is_shared {
            return is_zero(cluster);
        }
        let subclusters = cluster.chunks(cluster.len() / SUBCLUSTERS as usize);
        let allocated = candidate.entry.allocated();
        subclusters.enumerate().all(|(n, bytes)| allocated >> n & 1 == 0 || is_zero(bytes))
    }

    fn is_zero_packed(&self, extent: CompressedExtent) -> Result<bool> {
        if extent.bytes > self.geometry.cluster_bytes() / PACKED_PART + 1024 {
            return Ok(false);
        }
        let mut cluster = vec![0; self.geometry.cluster_len()];
        self.read_compressed(GuestOffset::new(0), extent, &mut cluster)?;
        Ok(is_zero(&cluster))
    }

    /// The clusters of L2 tables in which no entry has a meaning: without them the guest reads the
    /// same.
    pub(crate) fn empty_tables(&self) -> Result<Vec<HostCluster>> {
        let found = self.l2_tables()?;
        let meta = self.meta()?;
        let mut empty = Vec::new();
        for table in &found.tables {
            if is_zero(&meta.table_bytes(table.at)?) {
                empty.push(meta.geometry.cluster_floor(table.at));
            }
        }
        Ok(empty)
    }

    /// Makes a range of the external data file a hole, which reads as the zeroes that it has.
    pub(crate) fn punch_external(&self, offset: u64, bytes: u64) -> Result<()> {
        let failed = |e| Error::io("punch a hole into the data file", offset, e);
        self.data().write_zeroes(offset, bytes).map_err(failed)?;
        self.meta()?.ordering.disk.note_data();
        Ok(())
    }
}

/// Candidates that follow each other in the file, up to a number of bytes.
fn neighbours(candidates: &[Candidate], size: u64) -> impl Iterator<Item = &[Candidate]> {
    let most = usize::try_from(READ_BYTES / size).unwrap_or(1).max(1);
    candidates
        .chunk_by(move |a, b| a.host.get() + size == b.host.get())
        .flat_map(move |run| run.chunks(most))
}
