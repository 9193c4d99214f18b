//! Structures to which one pointer refers, in the header or in another structure: moved one by one,
//! each with a copy on disk before the pointer changes with one write of a sector.

use crate::error::{Error, Result};
use crate::format::header::HeaderField;
use crate::format::{ClusterCount, HostCluster, HostOffset, encode_entries};

use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::order::ordering::{Direction, Side};
use crate::image::order::regions::Owner;
use crate::image::order::root::RootTable;
use crate::image::run::ClusterRun;

/// Where the flags of a directory entry are, after the pointer with which it begins.
const FLAGS_PLACE: u64 = 12;

/// A structure of neighbouring clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// The active L1 table.
    Active,
    /// The refcount table.
    Reftable,
    /// The snapshot table.
    SnapshotTable,
    /// The L1 table of the snapshot at this position.
    Snapshot(usize),
    /// The bitmap directory.
    Directory,
    /// The table of the bitmap at this position.
    Bitmap(usize),
}

impl Image {
    /// The structures that can be moved, and where they are. One whose clusters others share stays.
    pub(crate) fn roots(&self) -> Result<Vec<(Root, HostCluster, ClusterCount)>> {
        let meta = &mut *self.meta()?;
        let mut list = Vec::new();
        for (root, run) in meta.list_roots() {
            let alone = meta.refcounts(run)?.iter().all(|&count| count == 1);
            if alone && !run.is_empty() {
                list.push((root, run.first, run.count));
            }
        }
        Ok(list)
    }

    /// The first of `count` neighbouring free clusters that end at or before `end`.
    pub(crate) fn free_run(
        &self,
        count: ClusterCount,
        end: HostCluster,
    ) -> Result<Option<HostCluster>> {
        let found = self.meta()?.find_free(HostCluster::new(1), count, true);
        match found {
            Ok(run) if run.end() <= end => Ok(Some(run.first)),
            Ok(_) | Err(Error::NoRoom { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves a structure to free clusters.
    pub(crate) fn move_root(&self, root: Root, to: HostCluster) -> Result<()> {
        self.meta()?.move_root(root, to)
    }
}

impl Meta {
    fn list_roots(&self) -> Vec<(Root, ClusterRun)> {
        let geometry = &self.geometry;
        let reftable = self.ordering.root(Side::Refcounts);
        let bytes = reftable.entries().len() as u64 * 8;
        let mut list = vec![
            (Root::Active, self.active_l1()),
            (Root::Reftable, ClusterRun::of(geometry, reftable.offset(), bytes)),
        ];
        let bytes = self.snapshot_places().1;
        let at = self.header().snapshot_table;
        list.push((Root::SnapshotTable, ClusterRun::of(geometry, at, bytes)));
        for (n, snapshot) in self.snapshots.iter().enumerate() {
            let bytes = u64::from(snapshot.header.l1_entries) * 8;
            let run = ClusterRun::of(geometry, snapshot.header.l1_table, bytes);
            list.push((Root::Snapshot(n), run));
        }
        if let Some(bitmaps) = &self.bitmaps {
            list.push((Root::Directory, bitmaps.run(bitmaps.directory, geometry)));
            for (n, bitmap) in bitmaps.entries.iter().enumerate() {
                let bytes = u64::from(bitmap.table_entries) * 8;
                list.push((Root::Bitmap(n), ClusterRun::of(geometry, bitmap.table, bytes)));
            }
        }
        list
    }

    /// Where the entries of the snapshot table are, and its length in bytes.
    fn snapshot_places(&self) -> (Vec<HostOffset>, u64) {
        let mut bytes = 0u64;
        let places = self.snapshots.iter().map(|snapshot| {
            let start = bytes.next_multiple_of(8);
            bytes = start + snapshot.header.entry_bytes();
            self.header().snapshot_table.saturating_add(start)
        });
        let places = places.collect();
        (places, bytes)
    }

    fn move_root(&mut self, root: Root, to: HostCluster) -> Result<()> {
        self.prepare_write()?;
        self.flush(true)?;
        self.announce_moves()?;
        let listed = self.list_roots().into_iter().find(|(other, _)| *other == root);
        let Some((_, from)) = listed else { return Ok(()) };
        let target = ClusterRun::new(to, from.count);
        for cluster in target.clusters() {
            self.require_free(cluster)?;
        }
        // What was in a free cluster before is gone when its refcount gets higher. No block is
        // added for that, so that the copy of a refcount table stays complete.
        self.ensure_described(target)?;
        self.copy_root(root, from, to)?;
        self.ordering.disk.sync()?;
        self.raise(target, 1)?;
        self.flush(true)?;
        let at = self.geometry.offset_of(to);
        self.point_to_root(root, at)?;
        self.ordering.disk.sync()?;
        self.adopt_root(root, at);
        if let Some(owner) = owner(root) {
            self.ordering.disk.regions.remove(from, owner);
            self.ordering.disk.regions.add(target, owner);
        }
        self.lower(from, 1)?;
        self.flush(true)
    }

    /// Adds the refcount blocks that a run needs.
    pub(super) fn ensure_described(&mut self, run: ClusterRun) -> Result<()> {
        self.prepare_refcounts()?;
        self.ordering.begin(Direction::RefcountsFirst)?;
        self.ensure_blocks(run)?;
        self.flush(true)
    }

    fn copy_root(&mut self, root: Root, from: ClusterRun, to: HostCluster) -> Result<()> {
        let geometry = self.geometry;
        let mut bytes = match root {
            Root::Active => encode_entries(self.ordering.root(Side::Mappings).entries()),
            Root::Reftable => encode_entries(self.ordering.root(Side::Refcounts).entries()),
            _ => {
                let length = usize::try_from(geometry.bytes_of(from.count)).unwrap_or(usize::MAX);
                let mut bytes = vec![0; length];
                self.ordering.disk.read(geometry.offset_of(from.first), &mut bytes, "a table")?;
                bytes
            }
        };
        let length = usize::try_from(geometry.bytes_of(from.count)).unwrap_or(usize::MAX);
        bytes.resize(length, 0);
        let owner = owner(root).unwrap_or(Owner::BitmapDirectory);
        self.ordering.disk.write_unreferenced(owner, geometry.offset_of(to), &bytes, "a table")
    }

    /// Changes the pointer to a structure on disk.
    fn point_to_root(&mut self, root: Root, at: HostOffset) -> Result<()> {
        let value = at.get();
        let bytes = value.to_be_bytes();
        let disk = &mut self.ordering.disk;
        match root {
            Root::Active => disk.patch_header(&[(HeaderField::L1Offset, value)]),
            Root::Reftable => disk.patch_header(&[(HeaderField::ReftableOffset, value)]),
            Root::SnapshotTable => disk.patch_header(&[(HeaderField::SnapshotTableOffset, value)]),
            Root::Snapshot(n) => {
                let place = self.snapshot_places().0[n];
                let disk = &mut self.ordering.disk;
                disk.write(Owner::SnapshotTable, place, &bytes, "the snapshot table")
            }
            Root::Directory => {
                let bitmaps = self.bitmaps.take();
                let outcome = self.patch_header_and_bitmaps(&[], bitmaps.as_ref().map(|b| (b, at)));
                self.bitmaps = bitmaps;
                outcome
            }
            Root::Bitmap(n) => {
                let places = self.bitmaps.as_ref().map(|bitmaps| bitmaps.flag_places());
                let place = places.map_or(0, |places| places[n].get() - FLAGS_PLACE);
                let (place, owner) = (HostOffset::new(place), Owner::BitmapDirectory);
                self.ordering.disk.write(owner, place, &bytes, "the bitmap directory")
            }
        }
    }

    /// The same in memory.
    fn adopt_root(&mut self, root: Root, at: HostOffset) {
        match root {
            Root::Active | Root::Reftable => {
                let side = if root == Root::Active { Side::Mappings } else { Side::Refcounts };
                let entries = self.ordering.root(side).entries().to_vec();
                self.ordering.replace_root(side, RootTable::new(at, entries));
            }
            // The header has it.
            Root::SnapshotTable => {}
            Root::Snapshot(n) => self.snapshots[n].header.l1_table = at,
            Root::Directory => {
                if let Some(bitmaps) = &mut self.bitmaps {
                    bitmaps.directory = at;
                }
            }
            Root::Bitmap(n) => {
                if let Some(bitmaps) = &mut self.bitmaps {
                    bitmaps.entries[n].table = at;
                }
            }
        }
    }
}

/// Whom its clusters belong to; the tables of bitmaps are in no list.
const fn owner(root: Root) -> Option<Owner> {
    match root {
        Root::Active => Some(Owner::L1),
        Root::Reftable => Some(Owner::Reftable),
        Root::SnapshotTable => Some(Owner::SnapshotTable),
        Root::Snapshot(_) => Some(Owner::SnapshotL1),
        Root::Directory => Some(Owner::BitmapDirectory),
        Root::Bitmap(_) => None,
    }
}
