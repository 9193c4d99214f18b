//! A backing file as an image names it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::described::{Described, Instead};
use super::format::Format;
use super::name::resolve;
use super::opener::Opener;
use super::stop::Stop;
use crate::error::{Error, Result};
use crate::format::header::HeaderField;
use crate::format::probe::ImageFormat;
use crate::remote::without_secrets;
use crate::storage::ReadAt;
use crate::tables::{HeaderArea, announced_format};

/// A backing file as an image names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The file.
    pub path: PathBuf,
    /// The name of the secret that opens its encryption, where the name of the file has one.
    pub key_secret: Option<String>,
    /// What the name of the file has in place of what is in the file.
    pub instead: Instead,
    recorded: Option<Format>,
}

impl Link {
    /// A file and its format; an empty format is one that is not known.
    pub fn new(path: PathBuf, format: &str) -> Self {
        let recorded = (!format.is_empty()).then(|| Format::of_name(format));
        Self { path, key_secret: None, instead: Instead::default(), recorded }
    }

    /// A file that is described by options.
    pub fn described(described: Described, recorded: Option<Format>) -> Result<Self> {
        let recorded = described.format_or_given(recorded)?;
        let Described { path, key_secret, instead, .. } = described;
        Ok(Self { path, key_secret, instead, recorded })
    }

    /// The backing file of the image at `image`, if it names one.
    pub fn of(area: &HeaderArea, image: Option<&Path>) -> Result<Option<Self>> {
        if area.header.backing_name_offset == 0 {
            return Ok(None);
        }
        let offset = HeaderField::BackingNameOffset.place().0;
        let message = "the backing file's name is out of range".to_owned();
        let name = area.backing_name.as_ref().ok_or(Error::Header { offset, message })?;
        if name.is_empty() {
            return Ok(None);
        }
        let recorded = area.backing_format().map(|name| String::from_utf8_lossy(name).into_owned());
        let recorded = recorded.as_deref().map(Format::of_name);
        Self::named(image, name, recorded).map(Some)
    }

    /// A file by the name that the image at `image` has for it, and its format where one is
    /// recorded.
    pub fn named(image: Option<&Path>, name: &[u8], recorded: Option<Format>) -> Result<Self> {
        let path = resolve(image, name)?;
        match Described::of_name(name) {
            None => Ok(Self { path, key_secret: None, instead: Instead::default(), recorded }),
            Some(described) => Self::described(described?, recorded),
        }
    }

    /// The same file, in this format where none is recorded.
    pub fn or_format(self, format: &str) -> Self {
        let recorded = self.recorded.or_else(|| Some(Format::of_name(format)));
        Self { recorded, ..self }
    }

    /// An error where the name of the file has something in place of what is in the file: the file
    /// alone is not what is meant.
    pub fn require_plain(&self) -> Result<()> {
        match self.instead.option() {
            None => Ok(()),
            Some(option) => Err(Error::Unsupported(format!(
                "'{}' is described with the option '{option}', which only reading an image takes",
                without_secrets(&self.path).display()
            ))),
        }
    }

    /// The format that is recorded.
    pub fn recorded(&self) -> Option<Format> {
        self.recorded.clone()
    }

    /// Whether it is read as a raw disk, or not at all.
    pub fn is_raw(&self) -> bool {
        matches!(self.recorded, None | Some(Format::Raw))
    }

    /// Opens the file, as what it is recorded to be.
    pub fn open(&self, opener: &dyn Opener) -> Result<Arc<dyn ReadAt>> {
        match self.is_raw() {
            true => opener.open_raw(&self.path),
            false => opener.open_read(&self.path),
        }
    }

    /// The format in which `source`, the file, is read. One that is not recorded is raw, and never
    /// guessed: whoever writes to a raw disk could otherwise make it an image that names any file
    /// of the host.
    pub fn format(&self, source: &dyn ReadAt) -> std::result::Result<Format, Stop> {
        if let Some(format) = self.recorded() {
            return Ok(format);
        }
        let path = self.path.clone();
        match announced_format(source) {
            Ok(ImageFormat::Raw) => Ok(Format::Raw),
            Ok(ImageFormat::Qcow2) => Err(Stop::Unrecorded { path, looks_like: "qcow2" }),
            Ok(ImageFormat::Other(looks_like)) => Err(Stop::Unrecorded { path, looks_like }),
            Err(error) => Err(Stop::Unreadable(path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn a_format_that_is_not_recorded_is_raw_or_refused() {
        let link = |format: &str| Link::new("base".into(), format);
        let raw = MemoryStorage::new(vec![0; 512]);
        let qcow2 = MemoryStorage::new(b"QFI\xfb\0\0\0\x03".to_vec());
        assert_eq!(link("").format(&raw).unwrap(), Format::Raw);
        let refused = link("").format(&qcow2).unwrap_err();
        assert!(matches!(refused, Stop::Unrecorded { looks_like: "qcow2", .. }), "{refused}");
        for name in ["raw", "file", "host_device"] {
            assert_eq!(link(name).format(&qcow2).unwrap(), Format::Raw);
        }
        assert_eq!(link("").or_format("qcow2").format(&qcow2).unwrap(), Format::Qcow2);
        assert_eq!(link("raw").or_format("qcow2").format(&qcow2).unwrap(), Format::Raw);
        assert_eq!(link("vmdk").format(&raw).unwrap(), Format::Other("vmdk".into()));
    }
}
