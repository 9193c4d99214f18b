//! Guest data that reads as zeroes, given up: of the disk and of all snapshots.

use std::collections::HashSet;

use super::job::Job;
use crate::error::Result;
use crate::format::{ClusterCount, HostCluster};
use crate::image::{PackedStep, Reference, References, Step};

/// References that are taken away together.
const BATCH: usize = 1 << 13;

/// Clusters with several references that are looked up together.
const SHARED: usize = 1 << 18;

/// Frees the clusters of zeroes, and the L2 tables that are empty then.
pub(super) fn free(job: &mut Job<'_>) -> Result<()> {
    if !job.image.can_free_zeroes()? {
        return Ok(());
    }
    let mut tables = job.image.l2_tables()?;
    let used = job.image.used_from(HostCluster::new(0))?;
    job.control.progress.stage("looking for zeroes", job.image.geometry().bytes_of(used));
    let mut shared = HashSet::new();
    for id in 0..u32::try_from(tables.tables.len()).unwrap_or(u32::MAX) {
        job.begin(0)?;
        let found = job.image.zeroes_of(&tables, id)?;
        for (offset, bytes) in found.external {
            if !job.is_plan() {
                job.image.punch_external(offset, bytes)?;
            }
            job.outcome.external += bytes;
        }
        job.control.progress.advance(found.bytes_read);
        tables.plain.extend(found.alone);
        tables.packed.extend(found.packed);
        shared.extend(found.shared);
        if tables.plain.len() + tables.packed.len() >= BATCH {
            take_away(job, &mut tables)?;
        }
    }
    take_away(job, &mut tables)?;
    free_all(job, shared.into_iter().collect())?;
    let empty = job.image.empty_tables()?;
    free_all(job, empty)
}

/// Takes away references to clusters that have no others, and to compressed data.
fn take_away(job: &mut Job<'_>, found: &mut References) -> Result<()> {
    found.leave(&job.mixed, &job.image.geometry());
    let size = job.image.geometry().cluster_bytes();
    let step = |(n, reference): (usize, &Reference)| Step {
        from: reference.cluster,
        to: None,
        count: 1,
        references: n..n + 1,
    };
    let steps: Vec<_> = found.plain.iter().enumerate().map(step).collect();
    if !steps.is_empty() {
        job.image.move_clusters(found, &steps, job.copying)?;
        job.outcome.zeroes += steps.len() as u64 * size;
    }
    let step = |(n, packed): (usize, &crate::image::Packed)| PackedStep {
        from: packed.extent,
        to: None,
        references: n..n + 1,
    };
    let steps: Vec<_> = found.packed.iter().enumerate().map(step).collect();
    if !steps.is_empty() {
        job.image.move_packed(found, &steps, &mut HashSet::new(), job.copying)?;
        job.outcome.zeroes += steps.iter().map(|step| step.from.bytes).sum::<u64>();
    }
    found.plain.clear();
    found.packed.clear();
    Ok(())
}

/// Takes away all references to clusters, however many each has.
fn free_all(job: &mut Job<'_>, mut clusters: Vec<HostCluster>) -> Result<()> {
    clusters.sort_unstable();
    for wanted in clusters.chunks(SHARED) {
        let set: HashSet<HostCluster> = wanted.iter().copied().collect();
        let mut found = job.image.references(|cluster| set.contains(&cluster))?;
        let mut steps = Vec::new();
        for references in found.clusters() {
            let from = found.plain[references.start].cluster;
            if !job.mixed.contains(&from) {
                let count = found.count(&references);
                steps.push(Step { from, to: None, count, references });
            }
        }
        for steps in steps.chunks(BATCH) {
            job.begin(0)?;
            job.image.move_clusters(&mut found, steps, job.copying)?;
            let count = ClusterCount::new(steps.len() as u64);
            job.outcome.zeroes += job.image.geometry().bytes_of(count);
        }
    }
    Ok(())
}
