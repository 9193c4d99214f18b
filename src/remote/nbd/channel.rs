//! Requests of several threads on one connection.
//!
//! Each thread sends its requests and waits for the replies with their cookies. A thread of the
//! channel reads all replies, so that the server never waits for a client that is sending. There is
//! one connection: many servers accept no second one, and a request is not slower for sharing it.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::reply::{Chunk, Payload, Reply};
use super::wire::{
    Command, Fields, REQUEST_BYTES, Request, SIMPLE_REPLY, STRUCTURED_REPLY, violation,
};
use crate::remote::stream::Stream;

/// How many times the usual time a server has that may have much to write before it answers.
const SLOW: u32 = 20;
/// Data up to this length is sent together with its request.
const JOINED: usize = 64 << 10;

/// A connection after the handshake.
#[derive(Debug)]
pub struct Channel {
    sender: Mutex<Stream>,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

/// What the threads that send and the one that reads have in common.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A reply is done, a request is sent, or the channel is closed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    replies: HashMap<u64, Reply>,
    /// How many of the replies are not done.
    pending: usize,
    last_cookie: u64,
    /// Why the connection cannot be used any more.
    broken: Option<(io::ErrorKind, String)>,
}

/// A request that was sent.
#[derive(Debug)]
#[must_use]
pub struct Sent(u64);

impl Channel {
    /// Takes a connection; with `structured` replies may be in chunks.
    pub fn new(stream: Stream, structured: bool) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let source = BufReader::with_capacity(JOINED, stream.try_clone()?);
        let receiver = Receiver { source, shared: shared.clone(), structured };
        let reader = thread::Builder::new().name("nbd".into()).spawn(|| receiver.run())?;
        Ok(Self { sender: Mutex::new(stream), shared, reader: Some(reader) })
    }

    /// Why the connection cannot be used any more, where that is so.
    pub fn failure(&self) -> Option<io::Error> {
        self.shared.state().refuse_if_broken().err()
    }

    /// Sends a request, and the data that belongs to it.
    pub fn send(&self, request: Request, data: &[u8]) -> io::Result<Sent> {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let cookie = self.shared.expect(request)?;
        let head = request.encode(cookie);
        sender.restart_clock();
        let sent = match data.len() {
            0..=JOINED => {
                let mut message = Vec::with_capacity(REQUEST_BYTES + data.len());
                message.extend(head);
                message.extend(data);
                sender.write_all(&message)
            }
            _ => sender.write_all(&head).and_then(|()| sender.write_all(data)),
        };
        sent.map(|()| Sent(cookie)).map_err(|error| {
            sender.shut_down();
            self.shared.break_off(&error)
        })
    }

    /// The data that answers a request; the error is that of the server or of the connection.
    pub fn receive(&self, sent: Sent) -> io::Result<Vec<u8>> {
        let mut state = self.shared.state();
        loop {
            if state.replies.get(&sent.0).is_some_and(Reply::is_done) {
                let reply = state.replies.remove(&sent.0);
                return reply.ok_or_else(|| violation("an answer is lost"))?.into_data();
            }
            state.refuse_if_broken()?;
            state = self.shared.wait(state);
        }
    }

    /// Sends a request and waits for its answer.
    pub fn call(&self, request: Request, data: &[u8]) -> io::Result<Vec<u8>> {
        self.receive(self.send(request, data)?)
    }
}

impl Drop for Channel {
    /// Ends the session; there is no answer.
    fn drop(&mut self) {
        let is_broken = self.shared.state().broken.is_some();
        let end = Request { command: Command::Disconnect, fua: false, offset: 0, length: 0 };
        let sender = self.sender.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !is_broken {
            sender.restart_clock();
            // The server sees the end of the connection too.
            let _ = sender.write_all(&end.encode(0));
        }
        sender.shut_down();
        self.shared.break_off(&io::ErrorKind::NotConnected.into());
        if let Some(reader) = self.reader.take() {
            // A panic of the reader was printed by itself.
            let _ = reader.join();
        }
    }
}

impl Shared {
    /// Enters a request that is about to be sent; returns its cookie.
    fn expect(&self, request: Request) -> io::Result<u64> {
        let mut state = self.state();
        state.refuse_if_broken()?;
        state.last_cookie += 1;
        state.pending += 1;
        let cookie = state.last_cookie;
        state.replies.insert(cookie, Reply::to(request));
        self.changed.notify_all();
        Ok(cookie)
    }

    /// The connection cannot be used any more, for no thread: remembers the first error and returns
    /// it.
    fn break_off(&self, error: &io::Error) -> io::Error {
        let mut state = self.state();
        let broken = (error.kind(), crate::error::cause(error));
        let (kind, why) = state.broken.get_or_insert(broken).clone();
        state.replies.retain(|_, reply| reply.is_done());
        self.changed.notify_all();
        io::Error::new(kind, why)
    }

    // No panic leaves the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refuse_if_broken(&self) -> io::Result<()> {
        match &self.broken {
            Some((kind, why)) => Err(io::Error::new(*kind, why.clone())),
            None => Ok(()),
        }
    }
}

/// The side that reads.
struct Receiver {
    source: BufReader<Stream>,
    shared: Arc<Shared>,
    structured: bool,
}

impl Receiver {
    /// Reads replies as long as there are requests, until the connection is broken off.
    fn run(mut self) {
        loop {
            let mut state = self.shared.state();
            while state.pending == 0 && state.broken.is_none() {
                state = self.shared.wait(state);
            }
            if state.broken.is_some() {
                return;
            }
            drop(state);
            if let Err(error) = self.next_part() {
                self.source.get_ref().shut_down();
                self.shared.break_off(&error);
            }
        }
    }

    /// Reads a simple reply or one chunk of a structured one. The server has the whole time for
    /// each, and longer where it may have much to write first; for all chunks of a reply it has the
    /// whole time once.
    fn next_part(&mut self) -> io::Result<()> {
        let is_slow = self.shared.state().replies.values().any(Reply::is_slow);
        self.source.get_mut().restart_clock_times(if is_slow { SLOW } else { 1 });
        let mut head = [0; 16];
        self.source.read_exact(&mut head)?;
        let mut fields = Fields(&head);
        let magic = fields.u32()?;
        if magic != SIMPLE_REPLY && !(magic == STRUCTURED_REPLY && self.structured) {
            return Err(violation(format_args!("a reply begins with {magic:#010x}")));
        }
        // An error in the one form; flags and type of a chunk in the other.
        let (high, low) = (fields.u16()?, fields.u16()?);
        let cookie = fields.u64()?;
        let unknown = || violation("it answers a request that was not made");
        let reply = self.shared.state().replies.remove(&cookie).filter(|reply| !reply.is_done());
        let mut reply = reply.ok_or_else(unknown)?;
        match magic {
            SIMPLE_REPLY => {
                let error = u32::from(high) << 16 | u32::from(low);
                if let Some(payload) = reply.simple(error)? {
                    self.read_payload(&mut reply, low, payload)?;
                }
            }
            _ => {
                let mut length = [0; 4];
                self.source.read_exact(&mut length)?;
                let chunk = Chunk { flags: high, kind: low, bytes: u32::from_be_bytes(length) };
                self.read_chunk(&mut reply, chunk)?;
            }
        }
        if reply.is_late(self.source.get_ref().timeout()) {
            return Err(self.source.get_ref().late());
        }
        let mut state = self.shared.state();
        if reply.is_done() {
            state.pending -= 1;
        }
        state.replies.insert(cookie, reply);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Reads what follows the head of a chunk.
    fn read_chunk(&mut self, reply: &mut Reply, chunk: Chunk) -> io::Result<()> {
        let offset = match reply.has_data(chunk)? {
            true => {
                let mut offset = [0; 8];
                self.source.read_exact(&mut offset)?;
                Some(u64::from_be_bytes(offset))
            }
            false => None,
        };
        let payload = reply.chunk(chunk, offset)?;
        self.read_payload(reply, chunk.kind, payload)?;
        if reply.is_done() { reply.end() } else { Ok(()) }
    }

    fn read_payload(&mut self, reply: &mut Reply, kind: u16, payload: Payload) -> io::Result<()> {
        match payload {
            Payload::Data { from, bytes } => self.source.read_exact(reply.part(from, bytes)?),
            Payload::Other(bytes) => {
                let mut payload = vec![0; bytes];
                self.source.read_exact(&mut payload)?;
                reply.take(kind, &payload)
            }
        }
    }
}
