//! Which cluster goes where.

use crate::format::HostCluster;

/// Pairs clusters that may move with free ones before them: as many as get nearer to the beginning
/// of the file. `from` has the last cluster first, `free` the first one first. The order of what
/// moves stays.
pub(super) fn pairs(from: &[HostCluster], free: &[HostCluster]) -> Vec<(HostCluster, HostCluster)> {
    let count = from.iter().zip(free).take_while(|(from, free)| free < from).count();
    from[..count].iter().rev().copied().zip(free[..count].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(numbers: &[u64]) -> Vec<HostCluster> {
        numbers.iter().copied().map(HostCluster::new).collect()
    }

    #[test]
    fn the_last_clusters_go_to_the_first_free_ones_in_their_order() {
        let found = pairs(&clusters(&[20, 18, 17, 6]), &clusters(&[3, 5, 8, 9, 16]));
        let found: Vec<_> = found.iter().map(|(from, to)| (from.get(), to.get())).collect();
        assert_eq!(found, [(17, 3), (18, 5), (20, 8)]);
    }

    #[test]
    fn nothing_moves_towards_the_end() {
        assert!(pairs(&clusters(&[5, 4]), &clusters(&[6, 7])).is_empty());
        assert!(pairs(&[], &clusters(&[6])).is_empty());
    }
}
