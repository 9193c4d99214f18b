//! Which guest clusters operations in flight work on, so that several threads may use one image.
//!
//! An operation that only reads, or overwrites data in place, shares its clusters. One that changes
//! their mapping has them alone: two writes that would allocate the same cluster come one after the
//! other, and the second finds the cluster that the first has allocated. Nothing is freed under a
//! reader.

use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::format::GuestCluster;

/// Whether others may work on the same clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Access {
    /// With others that share.
    Shared,
    /// Alone.
    Alone,
}

struct Entry {
    id: u64,
    clusters: Range<GuestCluster>,
    access: Access,
}

#[derive(Default)]
struct Table {
    next_id: u64,
    entries: Vec<Entry>,
    /// How many wait: mostly nobody, who then need not be woken.
    waiting: usize,
}

/// The claims in force.
#[derive(Default)]
pub(in crate::image) struct Claims {
    table: Mutex<Table>,
    released: Condvar,
}

/// A claim; dropping it ends it.
#[must_use]
pub(in crate::image) struct Claim<'a> {
    claims: &'a Claims,
    id: u64,
}

impl Claims {
    /// Waits until no other claim stands against this one. A thread holds at most one claim.
    pub(in crate::image) fn claim(
        &self,
        clusters: Range<GuestCluster>,
        access: Access,
    ) -> Claim<'_> {
        // The table is whole at every point where a panic could happen.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        while table.entries.iter().any(|entry| entry.excludes(&clusters, access)) {
            table.waiting += 1;
            table = self.released.wait(table).unwrap_or_else(PoisonError::into_inner);
            table.waiting -= 1;
        }
        let id = table.next_id;
        table.next_id += 1;
        table.entries.push(Entry { id, clusters, access });
        Claim { claims: self, id }
    }
}

impl Entry {
    fn excludes(&self, clusters: &Range<GuestCluster>, access: Access) -> bool {
        let overlaps = self.clusters.start < clusters.end && clusters.start < self.clusters.end;
        overlaps && (self.access == Access::Alone || access == Access::Alone)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut table = self.claims.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.entries.retain(|entry| entry.id != self.id);
        if table.waiting > 0 {
            self.claims.released.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn range(start: u64, end: u64) -> Range<GuestCluster> {
        GuestCluster::new(start)..GuestCluster::new(end)
    }

    #[test]
    fn sharers_do_not_wait_and_others_elsewhere_neither() {
        let claims = Claims::default();
        let _first = claims.claim(range(0, 4), Access::Shared);
        let _second = claims.claim(range(3, 5), Access::Shared);
        let _third = claims.claim(range(5, 6), Access::Alone);
    }

    #[test]
    fn a_claim_on_the_same_cluster_waits_until_the_first_ends() {
        let claims = Claims::default();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let first = claims.claim(range(0, 4), Access::Alone);
            let waiting = scope.spawn(|| {
                let _second = claims.claim(range(3, 5), Access::Shared);
                assert!(ended.load(Ordering::SeqCst));
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            ended.store(true, Ordering::SeqCst);
            drop(first);
            waiting.join().unwrap();
        });
    }
}
