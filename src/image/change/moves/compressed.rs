//! Guest data of whole clusters that become compressed, with all references to each.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use crate::codec::Method;
use crate::error::{Error, Result};
use crate::format::feature::incompatible;
use crate::format::header::{HeaderField, V3_BYTES_WITH_COMPRESSION, encode_field};
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{ClusterCount, HostCluster, HostOffset, ReftableIndex};
use crate::tables::HeaderArea;

use super::Copying;
use super::marks::Changes;
use super::plain::Step;
use super::references::{Content, Holder, References, entries_of};
use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::meta::first_cluster::extensions_of;
use crate::image::order::ordering::Side;
use crate::image::run::ClusterRun;

/// What happens to one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CompressStep {
    /// The cluster.
    pub(crate) from: HostCluster,
    /// Its refcount.
    pub(crate) count: u64,
    /// All references to it, in [`References::plain`].
    pub(crate) references: Range<usize>,
    /// Where the compressed data go.
    pub(crate) to: HostOffset,
    /// Where they are in the bytes that come with the steps.
    pub(crate) bytes: Range<usize>,
}

impl CompressStep {
    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl Image {
    /// Does the steps, whose compressed data are in `packed`. They go to clusters that are free, or
    /// that were free before earlier steps went there: `taken` has those. After an error clusters
    /// are leaked at worst.
    pub(crate) fn compress_clusters(
        &self,
        found: &References,
        steps: &[CompressStep],
        packed: &[u8],
        taken: &mut HashSet<HostCluster>,
        copying: Copying,
    ) -> Result<()> {
        let (mut new, mut old) = (BTreeMap::new(), BTreeMap::new());
        let plain: Vec<_> = steps.iter().map(plain_step).collect();
        self.meta()?.require_complete(found, &plain)?;
        self.meta()?.announce_moves()?;
        for step in steps {
            let run = ClusterRun::of(&self.geometry, step.to, step.length());
            run.clusters().for_each(|cluster| *new.entry(cluster).or_default() += step.count);
            old.insert(step.from, step.count);
        }
        let changes = self.meta()?.packed_changes(&old, &new, taken)?;
        if copying == Copying::Data {
            self.write_compressed_steps(steps, packed)?;
        }
        let meta = &mut *self.meta()?;
        // What was in a free cluster before is gone when its refcount gets higher.
        meta.ordering.disk.sync()?;
        meta.raise_for(&changes)?;
        taken.extend(new.keys());
        meta.redirect_compressed(found, steps, &changes)
    }

    /// Writes what follows each other together.
    fn write_compressed_steps(&self, steps: &[CompressStep], packed: &[u8]) -> Result<()> {
        let follows = |a: &CompressStep, b: &CompressStep| {
            a.to.get() + a.length() == b.to.get() && a.bytes.end == b.bytes.start
        };
        for run in steps.chunk_by(follows) {
            let at = run[0].to;
            let bytes = &packed[run[0].bytes.start..run[run.len() - 1].bytes.end];
            self.meta()?.ordering.disk.check_data(at, bytes.len() as u64)?;
            self.file
                .write_at(at.get(), bytes)
                .map_err(|e| Error::io("write compressed data", at.get(), e))?;
        }
        self.meta()?.ordering.disk.note_data();
        Ok(())
    }

    /// Whether a cluster can be stored compressed: it is guest data for all that refer to it, and
    /// all of it.
    pub(crate) fn is_compressible(&self, found: &References, step: &Step) -> Result<bool> {
        let meta = &mut *self.meta()?;
        for reference in &found.plain[step.references.clone()] {
            let Holder::Table(id) = reference.holder else { return Ok(false) };
            let width = meta.geometry.l2_entry_bytes();
            let start = reference.index as usize * width;
            let table = meta.ordering.glance(Side::Mappings, found.tables[id as usize].at)?;
            let entry = L2Entry::decode(&table[start..start + width]);
            let is_whole = !self.geometry.extended_l2() || entry.allocated() == u64::from(u32::MAX);
            if !is_whole || !matches!(entry.meaning(&self.geometry, false), Meaning::Data(_)) {
                return Ok(false);
            }
        }
        Ok(found.plain[step.references.start].holder.content() == Content::Data)
    }

    /// Whether any guest data is compressed, of the disk or of a snapshot.
    pub(crate) fn has_compressed_data(&self) -> Result<bool> {
        let found = self.l2_tables()?;
        let meta = self.meta()?;
        for table in &found.tables {
            let bytes = meta.table_bytes(table.at)?;
            if entries_of(&bytes, &self.geometry).any(L2Entry::is_compressed) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Records how guest data is compressed from here on; none may be compressed yet, and the
    /// version is 3. One write of a sector makes the change.
    pub(crate) fn set_compression(&self, method: Method) -> Result<()> {
        let meta = &mut *self.meta()?;
        let area = HeaderArea::load(self.file.as_ref())?;
        let backing = area.backing_name.clone().unwrap_or_default();
        let bits = area.header.incompatible & !incompatible::COMPRESSION;
        let (bits, kind) = match method {
            Method::Zlib => (bits, 0),
            Method::Zstd => (bits | incompatible::COMPRESSION, 1),
        };
        meta.rewrite_first_cluster(&area, extensions_of(&area), backing, |old| {
            let mut fields = old.to_vec();
            fields.resize(old.len().max(V3_BYTES_WITH_COMPRESSION), 0);
            for (field, value) in [
                (HeaderField::HeaderLength, fields.len() as u64),
                (HeaderField::Incompatible, bits),
                (HeaderField::CompressionType, kind),
            ] {
                let (at, width) = field.place();
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                fields[at..at + width].copy_from_slice(&encode_field(field, value));
            }
            fields
        })
    }

    /// Reads the bytes of neighbouring clusters as the file has them.
    pub(crate) fn read_clusters(&self, first: HostCluster, bytes: &mut [u8]) -> Result<()> {
        let at = self.geometry.offset_of(first).get();
        self.file.read_padded_at(at, bytes).map_err(|e| Error::io("read guest data", at, e))
    }

    /// Clusters in use from `first` on, at least one if there is any, each with its refcount: as
    /// many as have `most` references.
    pub(crate) fn used_clusters(
        &self,
        first: HostCluster,
        most: u64,
    ) -> Result<Vec<(HostCluster, u64)>> {
        let end = self.used_end()?;
        let meta = &mut *self.meta()?;
        let (mut at, mut references, mut found) = (first, 0, Vec::new());
        while at < end && references < most {
            let (index, _) = meta.geometry.refcount_place(at);
            let next = ReftableIndex::new(index.get() + 1);
            let run_end = meta.geometry.first_cluster_of_block(next).min(end);
            let run = ClusterRun::new(at, run_end - at);
            for (cluster, count) in run.clusters().zip(meta.refcounts(run)?) {
                if count > 0 && references < most {
                    references += count;
                    found.push((cluster, count));
                }
            }
            at = run_end;
        }
        Ok(found)
    }

    /// `count` free clusters, each with a refcount block: after the last one in use, as far as the
    /// file may get longer.
    pub(crate) fn clusters_at_end(&self, count: u64) -> Result<Vec<HostCluster>> {
        let first = self.used_end()?;
        let meta = &mut *self.meta()?;
        let limit = meta.ordering.disk.limit() / meta.geometry.cluster_bytes();
        let count = count.min(limit.saturating_sub(first.get()));
        let run = ClusterRun::new(first, ClusterCount::new(count));
        if run.is_empty() {
            return Ok(Vec::new());
        }
        meta.announce_moves()?;
        meta.ensure_described(run)?;
        let counts = meta.refcounts(run)?;
        let regions = &meta.ordering.disk.regions;
        let free = run.clusters().zip(counts).filter(|&(_, count)| count == 0);
        Ok(free.map(|(cluster, _)| cluster).filter(|&c| !regions.is_owned(c)).collect())
    }
}

fn plain_step(step: &CompressStep) -> Step {
    let (from, count, references) = (step.from, step.count, step.references.clone());
    Step { from, to: None, count, references }
}

impl Meta {
    fn redirect_compressed(
        &mut self,
        found: &References,
        steps: &[CompressStep],
        changes: &Changes,
    ) -> Result<()> {
        for step in steps {
            let Some(entry) = L2Entry::compressed(&self.geometry, step.to, step.length()) else {
                let why = "compressed data cannot be this far into the file";
                return Err(Error::Refused(why.into()));
            };
            for reference in &found.plain[step.references.clone()] {
                if let Holder::Table(id) = reference.holder {
                    let at = found.tables[id as usize].at;
                    self.change_entry(at, reference.index, |_, _| entry)?;
                }
            }
        }
        self.ordering.flush(true)?;
        self.lower_for(changes)
    }
}
