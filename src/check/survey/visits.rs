//! The L1 entries that point to L2 tables: 12 bytes each, since an L1 table has up to four million.

use std::ops::Range;

use crate::check::report::Source;
use crate::format::L1Index;
use crate::format::l1::L1Entry;

/// An L1 entry that points to an L2 table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// Whose L1 table.
    pub source: Source,
    /// Which entry.
    pub index: L1Index,
    /// Its bits.
    pub entry: L1Entry,
}

/// L1 entries, the active disk's first, then those of each snapshot; each table's in the order of
/// their indices.
#[derive(Debug, Clone, Default)]
pub struct Visits {
    entries: Vec<u64>,
    indices: Vec<u32>,
    /// Whose entries they are, with the position of the first; in order.
    sources: Vec<(Source, usize)>,
}

impl Visits {
    /// Adds an entry after the existing ones, of which none is of a later L1 table.
    pub fn push(&mut self, visit: Visit) {
        if self.sources.last().is_none_or(|(source, _)| *source != visit.source) {
            self.sources.push((visit.source, self.entries.len()));
        }
        self.entries.push(visit.entry.0);
        self.indices.push(visit.index.get());
    }

    /// Makes space for so many more.
    pub fn reserve(&mut self, more: usize) {
        self.entries.reserve(more);
        self.indices.reserve(more);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bits of the entry at a position.
    pub fn entry(&self, position: usize) -> L1Entry {
        L1Entry(self.entries[position])
    }

    /// The entry at a position.
    pub fn get(&self, position: usize) -> Visit {
        let after = self.sources.partition_point(|(_, first)| *first <= position);
        let (source, _) = self.sources[after - 1];
        Visit { source, index: self.index(position), entry: self.entry(position) }
    }

    fn index(&self, position: usize) -> L1Index {
        L1Index::new(self.indices[position])
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = Visit> + Clone + '_ {
        self.range(0..self.len())
    }

    /// Those at these positions.
    pub fn range(&self, positions: Range<usize>) -> impl Iterator<Item = Visit> + Clone + '_ {
        let after = self.sources.partition_point(|(_, first)| *first <= positions.start);
        let mut of = after.saturating_sub(1);
        positions.map(move |position| {
            while self.sources.get(of + 1).is_some_and(|(_, first)| *first <= position) {
                of += 1;
            }
            let (source, _) = self.sources[of];
            Visit { source, index: self.index(position), entry: self.entry(position) }
        })
    }

    /// The positions of the entries of an L1 table.
    pub fn positions(&self, source: Source) -> Range<usize> {
        let first = |of: usize| self.sources.get(of).map_or(self.len(), |(_, first)| *first);
        match self.sources.binary_search_by_key(&source, |(source, _)| *source) {
            Ok(of) => first(of)..first(of + 1),
            Err(of) => first(of)..first(of),
        }
    }

    /// The entry of an L1 table with this index, if it points to a table.
    pub fn find(&self, source: Source, index: L1Index) -> Option<L1Entry> {
        let positions = self.positions(source);
        let at = self.indices[positions.clone()].binary_search(&index.get()).ok()?;
        Some(self.entry(positions.start + at))
    }

    /// Whether an L1 table's entry with this index points to a table.
    pub fn has(&self, source: Source, index: L1Index) -> bool {
        self.find(source, index).is_some()
    }

    /// The entries of an L1 table.
    pub fn of(&self, source: Source) -> impl Iterator<Item = Visit> + Clone + '_ {
        self.range(self.positions(source))
    }
}

impl<'a> IntoIterator for &'a Visits {
    type Item = Visit;
    type IntoIter = Box<dyn Iterator<Item = Visit> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_with_their_source_in_any_way_of_asking() {
        let (first, third) = (Source::Snapshot(0), Source::Snapshot(2));
        let all: Vec<Visit> = [(Source::Active, 4), (Source::Active, 9), (first, 0), (third, 4)]
            .into_iter()
            .map(|(source, index)| {
                let entry = L1Entry(u64::from(index) << 16);
                Visit { source, index: L1Index::new(index), entry }
            })
            .collect();
        let mut visits = Visits::default();
        all.iter().for_each(|visit| visits.push(*visit));
        assert_eq!(visits.iter().collect::<Vec<_>>(), all);
        assert_eq!((0..4).map(|n| visits.get(n)).collect::<Vec<_>>(), all);
        assert_eq!(visits.range(1..3).collect::<Vec<_>>(), all[1..3]);
        assert_eq!(visits.of(Source::Active).collect::<Vec<_>>(), all[..2]);
        assert_eq!(visits.of(third).collect::<Vec<_>>(), all[3..]);
        assert_eq!(visits.of(Source::Snapshot(1)).count(), 0);
        assert!(visits.has(Source::Active, L1Index::new(9)) && visits.has(third, L1Index::new(4)));
        assert!(
            !visits.has(Source::Active, L1Index::new(0)) && !visits.has(third, L1Index::new(0))
        );
        assert_eq!(Visits::default().of(Source::Active).count(), 0);
    }
}
