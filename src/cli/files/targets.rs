//! The images to check: those named, those in a list, and those below them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use qcheck::ImageFormat;
use qcheck::chain::{Opener, Stop, Walk};
use qcheck::crypt::Key;
use qcheck::file::{ImageFile, Intent};
use qcheck::tables::HeaderArea;

use super::open;
use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::args::image_name::{ImageName, Named};
use crate::cli::files::remote;
use crate::cli::terminal::fault;
use crate::cli::terminal::redacted::redacted;

/// Bytes of a list of images, which no list of names reaches, and of a name (Linux: PATH_MAX).
const MOST_LIST_BYTES: u64 = 256 << 20;
const MOST_NAME_BYTES: usize = 4096;

/// An image to check.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it is.
    pub path: PathBuf,
    /// Its format, where it is known.
    pub format: Option<ImageFormat>,
    /// The secret of an encrypted image.
    pub key: Key,
    /// Why it cannot be checked, where that is known before it is opened.
    pub problem: Option<String>,
    /// Whether it is here as the backing file of another image.
    pub is_below: bool,
}

/// The names in a list, one a line; or each with a zero byte after it, where there is one.
pub fn listed(file: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut bytes = Vec::new();
    let read = |source: &mut dyn Read, bytes: &mut Vec<u8>| {
        source.take(MOST_LIST_BYTES).read_to_end(bytes)
    };
    if file == Path::new("-") {
        read(&mut io::stdin().lock(), &mut bytes).context("could not read standard input")?;
    } else {
        let opened = fs::File::open(file).and_then(|mut list| read(&mut list, &mut bytes));
        opened.with_context(|| could_not_open(file))?;
    }
    let names = names(&bytes);
    let too_long = names.iter().any(|name| name.as_os_str().len() > MOST_NAME_BYTES);
    if too_long || bytes.len() as u64 == MOST_LIST_BYTES {
        bail!("{}: this is not a list of file names", quoted(file));
    }
    Ok(names)
}

fn names(bytes: &[u8]) -> Vec<PathBuf> {
    let separator = if bytes.contains(&0) { 0 } else { b'\n' };
    bytes
        .split(|&byte| byte == separator)
        .map(|name| if separator == 0 { name } else { name.strip_suffix(b"\r").unwrap_or(name) })
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(OsString::from_vec(name.to_vec())))
        .collect()
}

impl Target {
    /// An image that was named as an argument. What is wrong with its name is reported where it is
    /// checked, so that others are not stopped by it.
    pub fn of_argument(name: &ImageName, named: anyhow::Result<Named>) -> Self {
        match named {
            Ok(Named { path, format, key, .. }) => Self { key, ..Self::listed(path, format) },
            Err(error) => {
                let text = name.text().to_str();
                let path = text.map_or_else(|| name.text().into(), |t| redacted(t).as_ref().into());
                let problem = Some(fault::line(&error));
                Self { problem, ..Self::listed(path, None) }
            }
        }
    }

    /// An image that a list names.
    pub fn listed(path: PathBuf, format: Option<ImageFormat>) -> Self {
        Self { path, format, key: Key::default(), problem: None, is_below: false }
    }
}

/// What makes two images one: the file, what it is read as, and where the names in it begin.
type Identity = (PathBuf, Option<ImageFormat>, Option<PathBuf>);

fn identity(target: &Target, format: Option<ImageFormat>) -> Identity {
    let full = |path: &Path| remote::opener().identity(path);
    let folder = target.path.parent().map(|folder| match folder.as_os_str().is_empty() {
        true => full(Path::new(".")),
        false => full(folder),
    });
    let folder = folder.filter(|_| format == Some(ImageFormat::Qcow2));
    (full(&target.path), format, folder)
}

/// The images and those below them, each once.
pub fn with_chains(images: Vec<Target>, share: bool) -> Vec<Target> {
    let mut seen: HashMap<Identity, usize> = HashMap::new();
    let mut all: Vec<Target> = Vec::new();
    let files = remote::opener();
    for image in images {
        let mut walk = Walk::new(&files, Some(&image.path));
        let mut next = Some(image);
        while let Some(target) = next.take() {
            let image = match target.problem {
                None => open::open(&target.path, target.format, Intent::ReadMetadata, share).ok(),
                Some(_) => None,
            };
            let identity = identity(&target, image.as_ref().map(|image| image.format));
            if let Some(&before) = seen.get(&identity) {
                // Its own backing files were followed with it.
                all[before].is_below &= target.is_below;
                break;
            }
            seen.insert(identity, all.len());
            let below = image.map(|image| below(&mut walk, &target, &image, share));
            all.push(target);
            match below.unwrap_or(Ok(None)) {
                Ok(target) => next = target,
                Err(last) => all.push(*last),
            }
        }
    }
    all
}

/// The backing file of an image; none also where the image cannot be read, which its check reports.
/// An error where the chain has no end.
fn below(
    walk: &mut Walk<'_>,
    image: &Target,
    opened: &ImageFile,
    share: bool,
) -> Result<Option<Target>, Box<Target>> {
    if opened.format != ImageFormat::Qcow2 {
        return Ok(None);
    }
    let Ok(area) = HeaderArea::load(&opened.storage) else { return Ok(None) };
    let name = area.backing_name.as_deref().map(String::from_utf8_lossy);
    let target = |path, format| Target { is_below: true, ..Target::listed(path, format) };
    let refused = |error| {
        let of = quoted(&image.path);
        let hints = fault::record_hint(&error) + &fault::remote_hint(&error);
        let why = fault::line(&error) + &hints;
        let problem = Some(format!("backing file of {of}: {why}"));
        let path = name.as_deref().unwrap_or("?");
        Target { problem, ..target(path.into(), None) }
    };
    match walk.next(&area, &image.path) {
        Ok(None) => Ok(None),
        Ok(Some(link)) => Ok(Some(match open::format_below(&link, share) {
            Ok(format) => {
                let key = image.key.renamed(link.key_secret);
                Target { key, ..target(link.path, Some(format)) }
            }
            Err(error) => refused(error),
        })),
        Err(stop @ (Stop::Loop(_) | Stop::TooLong(_))) => {
            let problem = Some(format!("{}: {stop}", quoted(stop.path())));
            Err(Box::new(Target { problem, ..target(stop.path().to_owned(), None) }))
        }
        Err(stop) => Ok(Some(refused(stop.into()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lines_or_end_with_a_zero_byte() {
        assert_eq!(names(b"a b\n\r\nc\r\nd"), ["a b", "c", "d"].map(PathBuf::from));
        assert_eq!(names(b"a\nb\0c\0"), ["a\nb", "c"].map(PathBuf::from));
        assert!(names(b"").is_empty());
    }
}
