//! Opening the image that the user names.

use std::path::Path;

use anyhow::{Context, Result, bail};
use qcheck::chain::Link;
use qcheck::file::{ImageFile, Intent};
use qcheck::medium::Medium;
use qcheck::{Error, ImageFormat};

use super::{remote, spool};
use crate::cli::args::cache::Cache;
use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::args::format::recorded_format;

/// Opens and locks an image and finds out its format where none is given. With `share` it is read
/// though another program may be writing it.
pub fn open(
    path: &Path,
    format: Option<ImageFormat>,
    intent: Intent,
    share: bool,
) -> Result<ImageFile> {
    let storage = match (intent.writes(), spool::is_standard(path)) {
        (true, true) => bail!("{}: a stream can only be read", quoted(path)),
        (false, true) => spool::seekable(path)?.into(),
        (true, false) => {
            Medium::open_write(path, remote::settings()).with_context(|| could_not_open(path))?
        }
        (false, false) => {
            Medium::open_read(path, remote::settings()).with_context(|| could_not_open(path))?
        }
    };
    let file = ImageFile::of(storage, format).with_context(|| quoted(path).to_string())?;
    file.lock(intent, share).with_context(|| could_not_open(path))?;
    log::info!("{}: format {}, {intent:?}", quoted(path), file.format.name());
    Ok(file)
}

/// The format of a backing file: the one that is recorded, or else raw, unless it begins like an
/// image.
pub fn format_below(link: &Link, share: bool) -> Result<ImageFormat> {
    if let Some(format) = link.recorded() {
        return recorded_format(format).map_err(anyhow::Error::msg);
    }
    // One that cannot be opened now is reported by whoever opens it to read it.
    if let Ok(opened) = open(&link.path, None, Intent::Describe, share) {
        link.format(&opened.storage).map_err(Error::from)?;
    }
    Ok(ImageFormat::Raw)
}

/// The format that a file, read as raw without an explicit format, seems to have.
pub fn likeness_notice(
    path: &Path,
    file: &ImageFile,
    given: Option<ImageFormat>,
) -> Option<String> {
    let likeness = if given.is_none() { file.likeness() } else { None };
    likeness.map(|likeness| seems(path, &likeness))
}

/// The notice that a file seems to be something else than a raw disk.
pub fn seems(path: &Path, likeness: &str) -> String {
    format!("NOTICE: {} seems to be {likeness}", quoted(path))
}

/// Applies a cache mode to the writes of a file.
pub fn apply_cache(cache: Cache, storage: &mut Medium, path: &Path) -> Result<()> {
    if cache == Cache::Unsafe {
        storage.leave_unflushed();
    }
    if cache.is_direct() { bypass_cache(storage, path, true) } else { Ok(()) }
}

/// Makes an open file be read, or also written, past the page cache.
pub fn bypass_cache(storage: &mut Medium, path: &Path, writing: bool) -> Result<()> {
    let bypassed = storage.bypass_cache(writing);
    bypassed.with_context(|| format!("{}: the page cache cannot be bypassed", quoted(path)))
}
