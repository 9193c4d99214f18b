//! Opens an image for `info --metadata` and `info --layout`, and goes through it once.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qcheck::ImageFormat;
use qcheck::check::{CheckOptions, survey};
use qcheck::file::Intent;
use qcheck::layout::{self, Field};
use qcheck::medium::Medium;

use crate::cli::args::file_name::quoted;
use crate::cli::args::format::QCOW2_ONLY;
use crate::cli::files::open;
use crate::cli::render::inspected::Inspected;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::ui::Ui;

/// An image of which the header may be all that can be read.
pub struct Begun {
    path: PathBuf,
    storage: Medium,
    /// The fields of its header.
    pub fields: Vec<Field>,
}

/// Opens an image.
pub fn open(path: &Path, format: Option<ImageFormat>, force_share: bool) -> Result<Begun> {
    let image = open::open(path, format, Intent::ReadMetadata, force_share)?;
    if image.format != ImageFormat::Qcow2 {
        let name = image.format.name();
        bail!("{}: an image of the format {name} has no metadata: {QCOW2_ONLY}", quoted(path));
    }
    let fields = layout::fields(&image.storage).with_context(|| quoted(path).to_string())?;
    Ok(Begun { path: path.to_owned(), storage: image.storage, fields })
}

impl Begun {
    /// Goes through all of it.
    pub fn inspect(self, ui: &Ui) -> Result<Inspected> {
        let context = || quoted(&self.path).to_string();
        let meter = Meter::new(ui.name(), false, false, ui.err.is_terminal());
        let survey =
            survey(&self.storage, &CheckOptions::default(), &meter).with_context(context)?;
        let disk_bytes = self.storage.disk_usage().with_context(context)?;
        Ok(Inspected { path: self.path, storage: self.storage, disk_bytes, survey })
    }
}
