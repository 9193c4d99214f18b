//! What the disk of an image contains, as far as it can be read.

use std::path::Path;
use std::sync::Arc;

use qcheck::contents::Contents;
use qcheck::crypt::Key;
use qcheck::disk::Disk;
use qcheck::file::Intent;
use qcheck::image::{FileOpener, Image, OpenOptions, RawImage};
use qcheck::{Error, ImageFormat};

use super::{open, remote};
use crate::cli::args::file_name::quoted;
use crate::cli::terminal::fault;

/// Partitions and file systems of an image's disk, through its backing chain. An image that is
/// damaged may have none that can be read, which is not an error of whoever checks it.
pub fn of(path: &Path, format: Option<ImageFormat>, share: bool, key: &Key) -> Option<Contents> {
    match disk(path, format, share, key) {
        Ok(disk) => Some(Contents::of(&disk)),
        Err(error) => {
            log::info!("{}: contents not known: {}", quoted(path), fault::line(&error));
            None
        }
    }
}

fn disk(path: &Path, format: Option<ImageFormat>, share: bool, key: &Key) -> anyhow::Result<Disk> {
    let file = open::open(path, format, Intent::ReadData, share)?;
    let name = Some(path.to_owned());
    match file.format {
        ImageFormat::Qcow2 => {
            let options = OpenOptions::default().path(name).key(key.clone()).strict(true);
            let opener = FileOpener { force_share: share, ..remote::opener() };
            let image = Image::open_read(Arc::new(file.storage), &options, &opener)?;
            Ok(Disk::Qcow2(Box::new(image)))
        }
        ImageFormat::Raw => Ok(Disk::Raw(RawImage::new(Arc::new(file.storage), name))),
        ImageFormat::Other(name) => {
            Err(Error::Unsupported(format!("the format {name} is not supported")).into())
        }
    }
}
