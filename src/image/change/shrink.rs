//! A shorter disk: its tables are cut, and the space of what was past the end goes back to the file
//! system.

use crate::error::Result;
use crate::format::ClusterCount;
use crate::format::l1::L1Entry;

use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::order::regions::Owner;
use crate::image::run::ClusterRun;
use crate::image::space::refcounts::Change;

impl Image {
    /// Makes the disk shorter; what was past the new end is gone.
    pub(crate) fn shrink(&mut self, size: u64) -> Result<()> {
        self.meta_mut()?.shrink(size)?;
        self.geometry = self.geometry.with_virtual_size(size);
        self.cut_data_file(size)
    }
}

impl Meta {
    fn shrink(&mut self, size: u64) -> Result<()> {
        self.prepare_write()?;
        self.flush(true)?;
        self.require_not_cancelled()?;
        self.give_back_room();
        self.cut_to(size)?;
        // The new tables are after what was in use. Built once more they go where it has become
        // free, so that the file can end earlier.
        let l1 = self.geometry.cluster_floor(self.ordering.root(Side::Mappings).offset());
        let free = self.find_free(self.search_start, ClusterCount::new(1), false)?;
        if free.first < l1 {
            self.cut_to(size)?;
        }
        self.release_empty_blocks()?;
        self.cut_free_end()?;
        self.ordering.disk.sync()
    }

    /// The active L1 table ends where the disk does, and so does the last L2 table, of which a copy
    /// is made.
    fn cut_to(&mut self, size: u64) -> Result<()> {
        let old = self.l1_entries().to_vec();
        let kept = usize::try_from(self.geometry.l1_entries_for(size)).unwrap_or(usize::MAX);
        let mut l1 = old[..kept.min(old.len())].to_vec();
        let in_last = size % self.geometry.bytes_per_l2_table();
        let last = l1.last().copied().map(L1Entry).filter(|_| in_last != 0);
        let mut cut = None;
        if let Some(entry) = last.filter(|entry| entry.offset().get() != 0) {
            let width = self.geometry.l2_entry_bytes();
            let keep = self.geometry.clusters_for(in_last).get();
            let keep = usize::try_from(keep).unwrap_or(usize::MAX) * width;
            let mut bytes = self.ordering.table(Side::Mappings, entry.offset())?.to_vec();
            bytes[keep..].fill(0);
            let table = self.write_aside(Owner::L2, &bytes, "an L2 table")?;
            let at = self.geometry.offset_of(table.run().first);
            if let Some(slot) = l1.last_mut() {
                *slot = L1Entry::new(at, true).0;
            }
            cut = Some((table, entry, keep));
        }
        if l1.is_empty() {
            l1.push(0);
        }
        let outcome =
            self.resized_bitmaps(size).and_then(|rebuilt| self.switch_active(l1, size, rebuilt));
        if let Some((table, entry, keep)) = cut {
            table.settle(self, outcome)?;
            for run in self.references(entry.offset(), keep)? {
                self.free_later(run);
            }
            self.free_later(ClusterRun::one(self.geometry.cluster_floor(entry.offset())));
        } else {
            outcome?;
        }
        self.change_tree(old.get(kept..).unwrap_or(&[]), Change::Lower)?;
        self.flush(true)
    }
}
