//! Data in the order of the guest, after metadata that is together at the front.
//!
//! Places are filled one after the other from the beginning of the file: whatever is there goes to
//! free clusters after them, then what belongs there comes. What was moved leaves free clusters for
//! what is in the way next, so that the file needs one batch of free space. Compressed data and
//! other clusters that cannot move one by one stay where they are, and places go on after them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::job::Job;
use crate::error::{Error, Result};
use crate::format::{ClusterCount, HostCluster};
use crate::image::{References, Step};

/// Most clusters that are looked up together.
const WINDOW: usize = 1 << 18;

/// Clusters before this one are never free.
const FIRST: HostCluster = HostCluster::new(1);

/// Puts the image in order, as far as bytes may move.
pub(super) fn defragment(job: &mut Job<'_>) -> Result<()> {
    let used = job.image.used_from(FIRST)?;
    job.control.progress.stage("defragmenting", job.image.geometry().bytes_of(used));
    let dense = FIRST + used;
    let mut order = Order { job, place: FIRST, dense };
    order.job.image.keep_room_before(dense)?;
    let done = order.run();
    order.job.image.keep_room_before(HostCluster::new(0))?;
    done
}

struct Order<'a, 'b> {
    job: &'a mut Job<'b>,
    /// Everything before this place is in order.
    place: HostCluster,
    /// Everything could end here.
    dense: HostCluster,
}

impl Order<'_, '_> {
    fn run(&mut self) -> Result<()> {
        self.move_metadata()?;
        let tables = self.job.image.l2_tables()?;
        let places: Vec<_> = tables.tables.iter().map(|table| table.at).collect();
        let geometry = self.job.image.geometry();
        let clusters: Vec<_> = places.iter().map(|&at| geometry.cluster_floor(at)).collect();
        self.fill(&clusters)?;
        // The tables are elsewhere now, in the same order.
        let tables = self.job.image.l2_tables()?;
        let per_table = usize::try_from(geometry.l2_entries()).unwrap_or(usize::MAX);
        let count = tables.tables.len();
        let group = (WINDOW / per_table).max(1);
        for first in (0..count).step_by(group) {
            let data = self.job.image.data_clusters(&tables, first..(first + group).min(count))?;
            self.fill(&data)?;
        }
        Ok(())
    }
}

/// Clusters that are to get a place, each by where it was at first.
#[derive(Default)]
struct Tracked {
    /// Where it is.
    now: HashMap<HostCluster, HostCluster>,
    /// Which cluster is there.
    first: HashMap<HostCluster, HostCluster>,
}

impl Tracked {
    fn new(clusters: &[HostCluster]) -> Self {
        let same: HashMap<_, _> = clusters.iter().map(|&cluster| (cluster, cluster)).collect();
        Self { now: same.clone(), first: same }
    }

    fn note(&mut self, from: HostCluster, to: HostCluster) {
        if let Some(first) = self.first.remove(&from) {
            self.first.insert(to, first);
            self.now.insert(first, to);
        }
    }
}

/// What is known of the clusters that a part of the work is about.
struct Known {
    found: References,
    /// Clusters that can move, by where they are: their references.
    movable: HashMap<HostCluster, Range<usize>>,
}

impl Order<'_, '_> {
    /// Brings tables of neighbouring clusters and refcount blocks to the front.
    fn move_metadata(&mut self) -> Result<()> {
        let image = self.job.image;
        let (roots, blocks) = (image.roots()?, image.refblocks_from(FIRST)?);
        let runs = roots.iter().map(|&(_, first, count)| (first, count.get()));
        let runs = runs.chain(blocks.iter().map(|&(_, cluster)| (cluster, 1)));
        let own: HashSet<_> = runs.flat_map(|(first, count)| clusters_of(first, count)).collect();
        let known = self.look(FIRST..FIRST + ClusterCount::new(own.len() as u64 + 1024), &[])?;
        let (mut end, mut places) = (FIRST, 0);
        while places < own.len() && end < self.dense {
            places += usize::from(own.contains(&end) || self.is_usable(&known, end)?);
            end = end.next();
        }
        if own.iter().all(|&cluster| cluster < end) {
            return Ok(());
        }
        self.empty(known, FIRST..end)?;
        for (root, first, count) in roots.into_iter().filter(|&(_, at, count)| at + count > end) {
            let to = image.free_run(count, first)?.filter(|&to| to < end);
            let bytes = image.geometry().bytes_of(count);
            if let Some(to) = to.filter(|_| bytes <= self.job.left()) {
                self.job.begin(bytes)?;
                image.move_root(root, to)?;
                self.job.moved(bytes);
            }
        }
        let mut blocks = image.refblocks_from(end)?;
        blocks.reverse();
        let free = image.free_clusters(FIRST, end, blocks.len())?;
        let moves = blocks.iter().zip(free).map(|(&(index, from), to)| (index, from, to));
        let moves: Vec<_> = moves.collect();
        for moves in moves.chunks(self.per_batch()) {
            let bytes = image.geometry().bytes_of(ClusterCount::new(moves.len() as u64));
            if bytes <= self.job.left() {
                self.job.begin(bytes)?;
                image.move_refblocks(moves)?;
                self.job.moved(bytes);
            }
        }
        Ok(())
    }

    /// Fills the next places with these clusters, in their order.
    fn fill(&mut self, clusters: &[HostCluster]) -> Result<()> {
        let mut seen = HashSet::new();
        let place = self.place;
        let wanted = clusters.iter().copied();
        let wanted: Vec<_> = wanted.filter(|&c| c >= place && seen.insert(c)).collect();
        let mut tracked = Tracked::new(&wanted);
        let mut rest = &wanted[..];
        while !rest.is_empty() && self.job.left() > 0 {
            let part = &rest[..rest.len().min(WINDOW)];
            let sources: Vec<_> = part.iter().map(|cluster| tracked.now[cluster]).collect();
            let end = self.place + ClusterCount::new(2 * sources.len() as u64 + 64);
            let mut known = self.look(self.place..end, &sources)?;
            let mut done = 0;
            while done < part.len() && self.place < end && self.job.left() > 0 {
                done += self.fill_batch(&mut known, &part[done..], &mut tracked, end)?;
            }
            rest = &rest[done..];
        }
        Ok(())
    }

    /// Fills the next places before `end`; returns how many of the clusters have theirs, or stay.
    fn fill_batch(
        &mut self,
        known: &mut Known,
        clusters: &[HostCluster],
        tracked: &mut Tracked,
        end: HostCluster,
    ) -> Result<usize> {
        let left = self.job.left() / self.job.image.geometry().cluster_bytes() / 2;
        let most = self.per_batch().min(usize::try_from(left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(clusters.len());
        }
        // Refcount blocks for what is in the way, before it is decided which places are free.
        let end = end.min(self.place + ClusterCount::new(2 * most as u64 + 64));
        self.job.image.clusters_at_end(3 * most as u64 + 64)?;
        let (mut targets, mut done, mut place) = (Vec::new(), 0, self.place);
        while done < clusters.len() && targets.len() < most && place < end {
            if !known.movable.contains_key(&tracked.now[&clusters[done]]) {
                done += 1;
                continue;
            }
            if self.is_usable(known, place)? {
                targets.push((clusters[done], place));
                done += 1;
            }
            place = place.next();
        }
        let is_moving =
            |&&(first, place): &&(HostCluster, HostCluster)| tracked.now[&first] != place;
        let moving: Vec<_> = targets.iter().filter(is_moving).copied().collect();
        let places = moving.iter().map(|&(_, place)| place);
        let in_the_way: Vec<_> = places.filter(|at| known.movable.contains_key(at)).collect();
        let to = self.space(place, in_the_way.len())?;
        let mut coming = Vec::with_capacity(moving.len());
        for (first, place) in moving {
            // The others have become places of refcount blocks.
            if self.is_usable(known, place)? {
                coming.push((first, place));
            }
        }
        let pairs: Vec<_> = in_the_way.into_iter().zip(to).collect();
        self.relocate(known, &pairs, tracked)?;
        let pairs: Vec<_> =
            coming.into_iter().map(|(first, place)| (tracked.now[&first], place)).collect();
        self.relocate(known, &pairs, tracked)?;
        self.place = place;
        Ok(done)
    }

    /// Moves clusters, each to a free one.
    fn relocate(
        &mut self,
        known: &mut Known,
        pairs: &[(HostCluster, HostCluster)],
        tracked: &mut Tracked,
    ) -> Result<()> {
        let step = |&(from, to): &(HostCluster, HostCluster)| {
            let references = known.movable[&from].clone();
            Step { from, to: Some(to), count: known.found.count(&references), references }
        };
        let mut steps: Vec<_> = pairs.iter().map(step).collect();
        steps.sort_unstable_by_key(|step| step.from);
        let groups = self.job.groups(&known.found, &steps);
        self.job.move_groups(&mut known.found, &groups)?;
        for step in steps {
            let Some(to) = step.to else { continue };
            known.found.note_move(&step.references, to);
            known.movable.remove(&step.from);
            known.movable.insert(to, step.references);
            tracked.note(step.from, to);
        }
        Ok(())
    }

    /// Moves all that can move out of a range.
    fn empty(&mut self, mut known: Known, range: Range<HostCluster>) -> Result<()> {
        let mut inside: Vec<_> = known.movable.keys().copied().collect();
        inside.retain(|cluster| range.contains(cluster));
        inside.sort_unstable();
        for part in inside.chunks(self.per_batch()) {
            let bytes = self.job.image.geometry().bytes_of(ClusterCount::new(part.len() as u64));
            if bytes > self.job.left() {
                break;
            }
            let to = self.space(range.end, part.len())?;
            let pairs: Vec<_> = part.iter().copied().zip(to).collect();
            self.relocate(&mut known, &pairs, &mut Tracked::default())?;
        }
        Ok(())
    }

    /// Free clusters from `from` on, in the file or at its end.
    fn space(&self, from: HostCluster, count: usize) -> Result<Vec<HostCluster>> {
        let image = self.job.image;
        let end = image.used_end()?;
        let mut free = image.free_clusters(from.min(end), end, count)?;
        free.retain(|&cluster| cluster >= from);
        if free.len() < count {
            let past = from.get().saturating_sub(end.get());
            let more = image.clusters_at_end(past + (count - free.len()) as u64)?;
            // A refcount block that describes them may have taken one.
            free = image.still_free(free)?;
            free.extend(more.into_iter().filter(|&cluster| cluster >= from));
        }
        if free.len() < count {
            let why =
                "there is not enough free space in or after the image to move what is in the way";
            return Err(Error::Refused(why.into()));
        }
        free.truncate(count);
        Ok(free)
    }

    /// Whether a place is free, or what is there can move.
    fn is_usable(&self, known: &Known, place: HostCluster) -> Result<bool> {
        Ok(known.movable.contains_key(&place) || self.job.image.is_free_cluster(place)?)
    }

    /// Looks up clusters of a range and others.
    fn look(&self, range: Range<HostCluster>, others: &[HostCluster]) -> Result<Known> {
        let image = self.job.image;
        let others: HashSet<_> = others.iter().copied().collect();
        let wanted = |cluster| range.contains(&cluster) || others.contains(&cluster);
        let mut found = image.references(wanted)?;
        found.packed.clear();
        let mut movable = HashMap::new();
        for references in found.clusters() {
            let group = &found.plain[references.clone()];
            let (cluster, content) = (group[0].cluster, group[0].holder.content());
            let is_alike = group.iter().all(|r| r.holder.content() == content);
            let is_complete = found.count(&references) == image.refcount_of(cluster)?;
            if is_alike && is_complete && !self.job.mixed.contains(&cluster) {
                movable.insert(cluster, references);
            }
        }
        Ok(Known { found, movable })
    }

    fn per_batch(&self) -> usize {
        // What is in the way is copied, too.
        (self.job.per_batch() / 2).max(1)
    }
}

fn clusters_of(first: HostCluster, count: u64) -> impl Iterator<Item = HostCluster> {
    (0..count).map(move |n| first + ClusterCount::new(n))
}
