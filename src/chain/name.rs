//! Names stored in an image: which file they mean.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::described::Described;
use crate::error::{Error, Result};
use crate::format::extension::DATA_FILE;
use crate::remote::{beside, is_remote};
use crate::tables::HeaderArea;

/// The file that a name in an image means: relative to the image's folder, unless it is a
/// description of a file or the name of a remote one.
pub fn resolve(image: Option<&Path>, name: &[u8]) -> Result<PathBuf> {
    let text = String::from_utf8_lossy(name);
    if name.is_empty() || name.contains(&0) {
        return Err(Error::Refused(format!("'{}' is not a file name", text.escape_debug())));
    }
    if let Some(described) = Described::of_name(name) {
        let path = described?.path;
        return match image.is_some_and(is_remote) && !is_remote(&path) {
            true => Err(of_this_machine(&path.to_string_lossy())),
            false => Ok(path),
        };
    }
    let path = Path::new(OsStr::from_bytes(name));
    if is_remote(path) {
        return Ok(path.to_owned());
    }
    let local = name.strip_prefix(b"file:");
    if image.is_some_and(is_remote) && (local.is_some() || path.is_absolute()) {
        return Err(of_this_machine(&text));
    }
    if local.is_none() && is_protocol(name) {
        return Err(Error::Unsupported(format!("'{text}' does not name a local file")));
    }
    let path = Path::new(OsStr::from_bytes(local.unwrap_or(name)));
    // As QEMU writes a file whose name looks like one of a protocol.
    if local.is_some_and(is_protocol) {
        return Ok(Path::new(".").join(path));
    }
    match image.filter(|_| local.is_none() && !path.is_absolute()) {
        Some(image) if is_remote(image) => beside(image, &text).ok_or_else(|| {
            Error::Refused(format!("'{text}' is relative to an image that is not in a folder"))
        }),
        Some(image) => {
            Ok(image.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path)))
        }
        None => Ok(path.to_owned()),
    }
}

/// Whoever makes an image on a server does not choose what is read of this machine.
fn of_this_machine(name: &str) -> Error {
    Error::Refused(format!("'{name}' is a file of this machine, named by an image on a server"))
}

/// Whether a colon stands in the first part of a path, where QEMU sees the name of a protocol.
fn is_protocol(name: &[u8]) -> bool {
    let colon = name.iter().position(|&b| b == b':');
    colon.is_some_and(|colon| !name[..colon].contains(&b'/'))
}

/// The external data file that the image at `image` names; `None` where it names none. Unlike a
/// backing file's, QEMU takes this name from the current folder.
pub fn data_file(area: &HeaderArea, image: Option<&Path>) -> Result<Option<PathBuf>> {
    let path = area.extension(DATA_FILE).map(|name| resolve(None, name)).transpose()?;
    match path {
        Some(path) if image.is_some_and(is_remote) && !is_remote(&path) => {
            Err(of_this_machine(&path.to_string_lossy()))
        }
        path => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_folder_of_the_image() {
        let of = |name: &str| resolve(Some(Path::new("/vm/disks/top.qcow2")), name.as_bytes());
        assert_eq!(of("base.raw").unwrap(), Path::new("/vm/disks/base.raw"));
        assert_eq!(of("/base.raw").unwrap(), Path::new("/base.raw"));
        assert_eq!(of("file:base.raw").unwrap(), Path::new("base.raw"));
        assert_eq!(of("file:odd:name").unwrap(), Path::new("./odd:name"));
        assert_eq!(of("./odd:name").unwrap(), Path::new("/vm/disks/./odd:name"));
        assert!(of("ssh://host/x").is_err());
        assert!(of("json:{}").is_err());
        assert_eq!(of(r#"json:{"file.filename":"base"}"#).unwrap(), Path::new("base"));
    }
}
