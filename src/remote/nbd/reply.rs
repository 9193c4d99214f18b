//! What answers one request, from the chunks that the server sends.

use std::io;
use std::time::{Duration, Instant};

use super::wire::{
    CHUNK_DATA, CHUNK_DONE, CHUNK_ERROR, CHUNK_HOLE, CHUNK_NONE, CHUNK_STATUS, Command, Fields,
    Request, failure, violation,
};
use crate::storage::RangeSet;

/// Most chunks of an answer that carry no data of it.
const MAX_EMPTY_CHUNKS: usize = 16;
/// Most bytes of a chunk that is not data: as many extents as QEMU sends.
const MAX_CHUNK: u64 = (2 << 20) + 4;

/// An answer while it comes in.
#[derive(Debug)]
pub struct Reply {
    request: Request,
    /// The data of a read, or the extents of a block status as they were sent.
    data: Vec<u8>,
    received: RangeSet,
    empty_chunks: usize,
    error: Option<io::Error>,
    is_done: bool,
    /// When the first chunk of it came.
    begun: Option<Instant>,
}

/// Where the payload of a chunk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// To these bytes of the data.
    Data { from: usize, bytes: usize },
    /// To [`Reply::take`], as it is.
    Other(usize),
}

/// The head of a chunk of a structured reply.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    pub flags: u16,
    pub kind: u16,
    pub bytes: u32,
}

impl Reply {
    /// Whether the server may have to write much before it answers.
    pub const fn is_slow(&self) -> bool {
        let is_slow =
            matches!(self.request.command, Command::Flush | Command::Trim | Command::WriteZeroes);
        is_slow && !self.is_done
    }

    /// An answer of which nothing is there yet.
    pub fn to(request: Request) -> Self {
        let bytes = if request.command == Command::Read { request.length as usize } else { 0 };
        Self {
            request,
            data: vec![0; bytes],
            received: RangeSet::default(),
            empty_chunks: 0,
            error: None,
            is_done: false,
            begun: None,
        }
    }

    /// Whether its chunks have been coming for longer than this, without an end.
    pub fn is_late(&mut self, timeout: Duration) -> bool {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        !self.is_done && begun.elapsed() > timeout
    }

    /// Whether all of it is there.
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// The data, or why the server sent no data.
    pub fn into_data(self) -> io::Result<Vec<u8>> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.data),
        }
    }

    /// A part of the data, for a payload.
    pub fn part(&mut self, from: usize, bytes: usize) -> io::Result<&mut [u8]> {
        let end = from.saturating_add(bytes);
        self.data.get_mut(from..end).ok_or_else(|| violation("data outside of the request"))
    }

    /// A simple reply, with the payload that follows it.
    pub fn simple(&mut self, error: u32) -> io::Result<Option<Payload>> {
        self.is_done = true;
        if error != 0 {
            self.error = Some(failure(error));
            return Ok(None);
        }
        match self.request.command {
            Command::Read => Ok(Some(Payload::Data { from: 0, bytes: self.data.len() })),
            Command::BlockStatus => Err(violation("a block status in a simple reply")),
            _ => Ok(None),
        }
    }

    /// A chunk, with the payload that follows it; `offset` is the first field of one with data.
    pub fn chunk(&mut self, chunk: Chunk, offset: Option<u64>) -> io::Result<Payload> {
        self.is_done = chunk.flags & CHUNK_DONE != 0;
        let bytes = u64::from(chunk.bytes);
        match offset {
            Some(offset) => {
                let bytes = bytes.checked_sub(8).filter(|&bytes| bytes > 0);
                let bytes = bytes.ok_or_else(|| violation("a chunk without data"))?;
                let from = self.receive(offset, bytes)?;
                let bytes = usize::try_from(bytes).map_err(violation)?;
                Ok(Payload::Data { from, bytes })
            }
            None if bytes > MAX_CHUNK => Err(violation(format_args!("a chunk of {bytes} bytes"))),
            None => {
                self.empty_chunks += 1;
                if self.empty_chunks > MAX_EMPTY_CHUNKS && chunk.kind != CHUNK_HOLE {
                    return Err(violation("an answer without an end"));
                }
                Ok(Payload::Other(chunk.bytes as usize))
            }
        }
    }

    /// Whether the payload of a chunk begins with an offset and goes into the data.
    pub fn has_data(&self, chunk: Chunk) -> io::Result<bool> {
        let is = chunk.kind == CHUNK_DATA;
        if is && self.request.command != Command::Read {
            return Err(violation("data that answers no read"));
        }
        Ok(is)
    }

    /// Takes the payload of a chunk that is not data.
    pub fn take(&mut self, kind: u16, payload: &[u8]) -> io::Result<()> {
        let mut fields = Fields(payload);
        match kind {
            CHUNK_NONE if payload.is_empty() => Ok(()),
            CHUNK_HOLE if self.request.command == Command::Read && payload.len() == 12 => {
                let (offset, bytes) = (fields.u64()?, u64::from(fields.u32()?));
                if bytes == 0 {
                    return Err(violation("a hole of no bytes"));
                }
                self.receive(offset, bytes).map(|_| ())
            }
            CHUNK_STATUS if self.request.command == Command::BlockStatus => {
                self.data.extend(payload);
                Ok(())
            }
            kind if kind & CHUNK_ERROR != 0 => {
                let number = fields.u32()?;
                if number == 0 {
                    return Err(violation("an error without a number"));
                }
                self.error.get_or_insert(failure(number));
                Ok(())
            }
            _ => {
                Err(violation(format_args!("a chunk of type {kind} with {} bytes", payload.len())))
            }
        }
    }

    /// Checks an answer that is done.
    pub fn end(&self) -> io::Result<()> {
        let is_short = self.request.command == Command::Read
            && self.received.total() != u64::from(self.request.length);
        match (&self.error, is_short) {
            (None, true) => Err(violation("an answer has less data than was requested")),
            _ => Ok(()),
        }
    }

    /// Notes that these bytes have come, each of them for the first time.
    fn receive(&mut self, offset: u64, bytes: u64) -> io::Result<usize> {
        let outside = || violation("data outside of the request");
        let from = offset.checked_sub(self.request.offset).ok_or_else(outside)?;
        let end = from.checked_add(bytes).filter(|&end| end <= u64::from(self.request.length));
        let range = from..end.ok_or_else(outside)?;
        if self.received.overlaps(&range) {
            return Err(violation("the same data twice"));
        }
        self.received.insert(range);
        usize::try_from(from).map_err(violation)
    }
}
