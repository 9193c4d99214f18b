//! The target of a conversion: made, or opened, and taken away again when it fails.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::chain::{Format, Link};
use qcheck::codec::Method;
use qcheck::convert::{
    self, Control, ConvertOptions, ConvertReport, Input, Outlet, SourceDisk, convert_to_stream,
};
use qcheck::create::{NewImage, Preallocation};
use qcheck::crypt::luks::NewHeader;
use qcheck::crypt::{Key, Volume};
use qcheck::file::Intent;
use qcheck::image::{Image, OpenOptions, Opener};
use qcheck::storage::{Access, Latch, Storage};

use crate::cli::args::cache::Cache;
use crate::cli::args::file_name::could_not_open;
use crate::cli::args::format::parse_format;
use crate::cli::args::image_name::Named;
use crate::cli::args::new_image;
use crate::cli::args::new_image::encryption::Given;
use crate::cli::args::options::Options;
use crate::cli::files::disks::{Opening, Sources};
use crate::cli::files::guard::{Allowed, Guard};
use crate::cli::files::new_file::{HowNew, NewFile};
use crate::cli::files::open;
use crate::cli::files::spool;
use crate::cli::files::writable;
use crate::cli::terminal::ui::Ui;

/// What is asked of a target.
pub struct Asked {
    format: ImageFormat,
    given: Options,
    cache: Cache,
    /// The secret of the target, and those of images below it.
    key: Key,
    backing: Option<Named>,
}

impl Asked {
    /// Whether such a target can be written as a stream while the source is read; if not, it is
    /// made in a file first.
    pub fn streams(&self, compress: bool) -> bool {
        let preallocated = self.given.text("preallocation").is_some_and(|mode| mode != "off");
        let special = self.given.text("data_file").is_some() || self.backing.is_some();
        let encrypted = self.format == ImageFormat::LUKS || self.given.has_prefix("encrypt.");
        !preallocated && !special && !compress && !encrypted
    }

    /// How hard it is tried to compress clusters, where that is requested.
    pub fn compression_level(&self, compress: bool) -> Result<Option<u8>> {
        let Some(level) = self.given.number("compression_level") else { return Ok(None) };
        if !compress {
            bail!("compression_level needs -c");
        }
        let method = match self.given.text("compression_type") {
            Some("zstd") => Method::Zstd,
            _ => Method::Zlib,
        };
        let levels = method.levels();
        let level = u8::try_from(level).ok().filter(|level| levels.contains(level));
        let wrong =
            || anyhow!("compression_level: valid are {} to {}", levels.start(), levels.end());
        Ok(Some(level.ok_or_else(wrong)?))
    }

    /// Whether the disk's size has to be known before its data.
    pub fn needs_size(&self) -> bool {
        !self.streams(false)
    }

    /// What a new qcow2 image is to be.
    pub fn new_image(&mut self, size: u64) -> Result<NewImage> {
        self.given.set_number("size", size);
        new_image::new_qcow2(&self.given, &self.key.secrets)
    }

    /// Writes such a target into a stream while its sources are read.
    pub fn write_into(
        mut self,
        mut sources: Sources,
        out: &mut File,
        options: &ConvertOptions,
        control: Control<'_>,
    ) -> Result<ConvertReport> {
        if !self.is_qcow2() {
            let input = sources.input();
            return Ok(convert_to_stream(input, Outlet::Raw, out, options, control)?);
        }
        let source = sources.into_disks()?;
        let new = self.new_image(source.bytes())?;
        let (input, outlet) = (Input::Disks(&source), Outlet::Qcow2(&new));
        Ok(convert_to_stream(input, outlet, out, options, control)?)
    }

    /// The secret of the target and those of other images.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The target's format.
    pub const fn format(&self) -> ImageFormat {
        self.format
    }

    /// Whether it is qcow2.
    pub fn is_qcow2(&self) -> bool {
        self.format == ImageFormat::Qcow2
    }

    /// A target of this format with these options.
    pub fn new(format: ImageFormat, given: Options, cache: Cache, key: Key) -> Result<Self> {
        // Where it is made its options name the secret.
        let key = match Given::of(&given, format)? {
            Some(encryption) if key.name.is_none() => encryption.key(&key.secrets),
            _ => key,
        };
        Ok(Self { format, given, cache, key, backing: None })
    }

    /// Brings `-B` and `-F` together with `-o`.
    pub fn set_backing(
        &mut self,
        name: Option<&str>,
        format: Option<&str>,
        target: &Path,
    ) -> Result<()> {
        if let Some(name) = name {
            self.given.set_text("backing_file", name);
        }
        if let Some(format) = format {
            self.given.set_text("backing_fmt", format);
        }
        let name = self.given.text("backing_file").filter(|name| !name.is_empty());
        let format = self.given.text("backing_fmt");
        let Some(name) = name else {
            if format.is_some() {
                bail!("Backing format cannot be used without backing file");
            }
            return Ok(());
        };
        let Some(format) = format else {
            bail!("Use of backing file requires explicit backing format: give it with -F");
        };
        // QEMU's name for a regular file's bytes as they are.
        let format = if format == "file" { "raw" } else { format };
        let link = Link::named(Some(target), name.as_bytes(), Some(Format::of_name(format)));
        let format = parse_format(format).map_err(|error| anyhow!("backing file: {error}"))?;
        let link = link?;
        link.require_plain()?;
        let key = self.key.renamed(link.key_secret);
        self.backing = Some(Named::file(link.path, Some(format), key));
        Ok(())
    }

    fn open_backing(&self, guard: &Guard) -> Result<Option<SourceDisk>> {
        let Some(image) = &self.backing else { return Ok(None) };
        let opening = Opening {
            snapshot: None,
            force_share: false,
            live: true,
            backing_format: None,
            cache: Cache::Writeback,
            guard,
        };
        Ok(Some(SourceDisk::new(vec![opening.open(image)?])?))
    }
}

/// A target that is open.
pub struct Target {
    kind: Kind,
    files: Vec<NewFile>,
}

enum Kind {
    New { new: Box<NewImage>, backing: Option<SourceDisk> },
    NewRaw(Preallocation),
    NewLuks(Box<NewHeader>, Preallocation),
    Raw { storage: Latch<Box<dyn Storage>>, is_zero: bool },
    Image { image: Box<Image>, is_zero: bool },
}

impl Target {
    /// Makes a target for a disk of `size` bytes.
    pub fn create(path: &Path, mut asked: Asked, size: u64, guard: &Guard) -> Result<Self> {
        asked.given.set_number("size", size);
        let how = HowNew::new(&asked.given, asked.cache)?;
        let data = asked.given.text("data_file").map(PathBuf::from);
        let backing = asked.open_backing(guard).context("backing file")?;
        let allow = |role, path| match spool::is_stream(path) {
            true => Ok(None),
            false => guard.writes(role, path).map(Some),
        };
        let file = allow("the target", path)?;
        let data = data.as_deref().map(|data| allow("the data file", data)).transpose()?;
        let open = |file: &Option<Allowed<'_>>, access| match file {
            Some(file) => NewFile::open(file, access, how),
            None => NewFile::nameless(),
        };
        if asked.format == ImageFormat::Raw {
            let preallocation = new_image::preallocation(&asked.given)?;
            return Ok(Self {
                kind: Kind::NewRaw(preallocation),
                files: vec![open(&file, Access::WriteData)?],
            });
        }
        if let ImageFormat::LUKS = asked.format {
            let preallocation = new_image::luks_preallocation(&asked.given)?;
            let encryption = Given::of(&asked.given, asked.format)?.context("LUKS has options")?;
            let header = Box::new(encryption.header(&asked.key.secrets)?);
            return Ok(Self {
                kind: Kind::NewLuks(header, preallocation),
                files: vec![open(&file, Access::Write)?],
            });
        }
        let new = Box::new(new_image::new_qcow2(&asked.given, &asked.key.secrets)?);
        let kind = Kind::New { new, backing };
        let mut target = Self { kind, files: vec![open(&file, Access::Write)?] };
        match data.as_ref().map(|data| open(data, Access::WriteData)).transpose() {
            Ok(data) => target.files.extend(data),
            Err(error) => {
                target.give_up();
                return Err(error.context("data file"));
            }
        }
        Ok(target)
    }

    /// Opens an existing target.
    pub fn open(
        path: &Path,
        asked: Asked,
        is_zero: bool,
        opener: &dyn Opener,
        ui: &mut Ui,
    ) -> Result<Self> {
        let mut opened = open::open(path, Some(asked.format), Intent::WriteData, false)?;
        open::apply_cache(asked.cache, &mut opened.storage, path)?;
        let kind = match asked.format {
            ImageFormat::Qcow2 => {
                let options = OpenOptions::default().key(asked.key);
                let image = writable::open_qcow2(opened.storage, path, options, opener, ui)?;
                Kind::Image { image: Box::new(image), is_zero }
            }
            ImageFormat::LUKS => {
                let volume = Volume::open(opened.storage, &asked.key);
                let volume = volume.with_context(|| could_not_open(path))?;
                Kind::Raw { storage: Latch::new(Box::new(volume)), is_zero }
            }
            _ => Kind::Raw { storage: Latch::new(Box::new(opened.storage)), is_zero },
        };
        Ok(Self { kind, files: Vec::new() })
    }

    /// Copies the source into the target.
    pub fn convert(
        &self,
        input: Input<'_>,
        options: &ConvertOptions,
        control: Control<'_>,
    ) -> Result<ConvertReport> {
        let storage =
            |n: usize| self.files.get(n).map(|file| file.storage.clone() as Arc<dyn Storage>);
        let target = match &self.kind {
            Kind::New { new, backing } => convert::Target::New {
                new,
                storage: storage(0).context("the target is not open")?,
                backing: backing.as_ref(),
                data_file: storage(1),
            },
            Kind::NewRaw(preallocation) => convert::Target::NewRaw {
                storage: self.files[0].storage.as_ref(),
                preallocation: *preallocation,
            },
            Kind::NewLuks(header, preallocation) => convert::Target::NewLuks {
                storage: self.files[0].storage.as_ref(),
                header,
                preallocation: *preallocation,
            },
            Kind::Raw { storage, is_zero } => convert::Target::Raw { storage, is_zero: *is_zero },
            Kind::Image { image, is_zero } => convert::Target::Image { image, is_zero: *is_zero },
        };
        Ok(convert::convert(input, target, options, control)?)
    }

    /// Writes a target that was made in a file without a name.
    pub fn give_out(&self, out: &mut dyn Write) -> Result<()> {
        spool::give_out(self.files[0].storage.as_ref(), out)
    }

    /// Ends the use of a target that is whole.
    pub fn close(self) -> Result<()> {
        match self.kind {
            Kind::Image { image, .. } => Ok(image.close()?),
            _ => Ok(()),
        }
    }

    /// Takes away what was made; returns what is left, for the message after the target's name.
    pub fn give_up(self) -> &'static str {
        let mut left = match &self.kind {
            Kind::Raw { storage, .. } => storage.is_touched(),
            Kind::Image { image, .. } => image.is_changed(),
            Kind::New { .. } | Kind::NewRaw(_) | Kind::NewLuks(..) => false,
        };
        for file in self.files {
            left |= file.give_up();
        }
        if left { " (not complete)" } else { "" }
    }
}
