//! Work that several threads take from one queue.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// How many threads to use where the caller does not say: more than cores, since on a cold cache or
/// a network they wait for reads.
pub fn threads(asked: usize) -> usize {
    if asked > 0 {
        return asked;
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores * 2).clamp(8, 32)
}

/// Calls `work(state, item)` for every number under `items`, each thread with a state of its own,
/// and returns what the calls gave, by item. Items are begun in order.
pub fn map<S, T: Send>(
    threads: usize,
    items: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
) -> Vec<T> {
    let threads = threads.min(items);
    if threads <= 1 {
        let mut state = state();
        return (0..items).map(|item| work(&mut state, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(items));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut state = state();
                let mut mine = Vec::new();
                loop {
                    let item = next.fetch_add(1, Ordering::Relaxed);
                    if item >= items {
                        break;
                    }
                    mine.push((item, work(&mut state, item)));
                }
                done.lock().unwrap_or_else(PoisonError::into_inner).append(&mut mine);
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|&(item, _)| item);
    done.into_iter().map(|(_, result)| result).collect()
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
}
