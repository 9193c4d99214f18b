//! Where output goes, and how it has to look there.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use anstyle::Style;

use super::color::{BAD, STRONG, When};

/// The program whose place this one takes when it is called by that name.
pub const QEMU_IMG: &str = "qemu-img";

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
    pub fn new(program: Option<&Path>, color: When) -> Self {
        let name =
            program.and_then(Path::file_name).map_or("qcheck".into(), |n| n.to_string_lossy());
        let mut ui = Self {
            out: Output::new(Box::new(io::stdout()), io::stdout().is_terminal()),
            err: Output::new(Box::new(io::stderr()), io::stderr().is_terminal()),
            name: name.into_owned(),
        };
        ui.set_color(color);
        ui
    }

    /// Chooses when there are colours. Under qemu-img's name there are none: it has none.
    pub fn set_color(&mut self, when: When) {
        let when = if self.name == QEMU_IMG { When::Never } else { when };
        self.out.colored = when.applies_to(&io::stdout());
        self.err.colored = when.applies_to(&io::stderr());
    }

    /// The name under which the program was called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Prints one line under the program's name to standard error.
    pub fn message(&mut self, text: &str) -> io::Result<()> {
        self.say(STRONG, text)
    }

    /// Likewise, for what ends the work.
    pub fn error(&mut self, text: &str) -> io::Result<()> {
        self.say(BAD, text)
    }

    fn say(&mut self, style: Style, text: &str) -> io::Result<()> {
        // A message is one line, whatever it quotes.
        let text = text.replace('\n', " ");
        let name = format!("{}:", self.name);
        self.err.styled(&[(style, &name), (Style::new(), &format!(" {text}"))])?;
        self.err.flush()
    }
}

/// One stream. Once its reader is gone, everything written to it is dropped without an error.
pub struct Output {
    sink: BufWriter<Box<dyn Write>>,
    terminal: bool,
    colored: bool,
    reader_gone: bool,
    failed: bool,
}

impl Output {
    /// A stream; on a terminal, control characters are escaped.
    pub fn new(sink: Box<dyn Write>, terminal: bool) -> Self {
        Self {
            sink: BufWriter::new(sink),
            terminal,
            colored: false,
            reader_gone: false,
            failed: false,
        }
    }

    /// Whether a person is reading.
    pub const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether something could not be written, other than to a reader that is gone.
    pub const fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether what is written has colours.
    pub const fn is_colored(&self) -> bool {
        self.colored
    }

    /// Writes one line whose parts have their own styles, where there are colours.
    pub fn styled(&mut self, parts: &[(Style, &str)]) -> io::Result<()> {
        for (style, text) in parts {
            let text = if self.terminal { escape(text) } else { Cow::Borrowed(*text) };
            match self.colored && *style != Style::new() {
                true => write!(self, "{style}{text}{style:#}")?,
                false => self.write_all(text.as_bytes())?,
            }
        }
        self.write_all(b"\n")
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
            other => {
                self.failed |= other.is_err();
                other
            }
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

/// How many characters a line of standard output has: those of the terminal, else 80.
pub fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.map(|size| usize::from(size.ws_col)).ok().filter(|&width| width > 0).unwrap_or(80)
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
    fn a_reader_that_went_away_is_not_an_error() {
        let mut out = Output::new(Box::new(Closed), false);
        out.line("one").unwrap();
        out.flush().unwrap();
        assert!(out.reader_gone);
        out.line("two").unwrap();
    }

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn colours_stand_around_a_text_whose_own_are_made_visible() {
        for (terminal, colored, want) in [
            (true, true, "\u{1b}[1m\\x1b[2J\u{1b}[0m b\n"),
            (true, false, "\\x1b[2J b\n"),
            (false, false, "\u{1b}[2J b\n"),
        ] {
            let kept = Kept::default();
            let mut out = Output::new(Box::new(kept.clone()), terminal);
            out.colored = colored;
            out.styled(&[(STRONG, "\u{1b}[2J"), (Style::new(), " b")]).unwrap();
            out.flush().unwrap();
            assert_eq!(String::from_utf8(kept.0.borrow().clone()).unwrap(), want);
        }
    }

    #[test]
    fn what_steers_a_terminal_is_made_visible() {
        assert_eq!(escape("plain ü"), "plain ü");
        assert_eq!(escape("a\u{1b}[2J\u{202E}b\u{9b}"), "a\\x1b[2J\\u{202e}b\\u{9b}");
    }
}
