//! Where output goes, and how it has to look there.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

/// Standard output and standard error as a subcommand sees them.
pub struct Ui {
    /// Results.
    pub out: Output,
    /// Findings, errors and remarks.
    pub err: Output,
    name: String,
}

impl Ui {
    /// The process's own streams; `program` is argv\[0\].
    pub fn new(program: Option<&Path>) -> Self {
        let name =
            program.and_then(Path::file_name).map_or("qcheck".into(), |n| n.to_string_lossy());
        Self {
            out: Output::new(Box::new(io::stdout()), io::stdout().is_terminal()),
            err: Output::new(Box::new(io::stderr()), io::stderr().is_terminal()),
            name: name.into_owned(),
        }
    }

    /// The name under which the program was called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Prints one line under the program's name to standard error.
    pub fn message(&mut self, text: &str) -> io::Result<()> {
        // A message is one line, whatever it quotes.
        let line = format!("{}: {}", self.name, text.replace('\n', " "));
        self.err.line(&line)?;
        self.err.flush()
    }
}

/// One stream. Once its reader is gone, everything written to it is dropped without an error.
pub struct Output {
    sink: BufWriter<Box<dyn Write>>,
    terminal: bool,
    reader_gone: bool,
}

impl Output {
    /// A stream; on a terminal, control characters are escaped.
    pub fn new(sink: Box<dyn Write>, terminal: bool) -> Self {
        Self { sink: BufWriter::new(sink), terminal, reader_gone: false }
    }

    /// Whether a person is reading.
    pub const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes one line.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        let text = if self.terminal { escape(text) } else { Cow::Borrowed(text) };
        self.write_all(text.as_bytes())?;
        self.write_all(b"\n")
    }

    fn unless_gone<T>(&mut self, result: io::Result<T>, instead: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.reader_gone = true;
                Ok(instead)
            }
            other => other,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.reader_gone {
            return Ok(bytes.len());
        }
        let result = self.sink.write(bytes);
        self.unless_gone(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.reader_gone {
            return Ok(());
        }
        let result = self.sink.flush();
        self.unless_gone(result, ())
    }
}

/// The text with everything that could steer a terminal made visible.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            _ if !steers(c) => out.push(c),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            _ if u32::from(c) < 0x80 => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            _ => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(out)
}

/// Control characters, and those that change the direction of the text.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let mut out = Output::new(Box::new(Closed), false);
        out.line("one").unwrap();
        out.flush().unwrap();
        assert!(out.reader_gone);
        out.line("two").unwrap();
    }

    #[test]
    fn what_steers_a_terminal_is_made_visible() {
        assert_eq!(escape("plain ü"), "plain ü");
        assert_eq!(escape("a\u{1b}[2J\u{202E}b\u{9b}"), "a\\x1b[2J\\u{202e}b\\u{9b}");
    }
}
