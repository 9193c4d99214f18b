//! What is printed of an image.

use std::path::Path;

use qcheck::format::luks::LuksHeader;
use qcheck::info::Qcow2Info;
use qcheck::remote::is_remote;

/// One image: a qcow2 image, a raw one or a LUKS image.
pub struct ImageInfo {
    /// Its name, as given or as the image above it names it.
    pub filename: String,
    /// qcow2, raw or luks.
    pub format: &'static str,
    /// "file", "host_device", or the protocol of a remote one.
    pub protocol: &'static str,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes that it takes on its file system, where that is known.
    pub disk_bytes: Option<u64>,
    /// In what pieces the file system allocates the file, in bytes, where that is set.
    pub extent_size_hint: Option<u32>,
    /// Bytes of the disk.
    pub virtual_bytes: u64,
    /// The metadata of a qcow2 image.
    pub qcow2: Option<Qcow2Info>,
    /// The header of a LUKS image.
    pub luks: Option<LuksHeader>,
}

impl ImageInfo {
    /// Whether its guest data is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.luks.is_some() || self.qcow2.as_ref().is_some_and(|qcow2| qcow2.encryption.is_some())
    }

    /// Whether a server has it.
    pub fn is_remote(&self) -> bool {
        is_remote(Path::new(&self.filename))
    }

    /// Where the backing file is, seen from the current folder.
    pub fn full_backing_name(&self) -> Option<String> {
        let name = self.qcow2.as_ref()?.backing_name.as_deref()?;
        if name.starts_with("file:") || name.starts_with("json:") {
            return Some(name.to_owned());
        }
        if is_remote(Path::new(name)) {
            return Some(name.to_owned());
        }
        let folder = Path::new(&self.filename).parent()?;
        Some(folder.join(name).to_string_lossy().into_owned())
    }
}
