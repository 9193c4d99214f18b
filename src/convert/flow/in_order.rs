//! What several threads have made ready, taken up one by one in the order of the disk.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// What a piece is refused with after another one failed.
const STOPPED: &str = "the work was stopped";

/// Whether an error is only the consequence of an earlier one.
pub(crate) fn is_stopped(error: &Error) -> bool {
    matches!(error, Error::Refused(why) if why == STOPPED)
}

/// Pieces of work, numbered from 0 without a gap, that come in any order and are taken in theirs.
#[derive(Debug)]
pub(crate) struct InOrder<T, S> {
    state: Mutex<State<T, S>>,
    changed: Condvar,
    /// How far ahead of the next number a piece may come.
    ahead: u64,
}

#[derive(Debug)]
struct State<T, S> {
    next: u64,
    waiting: BTreeMap<u64, T>,
    /// How many threads are too far ahead.
    asleep: usize,
    stopped: bool,
    books: S,
}

impl<T, S> InOrder<T, S> {
    /// Nothing has come yet; `books` is what the pieces are entered into. Pieces more than `ahead`
    /// too early wait.
    pub(crate) fn new(books: S, ahead: u64) -> Self {
        let state = State { next: 0, waiting: BTreeMap::new(), asleep: 0, stopped: false, books };
        Self { state: Mutex::new(state), changed: Condvar::new(), ahead }
    }

    /// Hands in a piece, and takes up all those whose turn it is, perhaps those of other threads.
    pub(crate) fn submit(
        &self,
        number: u64,
        piece: T,
        mut take: impl FnMut(&mut S, T) -> Result<()>,
    ) -> Result<()> {
        let mut state = self.lock();
        while number > state.next + self.ahead && !state.stopped {
            state.asleep += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep -= 1;
        }
        if state.stopped {
            return Err(Error::Refused(STOPPED.into()));
        }
        state.waiting.insert(number, piece);
        let mut outcome = Ok(());
        while outcome.is_ok() {
            let next = state.next;
            let Some(piece) = state.waiting.remove(&next) else { break };
            state.next += 1;
            outcome = take(&mut state.books, piece);
        }
        state.stopped |= outcome.is_err();
        if state.asleep > 0 {
            self.changed.notify_all();
        }
        outcome
    }

    /// Nothing more will come from one thread: the others need not wait for it.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// What the pieces were entered into, after the last.
    pub(crate) fn into_books(self) -> S {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).books
    }

    fn lock(&self) -> MutexGuard<'_, State<T, S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_taken_in_their_order_whoever_brings_them() {
        let order = InOrder::new(Vec::new(), 4);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let order = &order;
                scope.spawn(move || {
                    for number in (thread..100).step_by(4) {
                        let push = |books: &mut Vec<u64>, n| {
                            books.push(n);
                            Ok(())
                        };
                        order.submit(number, number, push).unwrap();
                    }
                });
            }
        });
        assert_eq!(order.into_books(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn after_a_failure_nobody_waits() {
        let order = InOrder::new((), 0);
        let fail = |(): &mut (), (): ()| Err(Error::Refused("no".into()));
        let first = order.submit(0, (), fail).unwrap_err();
        let later = order.submit(5, (), |(), ()| Ok(())).unwrap_err();
        assert!(!is_stopped(&first) && is_stopped(&later));
    }
}
