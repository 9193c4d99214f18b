//! Requests and answers of HTTP/1.1 (RFC 9110 and 9112), as far as reading parts of an object needs
//! them.

use std::fmt::Write as _;
use std::io::{self, BufRead, Read};
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::location::Location;

/// Most bytes before the content of an answer.
const MAX_HEAD: u64 = 64 << 10;
/// Bytes of the longest object, as of the longest file.
const LONGEST: u64 = i64::MAX as u64;
/// Most interim answers before the one that counts.
const MAX_INTERIM: usize = 8;

/// A request for a part of an object.
pub fn request(at: &Location, range: &Range<u64>, tag: Option<&str>) -> String {
    let mut text = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", at.target, at.authority());
    let agent = concat!("User-Agent: qcheck/", env!("CARGO_PKG_VERSION"), "\r\n");
    text.push_str(agent);
    text.push_str("Accept: */*\r\nAccept-Encoding: identity\r\n");
    // Writing to text does not fail.
    let _ = write!(text, "Range: bytes={}-{}\r\n", range.start, range.end.saturating_sub(1));
    if let Some(tag) = tag {
        let _ = write!(text, "If-Match: {tag}\r\n");
    }
    if let Some((user, password)) = at.user() {
        let pair = STANDARD.encode(format!("{user}:{password}"));
        let _ = write!(text, "Authorization: Basic {pair}\r\n");
    }
    text.push_str("\r\n");
    text
}

/// An answer, up to its content.
#[derive(Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Whether the connection serves further requests.
    pub keeps: bool,
    fields: Vec<(String, String)>,
}

impl Head {
    /// Reads the answer up to its content.
    pub fn read(source: &mut impl BufRead) -> io::Result<Self> {
        for _ in 0..MAX_INTERIM {
            let head = Self::read_one(source)?;
            if !(100..200).contains(&head.status) {
                return Ok(head);
            }
        }
        Err(violation("more interim answers than there can be"))
    }

    fn read_one(source: &mut impl BufRead) -> io::Result<Self> {
        let mut left = MAX_HEAD;
        let first = line(source, &mut left)?;
        let rest = first.strip_prefix("HTTP/1.").ok_or_else(|| violation("it begins otherwise"))?;
        let is_one = rest.starts_with('1');
        let status = rest.get(2..5).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| violation("the answer has no status"))?;
        let mut fields = Vec::new();
        loop {
            let line = line(source, &mut left)?;
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| violation("a field has no name"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut head = Self { status, keeps: is_one, fields };
        if let Some(connection) = head.field("connection") {
            let closes = connection.eq_ignore_ascii_case("close");
            head.keeps = !closes && (is_one || connection.eq_ignore_ascii_case("keep-alive"));
        }
        Ok(head)
    }

    /// The value of a field; the name is in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// The part that the content is, and the length of the whole.
    pub fn content_range(&self) -> io::Result<(Range<u64>, u64)> {
        let missing = || violation("a part without its range");
        let text = self.field("content-range").ok_or_else(missing)?;
        let parsed = || {
            let (part, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
            let (start, last) = part.split_once('-')?;
            let (start, last): (u64, u64) = (start.trim().parse().ok()?, last.trim().parse().ok()?);
            let whole: u64 = whole.trim().parse().ok()?;
            (start <= last && last < whole && whole <= LONGEST).then_some((start..last + 1, whole))
        };
        parsed().ok_or_else(|| violation("the range of a part is not valid"))
    }

    /// The length of the whole where no part of it was requested.
    pub fn unsatisfied_length(&self) -> Option<u64> {
        let whole = self.field("content-range")?.strip_prefix("bytes */")?.trim().parse().ok()?;
        (whole <= LONGEST).then_some(whole)
    }

    /// Reads the content, which has to be so many bytes.
    pub fn read_content(&self, source: &mut impl BufRead, bytes: u64) -> io::Result<Vec<u8>> {
        let lies = || violation("the content has another length than its range");
        if self.field("content-encoding").is_some_and(|how| !how.eq_ignore_ascii_case("identity")) {
            return Err(violation("the content is encoded though that was not requested"));
        }
        let mut content = vec![0; usize::try_from(bytes).map_err(|_| lies())?];
        if let Some(how) = self.field("transfer-encoding") {
            if !how.eq_ignore_ascii_case("chunked") {
                return Err(violation("the transfer encoding is not supported"));
            }
            read_chunks(source, &mut content)?;
            return Ok(content);
        }
        let announced = self.field("content-length").map(str::parse::<u64>);
        match announced {
            Some(Ok(announced)) if announced == bytes => source.read_exact(&mut content)?,
            Some(_) => return Err(lies()),
            // The end of the connection is the end of the content.
            None if !self.keeps => source.read_exact(&mut content)?,
            None => return Err(violation("the content has no length")),
        }
        Ok(content)
    }
}

/// Reads content that comes in chunks.
fn read_chunks(source: &mut impl BufRead, content: &mut [u8]) -> io::Result<()> {
    let wrong = || violation("a chunk is not valid");
    let (mut at, mut left) = (0, MAX_HEAD);
    loop {
        let line = line(source, &mut left)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| wrong())?;
        if size == 0 {
            break;
        }
        let end = at + size.min(content.len() + 1);
        source.read_exact(content.get_mut(at..end).ok_or_else(wrong)?)?;
        at = end;
        if !self::line(source, &mut left)?.is_empty() {
            return Err(wrong());
        }
    }
    while !line(source, &mut left)?.is_empty() {}
    if at == content.len() { Ok(()) } else { Err(wrong()) }
}

/// One line without its end, of at most `left` bytes.
fn line(source: &mut impl BufRead, left: &mut u64) -> io::Result<String> {
    let mut line = Vec::new();
    let read = source.take(*left).read_until(b'\n', &mut line)?;
    *left -= read as u64;
    if line.pop() != Some(b'\n') {
        return Err(violation("an answer without an end"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| violation("a field is not text"))
}

/// A server that does not keep to the protocol.
pub fn violation(what: &str) -> io::Error {
    let why = format!("the server does not keep to HTTP: {what}");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> io::Result<Head> {
        Head::read(&mut text.as_bytes())
    }

    #[test]
    fn a_part_has_its_place_in_the_whole() {
        let head = head("HTTP/1.1 206 x\r\nContent-Range: bytes 5-9/20\r\nETag: \"a\"\r\n\r\n");
        let head = head.unwrap();
        assert_eq!((head.status, head.keeps, head.field("etag")), (206, true, Some("\"a\"")));
        assert_eq!(head.content_range().unwrap(), (5..10, 20));
        for wrong in [
            "bytes 9-5/20",
            "bytes 5-20/20",
            "bytes 5-9/*",
            "5-9/20",
            "bytes 0-9/9223372036854775808",
        ] {
            let text = format!("HTTP/1.1 206 x\r\nContent-Range: {wrong}\r\n\r\n");
            assert!(self::head(&text).unwrap().content_range().is_err(), "{wrong}");
        }
        let none = self::head("HTTP/1.1 416 x\nContent-Range: bytes */0\n\n").unwrap();
        assert_eq!(none.unsatisfied_length(), Some(0));
    }

    #[test]
    fn content_has_the_length_that_was_requested_or_is_an_error() {
        let content = |fields: &str, bytes: &str| {
            let text = format!("HTTP/1.1 206 x\r\n{fields}\r\n{bytes}");
            let mut source = text.as_bytes();
            Head::read(&mut source)?.read_content(&mut source, 5)
        };
        assert_eq!(content("Content-Length: 5\r\n", "hello").unwrap(), b"hello");
        let chunked = "Transfer-Encoding: chunked\r\n";
        assert_eq!(content(chunked, "2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n").unwrap(), b"hello");
        assert_eq!(content("Connection: close\r\n", "hello").unwrap(), b"hello");
        for (fields, bytes) in [
            ("Content-Length: 5\r\n", "hell"),
            ("Content-Length: 6\r\n", "hello!"),
            ("Content-Length: 5\r\nContent-Encoding: gzip\r\n", "hello"),
            ("", "hello"),
            (chunked, "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"),
            (chunked, "ffffffffffffffff\r\nhello"),
            (chunked, "2\r\nhe\r\n0\r\n\r\n"),
            ("Transfer-Encoding: gzip\r\n", "hello"),
        ] {
            assert!(content(fields, bytes).is_err(), "{fields}{bytes}");
        }
    }

    #[test]
    fn a_head_without_an_end_takes_no_memory() {
        assert!(head(&format!("HTTP/1.1 200 {}", "x".repeat(1 << 20))).is_err());
        assert!(head(&format!("HTTP/1.1 200 x\r\n{}", "a: b\r\n".repeat(1 << 18))).is_err());
        assert!(head(&"HTTP/1.1 100 x\r\n\r\n".repeat(1000)).is_err());
        for wrong in ["", "SSH-2.0", "HTTP/1.1 x\r\n\r\n", "HTTP/1.1 200 x\r\nno colon\r\n\r\n"] {
            assert!(head(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_request_names_the_part_and_the_version() {
        let at = Location::parse("http://u:p@h:81/x?y").unwrap();
        let text = request(&at, &(5..10), Some("\"a\""));
        for part in [
            "GET /x?y HTTP/1.1\r\nHost: h:81\r\n",
            "\r\nRange: bytes=5-9\r\n",
            "\r\nIf-Match: \"a\"\r\n",
            "\r\nAuthorization: Basic dTpw\r\n",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.ends_with("\r\n\r\n"));
    }
}
