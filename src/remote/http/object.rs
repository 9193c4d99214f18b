//! An object of a server as a storage that is read: with what was read before, and with requests
//! for what will be read.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::ahead::Ahead;
use super::client::{CHANGED, Client};
use super::location::Location;
use super::pages::{PAGE, Pages, pages_of};
use crate::remote::settings::Settings;
use crate::storage::{Capacity, ReadAt, Storage};

/// The first request: header, refcount table, L1 table and the first tables of most images.
const FIRST: u64 = 256 << 10;
/// Most requests at the same time, beside those of the threads that read.
const WORKERS: usize = 16;

/// An object that is open. All methods may be called from several threads at once.
pub struct Object {
    shared: Arc<Shared>,
    bytes: u64,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    client: Client,
    bytes: u64,
    state: Mutex<State>,
    /// Pages have arrived, are requested, or do not come.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pages: Pages,
    ahead: Ahead,
    /// Why no further request is made: one failed for good, and each further one would take the
    /// whole time for an answer.
    failed: Option<(io::ErrorKind, String)>,
    /// Workers that wait for work.
    idle: usize,
    is_closed: bool,
}

impl Object {
    /// Opens an object: requests its first part, and notes which version it is.
    ///
    /// Fails with the error of the connection or what the server answered; with
    /// [`io::ErrorKind::Unsupported`] where it does not send parts.
    pub fn open(name: &str, settings: Settings) -> io::Result<Self> {
        let client = Client::new(Location::parse(name)?, settings);
        let content = client.get(&(0..FIRST))?;
        let bytes = client.version().map_or(0, |version| version.bytes);
        let mut state = State::default();
        let first = pages_of(&(0..content.len() as u64));
        state.pages.begin(&first);
        state.pages.arrive(&first, &content);
        let shared = Shared { client, bytes, state: Mutex::new(state), changed: Condvar::new() };
        Ok(Self { shared: Arc::new(shared), bytes, workers: Mutex::default() })
    }

    /// Has another worker begin where those that wait are too few.
    fn employ(&self, state: &State) {
        if state.idle >= state.pages.queued() {
            return;
        }
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.len() < WORKERS {
            let shared = self.shared.clone();
            // Without another one the work is done by the existing ones, or by the reader.
            workers.extend(thread::Builder::new().spawn(move || shared.work()).ok());
        }
    }

    /// Reads a range that is inside of the object.
    fn read(&self, range: &Range<u64>, buf: &mut [u8]) -> io::Result<()> {
        let pages = pages_of(range);
        let mut state = self.shared.state();
        let is_known = state.pages.has(pages.start);
        let ahead = state.ahead.enter(range, is_known);
        if let Some(ahead) = ahead.map(|ahead| ahead.start..ahead.end.min(self.bytes)) {
            if !ahead.is_empty() {
                state.pages.want(pages_of(&ahead));
                self.employ(&state);
            }
        }
        loop {
            if state.pages.copy(range.start, buf) {
                // What is read makes space for what is requested ahead.
                if state.idle > 0 && state.pages.queued() > 0 {
                    self.shared.changed.notify_all();
                }
                return Ok(());
            }
            if let Some((kind, why)) = &state.failed {
                return Err(io::Error::new(*kind, why.clone()));
            }
            let mut missing = state.pages.missing(&pages).into_iter();
            let Some(own) = missing.next() else {
                state = self.shared.wait(state);
                continue;
            };
            for other in missing {
                state.pages.need(other);
                self.employ(&state);
            }
            self.shared.changed.notify_all();
            state.pages.give_way(own.end - own.start);
            state.pages.begin(&own);
            state = self.shared.load(state, &own);
        }
    }
}

impl Shared {
    /// Makes the requests that are queued, until the object is closed.
    fn work(&self) {
        let mut state = self.state();
        while !state.is_closed && state.failed.is_none() {
            match state.pages.next() {
                Some(pages) => state = self.load(state, &pages),
                None => {
                    state.idle += 1;
                    state = self.wait(state);
                    state.idle -= 1;
                }
            }
        }
    }

    /// Requests pages that are entered, without holding the state.
    fn load<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        pages: &Range<u64>,
    ) -> MutexGuard<'a, State> {
        drop(state);
        let leaving = Leaving { shared: self, pages };
        let range = pages.start * PAGE..(pages.end * PAGE).min(self.bytes);
        let loaded = self.client.get(&range);
        std::mem::forget(leaving);
        let mut state = self.state();
        match loaded {
            Ok(content) => state.pages.arrive(pages, &content),
            Err(error) => {
                state.pages.leave(pages);
                state.failed.get_or_insert((error.kind(), crate::error::cause(&error)));
            }
        }
        self.changed.notify_all();
        state
    }

    /// Of an object whose version has no name: reads its length and its first page again, since a
    /// new version shows there at least.
    fn look_again(&self) -> io::Result<()> {
        if self.client.version().is_none_or(|version| version.has_name()) {
            return Ok(());
        }
        let first = 0..PAGE.min(self.bytes);
        let mut known = vec![0; usize::try_from(first.end).unwrap_or(0)];
        let is_known = self.state().pages.copy(0, &mut known);
        match self.client.get(&first)? == known || !is_known {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, CHANGED)),
        }
    }

    // No panic leaves the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way. A panic during it must not leave others waiting.
struct Leaving<'a> {
    shared: &'a Shared,
    pages: &'a Range<u64>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.pages.leave(self.pages);
        state.failed.get_or_insert((io::ErrorKind::Other, "a request panicked".into()));
        self.shared.changed.notify_all();
    }
}

impl Drop for Object {
    /// Requests that are under way end by themselves, and nobody waits for them.
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
        self.shared.changed.notify_all();
    }
}

impl ReadAt for Object {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let inside = self.bytes.saturating_sub(offset).min(buf.len() as u64);
        let inside = usize::try_from(inside).unwrap_or(buf.len());
        if inside > 0 {
            self.read(&(offset..offset + inside as u64), &mut buf[..inside])?;
        }
        Ok(inside)
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn failure(&self) -> Option<io::Error> {
        let failed = self.shared.state().failed.clone();
        match failed {
            Some((kind, why)) => Some(io::Error::new(kind, why)),
            None => self.shared.look_again().err(),
        }
    }

    fn will_need(&self, range: Range<u64>) {
        let range = range.start..range.end.min(self.bytes);
        if range.start < range.end {
            let mut state = self.shared.state();
            state.pages.want(pages_of(&range));
            self.employ(&state);
            self.shared.changed.notify_all();
        }
    }
}

/// The error of everything that would write.
fn read_only() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

impl Storage for Object {
    fn capacity(&self) -> Capacity {
        Capacity::Fixed(self.bytes)
    }
    fn write_at(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Err(read_only())
    }
    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(read_only())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(read_only())
    }
    fn write_zeroes(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(read_only())
    }
}
