//! The parts of an object that are here, on their way, or to be requested.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

/// Bytes of a page: what is requested begins and ends at multiples of it.
pub const PAGE: u64 = 4096;
/// The same as a length in memory.
const PAGE_LEN: usize = 4096;
/// Most pages in one request.
const LONGEST: u64 = 256;
/// Most pages that were read and are kept: 32 MiB.
const READ: usize = 8192;
/// Most pages that are here or on their way and were not read: 24 MiB.
const UNREAD: usize = 6144;
/// Most ranges that wait for their request; the oldest hints are dropped.
const WANTED: usize = 1 << 16;
/// Requests for ranges with so many pages between them are made as one.
const GAP: u64 = 2;

/// Pages of an object, by their numbers.
#[derive(Debug, Default)]
pub struct Pages {
    here: HashMap<u64, Page>,
    /// Pages that were read, in that order.
    read: VecDeque<u64>,
    /// Pages that may not have been read, in the order in which they came.
    unread: VecDeque<u64>,
    loading: HashSet<u64>,
    /// What is needed now, then what will be needed.
    urgent: VecDeque<Range<u64>>,
    wanted: VecDeque<Range<u64>>,
}

#[derive(Debug)]
struct Page {
    bytes: Box<[u8]>,
    was_read: bool,
}

/// The pages that have a range of bytes in them.
pub fn pages_of(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE..range.end.div_ceil(PAGE)
}

impl Pages {
    /// Whether a page is here or on its way.
    pub fn has(&self, page: u64) -> bool {
        self.here.contains_key(&page) || self.loading.contains(&page)
    }

    /// Copies bytes from `offset` on; `false` where a page of them is not here.
    pub fn copy(&mut self, offset: u64, buf: &mut [u8]) -> bool {
        let pages = pages_of(&(offset..offset + buf.len() as u64));
        if !pages.clone().all(|page| self.here.contains_key(&page)) {
            return false;
        }
        for number in pages {
            let Some(page) = self.here.get_mut(&number) else { return false };
            let start = number * PAGE;
            let part = offset.max(start)..(offset + buf.len() as u64).min(start + PAGE);
            let index = |at: u64, base: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
            let from = index(part.start, start)..index(part.end, start);
            let to = index(part.start, offset)..index(part.end, offset);
            match page.bytes.get(from) {
                Some(bytes) => buf[to].copy_from_slice(bytes),
                None => return false,
            }
            if !page.was_read {
                page.was_read = true;
                self.read.push_back(number);
            }
        }
        while self.read.len() > READ {
            if let Some(oldest) = self.read.pop_front() {
                self.here.remove(&oldest);
            }
        }
        while self.unread.front().is_some_and(|&page| !self.is_unread(page)) {
            self.unread.pop_front();
        }
        true
    }

    fn is_unread(&self, page: u64) -> bool {
        self.here.get(&page).is_some_and(|page| !page.was_read)
    }

    /// How many pages are here or on their way and were not read.
    fn waiting(&self) -> usize {
        self.here.len() - self.read.len() + self.loading.len()
    }

    /// A reader needs as many pages that nobody requested ahead. Where those that were fill their
    /// space, the oldest are given up: they may never be read.
    pub fn give_way(&mut self, pages: u64) {
        let mut left = if self.waiting() < UNREAD { 0 } else { pages };
        while left > 0 {
            let Some(oldest) = self.unread.pop_front() else { return };
            if self.is_unread(oldest) {
                self.here.remove(&oldest);
                left -= 1;
            }
        }
    }

    /// Runs of pages of a range that are neither here nor on their way, each short enough for one
    /// request.
    pub fn missing(&self, pages: &Range<u64>) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for page in pages.clone().filter(|&page| !self.has(page)) {
            match runs.last_mut() {
                Some(run) if run.end == page && run.end - run.start < LONGEST => run.end += 1,
                _ => runs.push(page..page + 1),
            }
        }
        runs
    }

    /// Has pages requested before all that are only hints.
    pub fn need(&mut self, pages: Range<u64>) {
        self.urgent.push_back(pages);
    }

    /// Has pages requested when nothing more urgent is.
    pub fn want(&mut self, pages: Range<u64>) {
        match self.wanted.back_mut() {
            Some(last) if last.end == pages.start => last.end = pages.end,
            _ => self.wanted.push_back(pages),
        }
        if self.wanted.len() > WANTED {
            self.wanted.pop_front();
        }
    }

    /// How many ranges wait for their request.
    pub fn queued(&self) -> usize {
        self.urgent.len() + self.wanted.len()
    }

    /// Enters pages that a request is made for.
    pub fn begin(&mut self, pages: &Range<u64>) {
        self.loading.extend(pages.clone());
    }

    /// The next pages to request, which are entered; `None` while nothing is to be requested.
    pub fn next(&mut self) -> Option<Range<u64>> {
        loop {
            let is_urgent = !self.urgent.is_empty();
            if !is_urgent && self.waiting() >= UNREAD {
                return None;
            }
            let queue = if is_urgent { &mut self.urgent } else { &mut self.wanted };
            let next = queue.pop_front()?;
            let mut runs = self.missing(&next).into_iter();
            let Some(mut run) = runs.next() else { continue };
            // What is left of it comes first again.
            if run.end < next.end {
                let queue = if is_urgent { &mut self.urgent } else { &mut self.wanted };
                queue.push_front(run.end..next.end);
            }
            self.join(&mut run);
            self.begin(&run);
            return Some(run);
        }
    }

    /// Lengthens a run by what is queued and overlaps it or follows shortly after it.
    fn join(&mut self, run: &mut Range<u64>) {
        while let Some(next) = self.wanted.front() {
            let is_near = next.start >= run.start && next.start <= run.end + GAP;
            let is_whole = is_near && next.end.max(run.end) - run.start <= LONGEST;
            if !is_whole || (run.end..next.end).any(|page| self.has(page)) {
                return;
            }
            run.end = next.end.max(run.end);
            self.wanted.pop_front();
        }
    }

    /// Takes the content of pages that were requested.
    pub fn arrive(&mut self, pages: &Range<u64>, content: &[u8]) {
        for (page, bytes) in pages.clone().zip(content.chunks(PAGE_LEN)) {
            self.here.insert(page, Page { bytes: bytes.into(), was_read: false });
            self.unread.push_back(page);
        }
        self.leave(pages);
    }

    /// Pages that were requested do not come.
    pub fn leave(&mut self, pages: &Range<u64>) {
        for page in pages.clone() {
            self.loading.remove(&page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_is_not_requested_again() {
        let mut pages = Pages::default();
        pages.want(0..4);
        assert_eq!(pages.next(), Some(0..4));
        assert_eq!(pages.next(), None);
        pages.arrive(&(0..4), &[1; 4 * PAGE as usize]);
        pages.want(2..6);
        assert_eq!(pages.next(), Some(4..6));
        let mut buf = [0; 100];
        assert!(pages.copy(PAGE - 50, &mut buf) && buf == [1; 100]);
        assert!(!pages.copy(4 * PAGE, &mut buf));
        assert_eq!(pages.missing(&(3..8)), vec![6..8]);
        pages.leave(&(4..6));
        assert_eq!(pages.missing(&(3..8)), vec![4..8]);
    }

    #[test]
    fn pages_that_are_never_read_do_not_end_reading_ahead() {
        let mut pages = Pages::default();
        let request = |pages: &mut Pages| {
            let run = pages.next()?;
            let bytes = usize::try_from(run.end - run.start).unwrap() * PAGE_LEN;
            pages.arrive(&run, &vec![1; bytes]);
            Some(run)
        };
        pages.want(0..2 * UNREAD as u64);
        while request(&mut pages).is_some() {}
        let far = 1 << 30;
        pages.want(far..far + LONGEST);
        assert_eq!(request(&mut pages), None);
        pages.give_way(3 * LONGEST);
        assert!(!pages.has(0) && pages.has(UNREAD as u64 - 1));
        assert!(request(&mut pages).is_some());
        // What was read is not given up.
        let mut buf = [0; 10];
        assert!(pages.copy((UNREAD as u64 - 1) * PAGE, &mut buf));
        while request(&mut pages).is_some() {}
        pages.give_way(u64::MAX);
        assert!(pages.has(UNREAD as u64 - 1) && !pages.has(UNREAD as u64 - 2));
    }

    #[test]
    fn neighbours_are_requested_together_and_what_is_needed_first() {
        let mut pages = Pages::default();
        for start in [10, 20, 32, 40] {
            pages.want(start..start + 10);
        }
        pages.need(100..101);
        assert_eq!(pages.next(), Some(100..101));
        assert_eq!(pages.next(), Some(10..50));
        pages.want(1000..1000 + 3 * LONGEST);
        let long: Vec<_> = std::iter::from_fn(|| pages.next()).collect();
        assert_eq!(long.len(), 3);
        assert!(long.iter().all(|run| run.end - run.start == LONGEST), "{long:?}");
    }

    #[test]
    fn memory_is_bounded_by_what_is_read_and_by_what_is_not() {
        let mut pages = Pages::default();
        pages.want(0..100_000);
        let mut next = 0;
        while let Some(run) = pages.next() {
            let bytes = vec![7; ((run.end - run.start) * PAGE) as usize];
            pages.arrive(&run, &bytes);
            next = run.end;
        }
        assert!(next as usize <= UNREAD + LONGEST as usize);
        for page in 0..50_000 {
            if !pages.has(page) {
                let run = pages.next().unwrap();
                pages.arrive(&run, &vec![7; ((run.end - run.start) * PAGE) as usize]);
            }
            assert!(pages.copy(page * PAGE, &mut [0; PAGE as usize]));
            assert!(pages.here.len() <= READ + UNREAD + LONGEST as usize);
        }
    }
}
