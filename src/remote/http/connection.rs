//! One connection to a server, with TLS or without.

use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::location::Location;
use super::message::{Head, request};
use crate::remote::stream::Stream;

/// Bytes that are read from the connection at once.
const BUFFER: usize = 64 << 10;
/// Bytes of an answer that is not content which are read to keep the connection.
const MAX_REST: u64 = 64 << 10;
/// What the slowest server sends in a second; it has time for that beside the timeout.
const SLOWEST: u64 = 64 << 10;

/// A connection that is open.
pub struct Connection(BufReader<Transport>);

enum Transport {
    Plain(Stream),
    Secure(Box<StreamOwned<ClientConnection, Stream>>),
}

impl Transport {
    fn stream(&mut self) -> &mut Stream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(secure) => &mut secure.sock,
        }
    }
}

impl Read for Transport {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Secure(secure) => secure.read(buf),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Secure(secure) => secure.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Secure(secure) => secure.flush(),
        }
    }
}

/// An answer: its head, and its content where it is a part.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    pub content: Vec<u8>,
    /// Whether the connection can be used again.
    pub keeps: bool,
}

impl Connection {
    /// Connects to the server of a location; with `tls` the connection is secure.
    pub fn open(
        at: &Location,
        tls: Option<Arc<ClientConfig>>,
        timeout: Duration,
    ) -> io::Result<Self> {
        let stream = Stream::connect(&at.server(), timeout)?;
        let transport = match tls {
            None => Transport::Plain(stream),
            Some(tls) => {
                let name = ServerName::try_from(at.host.clone()).map_err(io::Error::other)?;
                let session = ClientConnection::new(tls, name).map_err(io::Error::other)?;
                Transport::Secure(Box::new(StreamOwned::new(session, stream)))
            }
        };
        Ok(Self(BufReader::with_capacity(BUFFER, transport)))
    }

    /// Requests a part; the server has `timeout` for it.
    pub fn get(
        &mut self,
        at: &Location,
        range: &Range<u64>,
        tag: Option<&str>,
        timeout: Duration,
    ) -> io::Result<Answer> {
        let bytes = range.end - range.start;
        let transport = self.0.get_mut();
        transport.stream().restart_clock_with(timeout + Duration::from_secs(bytes / SLOWEST));
        transport.write_all(request(at, range, tag).as_bytes())?;
        transport.flush()?;
        let head = Head::read(&mut self.0)?;
        if head.status != 206 {
            let keeps = head.keeps && self.skip_rest(&head);
            return Ok(Answer { head, content: Vec::new(), keeps });
        }
        let (part, whole) = head.content_range()?;
        // The object may end before the part that was requested does.
        if part.start != range.start || part.end != range.end.min(whole) {
            return Err(super::message::violation("another part than was requested"));
        }
        let content = head.read_content(&mut self.0, part.end - part.start)?;
        let keeps = head.keeps;
        Ok(Answer { head, content, keeps })
    }

    /// Reads the rest of an answer that is an error; whether all of it was read.
    fn skip_rest(&mut self, head: &Head) -> bool {
        let bytes = head.field("content-length").and_then(|bytes| bytes.parse().ok());
        let Some(bytes) = bytes.filter(|&bytes: &u64| bytes <= MAX_REST) else { return false };
        head.read_content(&mut self.0, bytes).is_ok()
    }
}
