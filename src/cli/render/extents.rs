//! Extents of a disk, as qemu-img's table or as JSON. There can be millions: lines are put together
//! in memory and written in large pieces.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use qcheck::disk::{Extent, ExtentKind};

use super::json;
use crate::cli::args::output::Output;

/// Bytes of text that are written together.
const PIECE: usize = 1 << 16;
/// Characters of each number in the table.
const COLUMN: usize = 16;

/// Prints extents one after the other.
#[derive(Debug)]
pub struct Printer<W> {
    out: W,
    form: Output,
    text: Vec<u8>,
    /// Whether none was printed yet.
    is_first: bool,
}

impl<W: Write> Printer<W> {
    /// Begins to print.
    pub fn new(out: W, form: Output) -> Self {
        let head: &[u8] = match form {
            Output::Human => b"Offset          Length          Mapped to       File\n",
            Output::Json => b"[",
        };
        Self { out, form, text: head.to_vec(), is_first: true }
    }

    /// Prints an extent.
    pub fn add(&mut self, extent: &Extent<'_>) -> io::Result<()> {
        match self.form {
            Output::Human => self.row(extent),
            Output::Json => self.object(&extent.into()),
        }
        self.is_first = false;
        if self.text.len() >= PIECE { self.write_text() } else { Ok(()) }
    }

    /// Ends the output after the last extent of a range that began at `start`.
    pub fn end(&mut self, start: u64) -> io::Result<()> {
        if self.form == Output::Json {
            // As qemu-img prints a range without bytes.
            if self.is_first {
                self.object(&json::extents::Extent { start, ..Default::default() });
            }
            self.text.extend_from_slice(b"]\n");
        }
        self.write_text()
    }

    /// Writes what is left after an error.
    pub fn write_text(&mut self) -> io::Result<()> {
        let done = self.out.write_all(&self.text);
        self.text.clear();
        done
    }

    /// A row of the table, for data alone.
    fn row(&mut self, extent: &Extent<'_>) {
        if extent.kind != ExtentKind::Data || extent.zero {
            return;
        }
        for number in [extent.start, extent.length, extent.host.unwrap_or(0)] {
            let end = self.text.len() + COLUMN;
            self.hexadecimal(number);
            self.text.resize(self.text.len().max(end), b' ');
        }
        let file = extent.file.map(|file| file.as_os_str().as_bytes());
        self.text.extend_from_slice(file.unwrap_or_default());
        self.text.push(b'\n');
    }

    /// A line of JSON.
    fn object(&mut self, extent: &json::extents::Extent) {
        if !self.is_first {
            self.text.extend_from_slice(b",\n");
        }
        extent.print(&mut self.text);
    }

    /// As C prints it with `%#x`: 0 has no prefix.
    fn hexadecimal(&mut self, number: u64) {
        if number > 0 {
            self.text.extend_from_slice(b"0x");
        }
        self.digits(number);
    }

    /// The formatting of the standard library takes longer than all the rest.
    fn digits(&mut self, mut number: u64) {
        let begin = self.text.len();
        loop {
            let digit = usize::try_from(number % 16).unwrap_or(0);
            self.text.push(b"0123456789abcdef"[digit]);
            number /= 16;
            if number == 0 {
                break;
            }
        }
        self.text[begin..].reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_c_prints_them() {
        for number in [0, 1, 9, 10, 255, 65_536, u64::MAX] {
            let mut printer = Printer::new(Vec::new(), Output::Human);
            printer.text.clear();
            printer.hexadecimal(number);
            let hex = if number == 0 { "0".to_owned() } else { format!("{number:#x}") };
            assert_eq!(printer.text, hex.as_bytes());
        }
    }
}
