//! Disks that a command reads: opened, locked, and entered where they must not be written over.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use qcheck::chain::Format;
use qcheck::convert::{Input, SourceDisk};
use qcheck::disk::Disk;
use qcheck::file::{ImageFile, Intent};
use qcheck::format::probe::{ImageFormat, PROBE_BYTES, probe};
use qcheck::image::{BackingPolicy, FileOpener, Image, OpenOptions, RawImage};
use qcheck::medium::Medium;
use qcheck::storage::{FileStorage, MemoryStorage, is_null_device};

use crate::cli::args::cache::Cache;
use crate::cli::args::file_name::could_not_open;
use crate::cli::args::format::BOTH;
use crate::cli::args::image_name::Named;
use crate::cli::args::snapshot::Choice;
use crate::cli::files::guard::Guard;
use crate::cli::files::open;
use crate::cli::files::remote;
use crate::cli::files::spool;

/// How sources are opened.
pub struct Opening<'a> {
    /// Which snapshot is read.
    pub snapshot: Option<&'a Choice>,
    /// Others may be writing them.
    pub force_share: bool,
    /// Others may be writing those that are raw disks.
    pub live: bool,
    /// The format of backing files for which an image records none.
    pub backing_format: Option<&'a str>,
    /// How they are read.
    pub cache: Cache,
    /// Where they are entered, so that none of them is written over.
    pub guard: &'a Guard,
}

/// What there is to convert.
pub enum Sources {
    /// Disks.
    Disks(SourceDisk),
    /// A raw disk from standard input, after its first bytes.
    Stream(Box<dyn Read + Send>),
}

impl Sources {
    /// The disk's size in bytes, where it is known.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Self::Disks(source) => Some(source.bytes()),
            Self::Stream(_) => None,
        }
    }

    /// What the library converts.
    pub fn input(&mut self) -> Input<'_> {
        match self {
            Self::Disks(source) => Input::Disks(source),
            Self::Stream(stream) => Input::Stream(stream),
        }
    }

    /// Disks only: a stream is kept in a file first.
    pub fn into_disks(self) -> Result<SourceDisk> {
        match self {
            Self::Disks(source) => Ok(source),
            Self::Stream(stream) => {
                let storage = spool::take_in(stream)?;
                Ok(SourceDisk::new(vec![Disk::raw(Arc::new(storage))])?)
            }
        }
    }
}

impl Opening<'_> {
    /// Opens all sources, one of which may be standard input.
    pub fn open_all(&self, images: &[Named]) -> Result<Sources> {
        if let [image] = images {
            if spool::is_stream(&image.path) {
                return self.stream(image);
            }
        }
        let open = |image: &Named| match spool::is_stream(&image.path) {
            true => match self.stream(image)? {
                Sources::Stream(stream) => Ok(Disk::raw(Arc::new(spool::take_in(stream)?))),
                Sources::Disks(_) => {
                    bail!("a stream can be one of several sources only if it is a raw disk")
                }
            },
            false => self.open(image),
        };
        Ok(Sources::Disks(SourceDisk::new(images.iter().map(open).collect::<Result<_>>()?)?))
    }

    /// A stream: a file that was redirected, or a pipe. A qcow2 image in a pipe is kept in a file,
    /// since it is not read in its order.
    fn stream(&self, image: &Named) -> Result<Sources> {
        let mut file = spool::input(&image.path)?;
        self.guard.enters_open(&file, "the source", &image.path);
        let path = Path::new("");
        let disks = |disk: Disk| Ok(Sources::Disks(SourceDisk::new(vec![disk])?));
        if spool::is_seekable(&file) {
            let storage = FileStorage::from_file(file)?;
            let file = ImageFile::of(storage, image.format)?;
            return disks(self.disk(file.storage, file.format, path, image)?);
        }
        let mut head = vec![0; PROBE_BYTES];
        let mut read = 0;
        while read < head.len() {
            match file.read(&mut head[read..])? {
                0 => break,
                n => read += n,
            }
        }
        head.truncate(read);
        let format = image.format.unwrap_or_else(|| probe(&head));
        let stream = io::Cursor::new(head).chain(file);
        match format {
            ImageFormat::Raw if self.snapshot.is_none() && image.instead.part.is_none() => {
                Ok(Sources::Stream(Box::new(stream)))
            }
            format => disks(self.disk(spool::take_in(stream)?.into(), format, path, image)?),
        }
    }

    /// Opens a source whose data is read.
    pub fn open(&self, image: &Named) -> Result<Disk> {
        let disk = self.open_metadata(image)?;
        disk.require_key().with_context(|| could_not_open(&image.path))?;
        Ok(disk)
    }

    /// Opens a source of which only metadata is read, so that an encrypted one needs no secret.
    pub fn open_metadata(&self, image: &Named) -> Result<Disk> {
        let path = &image.path;
        let is_raw = image.format.is_none_or(|format| format == ImageFormat::Raw);
        if is_raw && is_null_device(path) && self.snapshot.is_none() {
            return Ok(Disk::raw(Arc::new(MemoryStorage::new(Vec::new()))));
        }
        let intent = if self.live { Intent::ReadLive } else { Intent::ReadData };
        let mut opened = open::open(path, image.format, intent, self.force_share)?;
        self.guard.enters(&opened.storage, "the source", path);
        if self.cache.is_direct() {
            open::bypass_cache(&mut opened.storage, path, false)?;
        }
        let disk = self.disk(opened.storage, opened.format, path, image);
        disk.with_context(|| could_not_open(path))
    }

    fn disk(
        &self,
        storage: Medium,
        format: ImageFormat,
        path: &Path,
        image: &Named,
    ) -> Result<Disk> {
        image.instead.require_for(&Format::of_name(format.name()))?;
        match format {
            ImageFormat::Raw | ImageFormat::LUKS if self.snapshot.is_some() => {
                bail!("Failed to load snapshot: a raw image has no snapshots")
            }
            ImageFormat::Raw => {
                let (path, part) = (Some(path.to_owned()), image.instead.part);
                Ok(Disk::Raw(RawImage::part(Arc::new(storage), path, part)?))
            }
            ImageFormat::Qcow2 => self.qcow2(storage, path, image),
            ImageFormat::LUKS => {
                let path = Some(path.to_owned());
                Ok(Disk::Raw(RawImage::luks(Arc::new(storage), path, &image.key)?))
            }
            ImageFormat::Other(name) => {
                bail!("cannot read the format {name}: {BOTH}")
            }
        }
    }

    fn qcow2(&self, storage: Medium, path: &Path, image: &Named) -> Result<Disk> {
        let storage: Arc<Medium> = Arc::new(storage);
        let opener = self.guard.opener(FileOpener {
            force_share: self.force_share,
            live: self.live,
            ..remote::opener()
        });
        let backing = match self.backing_format {
            Some(format) => BackingPolicy::AsNamedOr(format.to_owned()),
            None => BackingPolicy::AsNamed,
        };
        let path = Some(path.to_owned());
        let strict = true;
        let mut options = OpenOptions::default().path(path).backing(backing).strict(strict);
        if let Some(choice) = self.snapshot {
            let below = BackingPolicy::Leave;
            let plain = options.clone().backing(below);
            let image = Image::open_read(storage.clone(), &plain, &opener)?;
            options.snapshot = Some(choice.find(image.snapshots()?)?);
        }
        options.key = image.key.clone();
        let options = options.with(image.instead.clone());
        Ok(Disk::Qcow2(Box::new(Image::open_read(storage, &options, &opener)?)))
    }
}
