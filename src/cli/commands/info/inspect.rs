//! What `info --metadata` and `info --map` look at: an image that was gone through once.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qcheck::check::{CheckOptions, Survey, survey};
use qcheck::format::probe::ImageFormat;
use qcheck::layout::{self, Field, Layout};
use qcheck::storage::{FileStorage, ReadAt};

use crate::cli::files::open::{self, Purpose, QCOW2_ONLY, format_name, quoted};
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::ui::Ui;

/// An image and what a check found in it.
pub struct Inspected {
    /// Its name, as given.
    pub path: PathBuf,
    /// Its bytes.
    pub storage: FileStorage,
    /// Bytes that it takes on its file system.
    pub disk_bytes: u64,
    /// What was found.
    pub survey: Survey,
}

/// An image whose header may be all that can be told of it.
pub struct Begun {
    path: PathBuf,
    storage: FileStorage,
    /// The fields of its header.
    pub fields: Vec<Field>,
}

/// Opens an image.
pub fn open(path: &Path, format: Option<ImageFormat>, force_share: bool) -> Result<Begun> {
    let image = open::open(path, format, Purpose::ReadMetadata, force_share)?;
    if image.format != ImageFormat::Qcow2 {
        let name = format_name(image.format);
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

impl Inspected {
    /// What its clusters are for.
    pub fn layout(&self) -> Layout<'_> {
        Layout::new(&self.storage as &dyn ReadAt, &self.survey)
    }

    /// Which disk an L1 table is of, in words: nothing for the active one.
    pub fn snapshot(&self, index: u32) -> String {
        let name = usize::try_from(index).ok().and_then(|i| self.survey.report.snapshots.get(i));
        name.map_or_else(|| index.to_string(), |name| format!("{} '{}'", name.id, name.name))
    }
}
