//! Many runs of an L2 table at once, for a reader that goes through a disk.

use super::runs::{Stored, is_uniform};
use crate::error::Result;
use crate::format::l2::L2Entry;
use crate::format::{ClusterCount, GuestOffset};
use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::order::ordering::Side;

/// Entries that are looked at together.
const ENTRIES: u64 = 512;

impl Image {
    /// Appends the run that [`Self::map_stored`] returns and, where nothing is written to the image
    /// through this value, those that follow it, as far as they are found without looking far.
    pub(crate) fn map_ahead(
        &self,
        start: GuestOffset,
        most: u64,
        runs: &mut Vec<Stored>,
    ) -> Result<()> {
        let first = self.map_stored(start, most)?;
        let end = GuestOffset::new(start.get() + first.run.length);
        runs.push(first);
        let mut meta = self.meta()?;
        if meta.writable { Ok(()) } else { meta.entries_from(end, most - first.run.length, runs) }
    }
}

impl Meta {
    /// Appends what the entries from the one of the cluster at `start` on mean, up to the first one
    /// that is not plain, or the end of the table.
    fn entries_from(
        &mut self,
        start: GuestOffset,
        most: u64,
        runs: &mut Vec<Stored>,
    ) -> Result<()> {
        let (geometry, size) = (self.geometry, self.geometry.cluster_bytes());
        let first = geometry.guest_cluster_floor(start);
        let place = self.place(first);
        // The table's first entry is where the table is looked at.
        if start.get() % size != 0 || most < size || place.l2 == 0 {
            return Ok(());
        }
        let table = self.l1_entry(place.l1)?.offset();
        if table.get() == 0 {
            return Ok(());
        }
        let width = geometry.l2_entry_bytes();
        let bytes = self.ordering.table(Side::Mappings, table)?;
        let entries = bytes[place.l2 * width..].chunks_exact(width).map(L2Entry::decode);
        let count = usize::try_from(ENTRIES.min(most / size)).expect("so few");
        let entries: Vec<L2Entry> = entries.take(count).collect();
        for (number, entry) in (0..).zip(entries) {
            let cluster = first + ClusterCount::new(number);
            let is_plain = self.defect(cluster, entry).is_none()
                && !self.is_past_end(entry)?
                && (!geometry.extended_l2() || is_uniform(entry));
            if !is_plain {
                break;
            }
            let next = self.unit(GuestOffset::new(start.get() + number * size), entry);
            match runs.last_mut() {
                Some(last) if last.goes_on_with(&next, true) => last.run.length += size,
                _ => runs.push(next),
            }
        }
        Ok(())
    }
}
