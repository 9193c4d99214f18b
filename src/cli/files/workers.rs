//! Work on a list by several threads, results in the order of the list.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Results that may wait for an earlier one, for each thread.
const AHEAD: usize = 16;

/// Where the work is.
struct State<R> {
    next: usize,
    taken: usize,
    ready: BTreeMap<usize, R>,
    broken: bool,
}

struct Queue<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
    length: usize,
    ahead: usize,
}

/// Does `work` on each item in up to `threads` threads and hands the results to `take` in order,
/// here. An error of `take` ends everything early.
pub fn in_order<T: Sync, R: Send, E>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads.clamp(1, items.len().max(1));
    if threads == 1 {
        // Where no thread can be had, this one does.
        return items.iter().try_for_each(|item| take(work(item)));
    }
    let queue = Queue {
        state: Mutex::new(State { next: 0, taken: 0, ready: BTreeMap::new(), broken: false }),
        changed: Condvar::new(),
        length: items.len(),
        ahead: AHEAD * threads,
    };
    thread::scope(|scope| {
        // Whoever leaves early, also by a panic, must not leave the others waiting.
        let leaving = Leaving(&queue);
        for _ in 0..threads {
            scope.spawn(|| {
                let _leaving = Leaving(&queue);
                while let Some(index) = queue.claim() {
                    let result = work(&items[index]);
                    queue.deliver(index, result);
                }
            });
        }
        for _ in 0..items.len() {
            let Some(result) = queue.take() else { break };
            take(result)?;
        }
        drop(leaving);
        Ok(())
    })
}

impl<R> Queue<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item to work on, once not too many results wait.
    fn claim(&self) -> Option<usize> {
        let full =
            |s: &mut State<R>| !s.broken && s.next < self.length && s.next >= s.taken + self.ahead;
        let state = self.changed.wait_while(self.lock(), full);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.broken || state.next == self.length {
            return None;
        }
        state.next += 1;
        Some(state.next - 1)
    }

    fn deliver(&self, index: usize, result: R) {
        self.lock().ready.insert(index, result);
        self.changed.notify_all();
    }

    /// The next result in order; `None` after the last.
    fn take(&self) -> Option<R> {
        let missing = |s: &mut State<R>| !s.broken && !s.ready.contains_key(&s.taken);
        let state = self.changed.wait_while(self.lock(), missing);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let index = state.taken;
        let result = state.ready.remove(&index)?;
        state.taken += 1;
        self.changed.notify_all();
        Some(result)
    }
}

struct Leaving<'a, R>(&'a Queue<R>);

impl<R> Drop for Leaving<'_, R> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        // A thread that found nothing left to do does not stop the others.
        if thread::panicking() || state.next < self.0.length {
            state.broken = true;
        }
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn results_come_in_the_order_of_the_list_whoever_is_first() {
        let items: Vec<u64> = (0..200).collect();
        for threads in [1, 3, 8, 500] {
            let mut got = Vec::new();
            let work = |&n: &u64| {
                thread::sleep(Duration::from_micros(n * 7919 % 97));
                n * 2
            };
            let take = |n| {
                got.push(n);
                Ok::<(), ()>(())
            };
            assert_eq!(in_order(&items, threads, work, take), Ok(()));
            assert_eq!(got, (0..200).map(|n| n * 2).collect::<Vec<_>>());
        }
        assert_eq!(in_order(&[], 4, |n: &u64| *n, |_| Err(())), Ok(()));
    }

    #[test]
    fn an_error_of_the_taker_ends_the_work() {
        let items: Vec<u64> = (0..100_000).collect();
        let done = std::sync::atomic::AtomicU64::new(0);
        let work = |_: &u64| done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(in_order(&items, 4, work, |_| Err("full")), Err("full"));
        assert!(done.into_inner() < 1000);
    }

    #[test]
    fn a_panic_in_one_thread_is_not_waited_for_by_the_others() {
        let items: Vec<u64> = (0..1000).collect();
        let work = |&n: &u64| assert!(n != 7, "the seventh");
        let run = || in_order(&items, 3, work, |()| Ok::<(), ()>(()));
        let run = std::panic::AssertUnwindSafe(run);
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
