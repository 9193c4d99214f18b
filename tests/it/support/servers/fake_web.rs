//! A web server for one object, which counts what it sends and misbehaves as requested.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Parts are not sent: the whole is.
    NoRanges,
    /// The connection ends in the middle of the content.
    Cut,
    /// The connection ends without an answer.
    Reset,
    /// Nothing comes.
    Hang,
    /// Another part comes than was requested.
    OtherPart,
    /// The content is shorter than its range.
    Shorter,
    /// The content is announced as longer than its range.
    Longer,
    /// The head has no end.
    EndlessHead,
    /// The object has another tag.
    OtherTag,
    /// The object has another length.
    OtherLength,
    /// This status, with this field.
    Status(u16, String),
    /// The object has other content of the same length.
    OtherContent,
}

/// How the server is.
#[derive(Debug, Clone)]
pub struct Manner {
    /// What goes wrong.
    pub fault: Fault,
    /// With so many requests before.
    pub after: usize,
    /// And not after so many.
    pub times: usize,
    /// Time that passes before each answer.
    pub delay: Duration,
    /// Whether the object has a tag and a time.
    pub has_version: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            fault: Fault::None,
            after: 0,
            times: usize::MAX,
            delay: Duration::ZERO,
            has_version: true,
        }
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// All its fields, as one text in lower case.
    pub fields: String,
    /// What of the object was sent.
    pub sent: Range<u64>,
}

/// A server with its object.
#[derive(Debug)]
pub struct FakeWeb {
    port: u16,
    shared: Arc<Shared>,
}

/// Fills a buffer with the bytes of the object at an offset.
type Content = Box<dyn Fn(u64, &mut [u8]) + Send + Sync>;

struct Shared {
    manner: Manner,
    bytes: u64,
    content: Content,
    seen: Mutex<Vec<Seen>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("manner", &self.manner).finish_non_exhaustive()
    }
}

impl FakeWeb {
    /// Serves these bytes until the process ends.
    pub fn start(content: Vec<u8>, manner: Manner) -> Self {
        let bytes = content.len() as u64;
        let read = move |offset: u64, buf: &mut [u8]| {
            buf.copy_from_slice(&content[offset as usize..offset as usize + buf.len()]);
        };
        Self::start_with(bytes, Box::new(read), manner)
    }

    /// Serves so many bytes, which a function makes.
    pub fn start_with(bytes: u64, content: Content, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { manner, bytes, content, seen: Mutex::default() });
        let served = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = served.clone();
                thread::spawn(move || shared.serve(client));
            }
        });
        Self { port, shared }
    }

    /// The name of the object, or of another path of the server.
    pub fn name(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Bytes of the object that were sent more than once.
    pub fn bytes_twice(&self) -> u64 {
        let mut sent: Vec<_> = self.seen().into_iter().map(|seen| seen.sent).collect();
        sent.sort_by_key(|range| range.start);
        let (mut end, mut twice) = (0, 0);
        for range in sent {
            twice += end.min(range.end).saturating_sub(range.start);
            end = end.max(range.end);
        }
        twice
    }
}

impl Shared {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut source = BufReader::new(client.try_clone()?);
        let mut client = client;
        loop {
            let (mut first, mut fields) = (String::new(), String::new());
            if source.read_line(&mut first)? == 0 {
                return Ok(());
            }
            loop {
                let mut line = String::new();
                source.read_line(&mut line)?;
                if line.trim().is_empty() {
                    break;
                }
                fields.push_str(&line.to_lowercase());
            }
            let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
            let range = fields.lines().find_map(|line| line.strip_prefix("range: bytes="));
            let (start, last) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
            let start: u64 = start.parse().unwrap();
            let end = last.trim().parse().map_or(self.bytes, |last: u64| last + 1).min(self.bytes);
            let number = {
                let mut seen = self.seen.lock().unwrap();
                seen.push(Seen { fields, sent: start..end.max(start) });
                seen.len()
            };
            thread::sleep(self.manner.delay);
            let is_now =
                number > self.manner.after && number - self.manner.after <= self.manner.times;
            let fault = if is_now { self.manner.fault.clone() } else { Fault::None };
            self.answer(&mut client, &path, start..end, fault)?;
        }
    }

    fn answer(
        &self,
        client: &mut TcpStream,
        path: &str,
        mut range: Range<u64>,
        fault: Fault,
    ) -> io::Result<()> {
        let gone = || Err(io::ErrorKind::ConnectionReset.into());
        if let Some(to) = path.strip_prefix("/to/") {
            let head = format!("HTTP/1.1 302 x\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            return client.write_all(head.as_bytes());
        }
        match &fault {
            Fault::Status(status, field) => {
                let head = format!("HTTP/1.1 {status} x\r\n{field}Content-Length: 4\r\n\r\noops");
                return client.write_all(head.as_bytes());
            }
            Fault::Reset => return gone(),
            Fault::Hang => thread::sleep(Duration::from_secs(3600)),
            Fault::NoRanges => {
                let head = format!("HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n", self.bytes);
                client.write_all(head.as_bytes())?;
                return gone();
            }
            Fault::EndlessHead => {
                client.write_all(b"HTTP/1.1 206 x\r\n")?;
                loop {
                    client.write_all(b"X: y\r\n")?;
                }
            }
            Fault::OtherPart => range.start += 1,
            _ => {}
        }
        let tag = if fault == Fault::OtherTag { "\"b\"" } else { "\"a\"" };
        let version = match self.manner.has_version {
            true => format!("ETag: {tag}\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n"),
            false => String::new(),
        };
        let whole = if fault == Fault::OtherLength { self.bytes + 512 } else { self.bytes };
        if range.is_empty() {
            let head = format!(
                "HTTP/1.1 416 x\r\n{version}Content-Range: bytes */{whole}\r\nContent-Length: 0\r\n\r\n"
            );
            return client.write_all(head.as_bytes());
        }
        let mut content = vec![0; (range.end - range.start) as usize];
        (self.content)(range.start, &mut content);
        if fault == Fault::OtherContent {
            content.iter_mut().for_each(|byte| *byte ^= 1);
        }
        let length = match fault {
            Fault::Shorter => content.len() / 2,
            Fault::Longer => content.len() + 7,
            _ => content.len(),
        };
        let head = format!(
            "HTTP/1.1 206 x\r\n{version}Content-Range: bytes {}-{}/{whole}\r\n\
             Content-Length: {length}\r\n\r\n",
            range.start,
            range.end - 1
        );
        client.write_all(head.as_bytes())?;
        if fault == Fault::Cut {
            client.write_all(&content[..content.len() / 2])?;
            client.shutdown(std::net::Shutdown::Both)?;
            return gone();
        }
        client.write_all(&content)
    }
}
