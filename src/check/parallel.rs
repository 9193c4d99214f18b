//! Work that several threads take from one queue.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::threads::cores;

/// How many threads to use where the caller sets none: more than cores, since on a cold cache or
/// a network they wait for reads.
pub fn threads(asked: usize) -> usize {
    if asked > 0 {
        return asked;
    }
    (cores() * 2).clamp(8, 32)
}

/// Calls `work(state, item)` for every number under `items`, each thread with a state of its own,
/// and returns what the calls gave, by item. Items are begun in order.
pub fn map<S, T: Send>(
    threads: usize,
    items: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
) -> Vec<T> {
    let mut results = Vec::with_capacity(items);
    for_each(threads, items, state, work, |result| results.push(result));
    results
}

/// As [`map`], but passes each result to `sink`, in the order of the items, as soon as it and all
/// before it are done: the results are not all in memory at once.
pub fn for_each<S, T: Send>(
    threads: usize,
    items: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
    sink: impl FnMut(T) + Send,
) {
    struct Waiting<T, F> {
        results: BTreeMap<usize, T>,
        next: usize,
        sink: F,
    }
    let next = AtomicUsize::new(0);
    let waiting = Mutex::new(Waiting { results: BTreeMap::new(), next: 0, sink });
    let run = || {
        let mut state = state();
        loop {
            let item = next.fetch_add(1, Ordering::Relaxed);
            if item >= items {
                break;
            }
            let result = work(&mut state, item);
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.results.insert(item, result);
            let Waiting { results, next, sink } = &mut *waiting;
            while let Some(result) = results.remove(next) {
                sink(result);
                *next += 1;
            }
        }
    };
    let threads = threads.min(items);
    if threads <= 1 {
        return run();
    }
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(run);
        }
    });
}

/// Takes one from what is left; returns whether there was one.
pub fn take_one(room: &AtomicUsize) -> bool {
    let less = |room: usize| room.checked_sub(1);
    room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let squares = map(
            4,
            1000,
            || 0usize,
            |sum, item| {
                *sum += 1;
                item * item
            },
        );
        assert!(squares.iter().enumerate().all(|(i, &s)| s == i * i));
        assert!(map(4, 0, || (), |(), item| item).is_empty());
    }

    #[test]
    fn a_sink_gets_every_result_in_the_order_of_the_items() {
        for threads in [1, 4] {
            let mut taken = Vec::new();
            for_each(threads, 1000, || (), |(), item| item, |item| taken.push(item));
            assert!(taken.iter().copied().eq(0..1000), "{threads}");
        }
    }
}
