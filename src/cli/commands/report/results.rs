//! Results of other runs.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::{Deserializer, Value};

use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::render::html::Entry;
use crate::cli::render::html::result::Line;
use crate::cli::render::verdict::record::time_text;
use crate::cli::terminal::fault;

/// A file with results, and the host that they are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    host: String,
    path: PathBuf,
}

impl Source {
    /// The file; `-` is standard input.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From `HOST=FILE` or `FILE`.
    pub fn parse(text: OsString) -> Self {
        let bytes = text.as_bytes();
        let equals = bytes.iter().position(|&byte| byte == b'=').filter(|&at| at > 0);
        match equals {
            Some(at) if !Path::new(&text).exists() => Self {
                host: String::from_utf8_lossy(&bytes[..at]).into_owned(),
                path: OsStr::from_bytes(&bytes[at + 1..]).into(),
            },
            _ => Self { host: String::new(), path: text.into() },
        }
    }

    /// All results in the file: lines of JSON, one object, or an array of them. A host without
    /// results is a result itself: nothing that was expected is missing from the page.
    pub fn load(&self) -> Result<Vec<Entry>> {
        let loaded = self.read();
        if self.host.is_empty() {
            return loaded;
        }
        Ok(loaded.unwrap_or_else(|error| {
            let line = Line {
                filename: "no results".into(),
                verdict: "no-verdict".into(),
                error: fault::line(&error),
                ..Line::default()
            };
            vec![self.entry(line)]
        }))
    }

    fn entry(&self, line: Line) -> Entry {
        Entry::new(line, self.host.clone(), self.path.display().to_string())
    }

    fn read(&self) -> Result<Vec<Entry>> {
        let path = &self.path;
        let (text, time) = content(path)?;
        let mut entries = Vec::new();
        for value in Deserializer::from_str(&text).into_iter::<Value>() {
            let context = |count: usize| format!("{}: result {}", quoted(path), count + 1);
            let values = match value.with_context(|| context(entries.len()))? {
                Value::Array(values) => values,
                value => vec![value],
            };
            for value in values {
                let line = Line::from_json(value).with_context(|| context(entries.len()));
                let mut line = line?;
                if line.checked_at.is_empty() {
                    line.checked_at.clone_from(&time);
                }
                entries.push(self.entry(line));
            }
        }
        if entries.is_empty() {
            bail!("{}: there are no results in it", quoted(path));
        }
        Ok(entries)
    }
}

/// A file, and when it was written: the time of results that have none.
fn content(path: &Path) -> Result<(String, String)> {
    let mut text = String::new();
    let mut time = Timestamp::now();
    if path == Path::new("-") {
        io::stdin().read_to_string(&mut text).context("could not read standard input")?;
    } else {
        let mut file = fs::File::open(path).with_context(|| could_not_open(path))?;
        if let Ok(written) = file.metadata().and_then(|found| found.modified()) {
            time = Timestamp::try_from(written).unwrap_or(time);
        }
        file.read_to_string(&mut text).with_context(|| could_not_open(path))?;
    }
    Ok((text, time_text(time)))
}
