//! The images to check: those named, those in a list, and those below them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qcheck::error::Error;
use qcheck::format::extension::BACKING_FORMAT;
use qcheck::format::probe::ImageFormat;
use qcheck::image::backing::{MAX_DEPTH, is_raw_name, resolve};
use qcheck::storage::Access;
use qcheck::tables::HeaderArea;

use super::open::{self, parse_format, quoted};

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
    /// Why it cannot be checked, where that is known before it is opened.
    pub problem: Option<String>,
}

/// The names in a list, one a line; or each with a zero byte behind it, where there is one.
pub fn listed(file: &Path) -> Result<Vec<PathBuf>> {
    let mut bytes = Vec::new();
    let read = |source: &mut dyn Read, bytes: &mut Vec<u8>| {
        source.take(MOST_LIST_BYTES).read_to_end(bytes)
    };
    if file == Path::new("-") {
        read(&mut io::stdin().lock(), &mut bytes).context("could not read standard input")?;
    } else {
        let opened = fs::File::open(file).and_then(|mut list| read(&mut list, &mut bytes));
        opened.with_context(|| format!("could not open {}", quoted(file)))?;
    }
    let names = names(&bytes);
    let too_long = names.iter().any(|name| name.as_os_str().len() > MOST_NAME_BYTES);
    if too_long || bytes.len() as u64 == MOST_LIST_BYTES {
        bail!("{}: this is no list of file names", quoted(file));
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

/// The images of these names, as they come.
pub fn plain(paths: Vec<PathBuf>, format: Option<ImageFormat>) -> Vec<Target> {
    paths.into_iter().map(|path| Target { path, format, problem: None }).collect()
}

/// The images and those below them, each file once.
pub fn with_chains(images: Vec<Target>, access: Access) -> Vec<Target> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for image in images {
        let mut chain = HashSet::new();
        let mut next = Some(image);
        while let Some(target) = next.take() {
            let identity = fs::canonicalize(&target.path).unwrap_or_else(|_| target.path.clone());
            let name = quoted(&target.path).to_string();
            let problem = match (chain.insert(identity.clone()), chain.len() > MAX_DEPTH) {
                (false, _) => Some(format!("{name}: the backing chain comes back to it")),
                (true, true) => {
                    Some(format!("{name}: the chain is longer than {MAX_DEPTH} images"))
                }
                (true, false) => None,
            };
            if problem.is_some() {
                all.push(Target { problem, ..target });
                break;
            }
            if !seen.insert(identity) {
                // What lies below it was followed with it.
                break;
            }
            next = below(&target, access);
            all.push(target);
        }
    }
    all
}

/// The image below one; none also where the image cannot be read, of which its check tells.
fn below(image: &Target, access: Access) -> Option<Target> {
    if image.problem.is_some() {
        return None;
    }
    let opened = open::open(&image.path, image.format, access).ok()?;
    if opened.format != ImageFormat::Qcow2 {
        return None;
    }
    let area = HeaderArea::load(&opened.storage).ok()?;
    let name = area.backing_name.as_deref().filter(|name| !name.is_empty())?;
    let target = resolve(Some(&image.path), name).map_err(anyhow::Error::from).and_then(|path| {
        let format = recorded_format(&area, &path, access)?;
        Ok(Target { path, format, problem: None })
    });
    Some(target.unwrap_or_else(|error| Target {
        path: PathBuf::from(String::from_utf8_lossy(name).into_owned()),
        format: None,
        problem: Some(format!("backing file of {}: {error:#}", quoted(&image.path))),
    }))
}

/// The format that an image gives for the file below it; without one, raw or refused.
fn recorded_format(area: &HeaderArea, path: &Path, access: Access) -> Result<Option<ImageFormat>> {
    let recorded = area.extension(BACKING_FORMAT).map(String::from_utf8_lossy);
    match recorded.as_deref() {
        Some(name) if is_raw_name(name) => Ok(Some(ImageFormat::Raw)),
        Some(name) => parse_format(name).map(Some).map_err(anyhow::Error::msg),
        None => match open::open(path, None, access) {
            Ok(opened) if opened.format != ImageFormat::Raw => {
                bail!(Error::Refused("its format is not recorded, and that is not guessed".into()))
            }
            _ => Ok(Some(ImageFormat::Raw)),
        },
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
