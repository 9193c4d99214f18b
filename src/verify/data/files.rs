//! The files that an image names: whether they exist in the recorded format.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chain::{self, Format, Opener, Stop, Walk};
use crate::check::{Finding, Kind, Place};
use crate::error::Error;
use crate::format::drivers::is_driver;
use crate::format::extension::DATA_FILE;
use crate::format::feature::autoclear;
use crate::format::header::HeaderField;
use crate::format::probe::ImageFormat;
use crate::remote::without_secrets;
use crate::storage::ReadAt;
use crate::tables::{HeaderArea, announced_format};
use crate::verify::Files;

/// An image's external data file.
pub(super) enum DataFile {
    /// There is none: data is in the image.
    None,
    /// It is there.
    Open {
        /// The file.
        file: Arc<dyn ReadAt>,
        /// Its length.
        bytes: u64,
    },
    /// It could not, or should not, be opened.
    Closed,
}

/// The result of looking at a named file.
type Seen<T> = std::result::Result<T, Problem>;

/// Something wrong with a named file.
struct Problem {
    text: String,
    unseen: bool,
}

impl Problem {
    fn wrong(text: impl Into<String>) -> Self {
        Self { text: text.into(), unseen: false }
    }

    fn unseen(text: impl Into<String>) -> Self {
        Self { text: text.into(), unseen: true }
    }

    /// A file that is not there is wrong; one that cannot be opened may be right.
    fn of(error: &Error) -> Self {
        let missing = matches!(error, Error::Open { source, .. } if is_missing(source.kind()));
        Self { text: error.to_string(), unseen: !missing }
    }
}

fn is_missing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput)
}

/// Looks at the external data file.
pub(super) fn data_file(
    area: &HeaderArea,
    files: &Files<'_>,
    found: &mut Vec<Finding>,
) -> DataFile {
    if !area.header.has_data_file() {
        return DataFile::None;
    }
    let extension = area.whole_extension(DATA_FILE);
    let offset = extension.map_or(HeaderField::Incompatible.place().0, |e| e.offset);
    let mut tell = |kind| found.push(Finding::new(kind, Place::Header(offset)));
    let Some(opener) = files.data_file else {
        tell(Kind::NotOpened("the external data file"));
        return DataFile::Closed;
    };
    match open_data_file(area, files.path, opener) {
        Ok((file, bytes, problem)) => {
            if let Some(problem) = problem {
                tell(Kind::DataFile { problem, unseen: false });
            }
            DataFile::Open { file, bytes }
        }
        Err(Problem { text: problem, unseen }) => {
            tell(Kind::DataFile { problem, unseen });
            DataFile::Closed
        }
    }
}

/// Opens the external data file of an image; also returns whether it is too short.
fn open_data_file(
    area: &HeaderArea,
    image: &Path,
    opener: &dyn Opener,
) -> Seen<(Arc<dyn ReadAt>, u64, Option<String>)> {
    let path = chain::data_file(area, Some(image)).map_err(|e| Problem::unseen(e.to_string()))?;
    let path = path.ok_or_else(|| Problem::wrong("the image does not name it"))?;
    let file = opener.open_data_file(&path).map_err(|e| Problem::of(&e))?;
    let bytes = file.len().map_err(|e| Problem::unseen(e.to_string()))?;
    let disk = area.geometry.virtual_size();
    let raw = area.header.autoclear & autoclear::DATA_FILE_RAW != 0;
    let short = raw && bytes.next_multiple_of(512) < disk;
    let problem = short.then(|| {
        format!(
            "'{}' has {bytes} bytes where the disk has {disk}",
            without_secrets(&path).display()
        )
    });
    Ok((file, bytes, problem))
}

/// Looks at every image below.
pub(super) fn backing(area: &HeaderArea, files: &Files<'_>, found: &mut Vec<Finding>) {
    let named = area.backing_name.as_deref().is_some_and(|name| !name.is_empty());
    // The check reports a format that no QEMU has.
    let is_unknown = area.backing_format().is_some_and(|format| !is_driver(format));
    if !named || is_unknown {
        return;
    }
    let place = Place::Header(HeaderField::BackingNameOffset.place().0);
    let Some(opener) = files.backing else {
        found.push(Finding::new(Kind::NotOpened("the backing file"), place));
        return;
    };
    if let Err(problem) = follow(area, files, opener) {
        let (problem, unseen) = (problem.text, problem.unseen);
        found.push(Finding::new(Kind::BackingFile { problem, unseen }, place));
    }
}

/// Goes through the chain to its end, or to the first problem.
fn follow(area: &HeaderArea, files: &Files<'_>, opener: &dyn Opener) -> Seen<()> {
    let mut walk = Walk::new(opener, Some(files.path));
    let mut next = below(&mut walk, area, files.path)?;
    while let Some((path, area)) = next {
        if let (true, Some(opener)) = (area.header.has_data_file(), files.data_file) {
            let (_, _, short) = open_data_file(&area, &path, opener).map_err(|p| {
                named(p, &format!("data file of '{}'", without_secrets(&path).display()))
            })?;
            if let Some(short) = short {
                return Err(Problem::wrong(format!("data file {short}")));
            }
        }
        next = below(&mut walk, &area, &path)?;
    }
    Ok(())
}

fn named(problem: Problem, what: &str) -> Problem {
    Problem { text: format!("{what}: {}", problem.text), ..problem }
}

/// The backing file of an image and its header; `None` where the chain ends, or goes on to a raw
/// file.
fn below(
    walk: &mut Walk<'_>,
    area: &HeaderArea,
    above: &Path,
) -> Seen<Option<(PathBuf, HeaderArea)>> {
    let Some(link) = walk.next(area, above).map_err(stopped)? else { return Ok(None) };
    let of_this = |problem| named(problem, &format!("'{}'", without_secrets(&link.path).display()));
    let file = walk.opener().open_read(&link.path).map_err(|e| Problem::of(&e))?;
    match link.format(file.as_ref()).map_err(|stop| of_this(stopped(stop)))? {
        Format::Raw => Ok(None),
        format => {
            require_recorded(&format, file.as_ref()).map_err(of_this)?;
            match HeaderArea::load(file.as_ref()) {
                Ok(area) => Ok(Some((link.path, area))),
                Err(error @ Error::Io { .. }) => Err(of_this(Problem::unseen(error.to_string()))),
                Err(error) => Err(of_this(Problem::wrong(error.to_string()))),
            }
        }
    }
}

/// A problem unless the file is qcow2, and is recorded as that.
fn require_recorded(recorded: &Format, file: &dyn ReadAt) -> Seen<()> {
    let found = announced_format(file).map_err(|e| Problem::unseen(e.to_string()))?;
    let name = match (recorded, found) {
        (Format::Raw, _) | (Format::Qcow2, ImageFormat::Qcow2) => return Ok(()),
        (Format::Other(format), ImageFormat::Other(name)) if format == name => {
            return Err(Problem::unseen(format!("the format {name} is not supported")));
        }
        (Format::Qcow2, _) => "qcow2",
        (Format::Other(format), _) => format,
    };
    Err(Problem::wrong(format!("is not of the recorded format, '{}'", name.escape_debug())))
}

/// What a chain that is not followed further means for the image.
fn stopped(stop: Stop) -> Problem {
    match stop {
        Stop::Name(image, Error::Header { .. }) => Problem::wrong(format!(
            "its name in '{}' is out of range",
            without_secrets(&image).display()
        )),
        Stop::Name(_, error) | Stop::Unreadable(_, error) => Problem::unseen(error.to_string()),
        Stop::Unrecorded { .. } => Problem::wrong(stop.to_string()),
        Stop::Loop(_) | Stop::TooLong(_) => Problem::wrong(Error::from(stop).to_string()),
    }
}
