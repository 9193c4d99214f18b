//! Rust source as text: the files of a folder, and the comments and string literals of one.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What a part of a source file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// From `//` to the end of the line.
    Comment,
    /// A string literal without its quotes.
    Literal,
}

/// The files of a folder and of the folders in it whose names end with `.` and `ending`, in the
/// order of their names. None for a folder that does not exist.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The comments and string literals of a source file, in order. Block comments are not used here.
pub fn parts(code: &str) -> Vec<(Part, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let before = code[..at].chars().next_back();
        let is_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        at += if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            found.push((Part::Comment, at..at + length));
            length
        } else if let Some(hashes) = raw_string(rest).filter(|_| !is_word) {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            let length = rest[start..].find(&end).expect("a raw string ends");
            found.push((Part::Literal, at + start..at + start + length));
            start + length + end.len()
        } else if c == '"' {
            let length = quoted(&rest[1..]);
            found.push((Part::Literal, at + 1..at + 1 + length));
            length + 2
        } else if c == '\'' {
            character(rest)
        } else {
            c.len_utf8()
        };
    }
    found
}

/// The number of `#` before the quote, where a raw string begins.
fn raw_string(rest: &str) -> Option<usize> {
    let tail = rest.strip_prefix('r')?;
    let hashes = tail.bytes().take_while(|b| *b == b'#').count();
    tail[hashes..].starts_with('"').then_some(hashes)
}

/// Bytes up to the quote that ends a string literal.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    let end = rest.bytes().position(|b| {
        let ends = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        ends
    });
    end.expect("a string ends")
}

/// Bytes of a character literal, or of the quote that begins a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, _))) => {
            at + 1 + rest[at + 1..].find('\'').expect("a character ends") + 1
        }
        (_, Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[test]
fn comments_and_literals_are_found() {
    let code = r##"let a = "one \" // two"; // three "four"
        let b = r#"five " six"#; let c = '"'; let d: &'static str = "seven"; let e = '\''; // 'x'"##;
    let texts: Vec<&str> = parts(code).into_iter().map(|(_, range)| &code[range]).collect();
    let expected = ["one \\\" // two", "// three \"four\"", "five \" six", "seven", "// 'x'"];
    assert_eq!(texts, expected);
}
